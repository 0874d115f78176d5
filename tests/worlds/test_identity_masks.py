"""Under masks that return the raw value, clients see what they see without Sluice."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sluice_dev.worlds.command import CORPUS, drawn_from, raw_fixture
from sluice_dev.worlds.identity import Comparison, Pair, policies, recorded
from sluice_dev.worlds.judging import Outcome
from sluice_dev.worlds.statement import simple
from sluice_dev.worlds.twins import Fixture

HERE = Path(__file__).parent
needs_corpora = pytest.mark.skipif(not CORPUS.exists(), reason="the corpora are not there")


def _written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    raw = raw_fixture(tmp_path_factory.mktemp("policies"))
    with contextlib.ExitStack() as stack:
        yield Pair(raw, stack)


@needs_corpora
@pytest.mark.timeout(400)
def test_benign_corpus_is_answered_as_without_sluice(pair: Pair) -> None:
    seen = Comparison()
    for statement in recorded(CORPUS, major=pair.plain.server.installation.major):
        pair.compare(statement, seen)
    assert not seen.unlike, seen.unlike
    assert seen.outcomes[Outcome.DONE] > 0.9 * seen.outcomes.total(), seen.denied


@needs_corpora
def test_random_statements_are_answered_as_without_sluice(pair: Pair) -> None:
    seen = Comparison()
    for statement in itertools.islice(drawn_from(pair.plain, CORPUS, 20261123), 250):
        pair.compare(statement, seen)
    assert not seen.unlike, seen.unlike


def test_warehouse_and_bank_are_answered_as_without_sluice(tmp_path: Path) -> None:
    shapes = HERE / "shapes"
    classification = (shapes / "classification.yaml").read_text()
    files = policies(
        classification,
        dbname="shapes",
        namespace="shapes",
        role="shapes_reader",
        exempt=["public.revenue"],
    )
    fixture = Fixture(
        shapes / "schema.sql", _written(tmp_path, dict(files)), "shapes", "shapes", "shapes_reader"
    )
    seen = Comparison()
    queries = yaml.safe_load((shapes / "queries.yaml").read_text())
    with contextlib.ExitStack() as stack:
        pair = Pair(fixture, stack)
        for texts in queries:
            pair.compare(simple(*texts), seen)
    assert (seen.unlike, seen.denied) == ([], [])
    assert seen.outcomes == {Outcome.DONE: len(queries)}
