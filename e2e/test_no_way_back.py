"""THREATS 22 and 23: an older, an altered or an unsigned bundle never comes into force; the last good one stays."""

from __future__ import annotations

import base64
import copy
import gzip
import io
import json
import tarfile
import time
from collections.abc import Generator

import pytest

from sluice_dev.kubectl import until
from sluice_dev.story import Document, Story

QUERY = "SELECT email FROM users WHERE id = 1"


def _stored(story: Story, system: str) -> Document:
    """The bundle of this story's profile as the bundle service reads it."""
    items = story.kubectl.get("-n", system, "configmap", "-l", "sluice.dev/kind=bundle")["items"]
    mine = [
        i
        for i in items
        if i["metadata"]["annotations"]["sluice.dev/profile"].startswith(f"{story.namespace}/")
    ]
    assert len(mine) == 1, [i["metadata"]["annotations"] for i in items]
    return mine[0]


def _replace(story: Story, system: str, stored: Document) -> None:
    document = copy.deepcopy(stored)
    document["metadata"] = {
        key: document["metadata"][key] for key in ("name", "namespace", "labels", "annotations")
    }
    story.kubectl.run("-n", system, "delete", "configmap", document["metadata"]["name"])
    story.kubectl("create", "-f", "-", stdin=json.dumps(document))


@pytest.fixture(scope="module")
def history(story: Story, system: str) -> Generator[tuple[Document, Document]]:
    """The bundle before and after a change that shows less; the controller is stopped, so that nobody mends it."""
    client = story.start(story.pod("desk"))
    until(lambda: "@" in client.execute(QUERY)[0][0], within_s=20)
    old = _stored(story, system)
    story.kubectl.apply(story.policy(masks=[{"class": "pii", "mask": "redact"}]))
    until(lambda: "@" not in client.execute(QUERY)[0][0], within_s=20)
    new = _stored(story, system)
    assert int(new["metadata"]["annotations"]["sluice.dev/sequence"]) > int(
        old["metadata"]["annotations"]["sluice.dev/sequence"]
    )
    story.kubectl("-n", system, "scale", "deployment/sluice-controller", "--replicas=0")
    selector = "app.kubernetes.io/component=controller"
    until(lambda: not story.kubectl.get("-n", system, "pods", "-l", selector)["items"], within_s=60)
    yield old, new
    _replace(story, system, new)
    story.kubectl("-n", system, "scale", "deployment/sluice-controller", "--replicas=2")
    story.kubectl.rollout(system, "deployment/sluice-controller")


def _stays(story: Story, seconds: float = 8) -> None:
    client = story.client("desk")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert "@" not in client.execute(QUERY)[0][0], "the older policy came back"
        client.disconnect()
        time.sleep(0.2)


def test_older_signed_bundle_is_not_taken_back(
    story: Story, system: str, history: tuple[Document, Document]
):
    _replace(story, system, history[0])
    # Replicas that know nothing of the newer one serve what they find; the sidecar knows better.
    story.kubectl("-n", system, "rollout", "restart", "deployment/sluice-bundles")
    story.kubectl.rollout(system, "deployment/sluice-bundles")
    _stays(story)


def _altered(stored: Document, *, unsigned: bool) -> Document:
    """The bundle with another mask, its old signature or none, under a higher number."""
    document = copy.deepcopy(stored)
    packed = base64.b64decode(document["binaryData"]["bundle.tar.gz"])
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as source,
        tarfile.open(fileobj=out, mode="w") as target,
    ):
        for member in source.getmembers():
            if unsigned and member.name.endswith(".signatures.json"):
                continue
            file = source.extractfile(member)
            content = (file.read() if file else b"").replace(b'"redact"', b'"none"')
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    document["binaryData"]["bundle.tar.gz"] = base64.b64encode(
        gzip.compress(out.getvalue())
    ).decode()
    notes = document["metadata"]["annotations"]
    notes["sluice.dev/sequence"] = str(int(notes["sluice.dev/sequence"]) + 1000)
    notes["sluice.dev/revision"] = "f" * 64
    return document


@pytest.mark.parametrize("unsigned", [False, True], ids=["altered", "unsigned"])
def test_forged_bundle_is_refused(
    story: Story, system: str, history: tuple[Document, Document], *, unsigned: bool
):
    _replace(story, system, _altered(history[1], unsigned=unsigned))
    _stays(story)
    assert story.restarts("desk") == 0
