"""The folder as a source of bundles."""

from __future__ import annotations

import asyncio
import json
import tarfile
from io import BytesIO
from pathlib import Path

from sluice_cli import standalone
from sluice_cli.policies import load
from sluice_cli.standalone import DirectorySource
from sluice_policy import Profile

WHO = Profile("shop", "desk", {})
CLASSIFICATION = """\
apiVersion: sluice.dev/v1alpha1
kind: DataClassification
metadata: {name: shop, namespace: shop}
spec:
  database: {hosts: [pg.shop.svc], name: shop}
  columns: [{table: public.users, column: email, class: pii.email}]
"""


def source(directory: Path, age: int = 3600) -> DirectorySource:
    (directory / "c.yaml").write_text(CLASSIFICATION)
    made = DirectorySource(directory, WHO, max_policy_age_s=age, on_loaded=lambda _: None)
    made.take(load(directory, WHO))
    return made


def sequence_and_revision(raw: bytes) -> tuple[int, str]:
    with tarfile.open(fileobj=BytesIO(raw)) as tar:
        member = next(one for one in tar if one.name.endswith(".manifest"))
        manifest = json.load(tar.extractfile(member))
    return manifest["metadata"]["sequence"], manifest["revision"]


async def test_first_bundle_comes_at_once_above_what_was_seen(tmp_path):
    assert sequence_and_revision(await source(tmp_path).next(41))[0] == 42


async def test_unchanged_folder_is_signed_again_before_its_age_is_over(tmp_path):
    made = source(tmp_path, age=1)
    first = sequence_and_revision(await made.next(None))
    async with asyncio.timeout(2):
        second = sequence_and_revision(await made.next(first[0]))
    assert second == (first[0] + 1, first[1])


async def test_compiler_that_raises_does_not_end_the_watching(tmp_path, monkeypatch):
    made = source(tmp_path)
    first = sequence_and_revision(await made.next(None))
    calls = []

    def broken(*_arguments):
        calls.append(1)
        raise ZeroDivisionError

    monkeypatch.setattr(standalone, "load", broken)
    watching = asyncio.create_task(made.watch())
    try:
        await asyncio.sleep(0.3)
        (tmp_path / "c.yaml").write_text(CLASSIFICATION + "\n")
        async with asyncio.timeout(5):
            while not calls:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        monkeypatch.undo()
        (tmp_path / "c.yaml").write_text(CLASSIFICATION.replace("email, class", "mail, class"))
        async with asyncio.timeout(5):
            second = sequence_and_revision(await made.next(first[0]))
        assert second[1] != first[1]
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
