"""Whatever a restricted session asks, two worlds that differ only in what is hidden from it answer alike."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sluice_dev.worlds.command import CORPUS, corpus_fixture
from sluice_dev.worlds.fuzz import Fuzzer
from sluice_dev.worlds.judging import Outcome
from sluice_dev.worlds.mutations import Mutations
from sluice_dev.worlds.statement import Statement, simple
from sluice_dev.worlds.statements import Statements

SEED = 20261123
STATEMENTS = 400
SECONDS = 15.0

pytestmark = pytest.mark.skipif(not CORPUS.exists(), reason="the corpora's schema is not there")


@pytest.fixture(scope="module")
def fuzzer() -> Iterator[Fuzzer]:
    with contextlib.ExitStack() as stack:
        yield Fuzzer(corpus_fixture(), stack)


def drawn(fuzzer: Fuzzer) -> Iterator[Statement]:
    grammar = Statements(fuzzer.schema(), SEED)
    mutations = Mutations(CORPUS, grammar, SEED)
    while True:
        yield mutations.draw() if grammar.rng.random() < 0.25 else grammar.draw()


def test_random_statements_are_answered_alike(fuzzer: Fuzzer) -> None:
    result = fuzzer.run(itertools.islice(drawn(fuzzer), STATEMENTS), seconds=SECONDS)
    told = "\n".join([*result.lines(), *(str(one) for one in result.leaks)])
    assert not result.leaks, told
    # What is refused shows nothing: the run says something only while most is answered.
    assert result.outcomes[Outcome.DENIED] < 0.45 * result.sent, told
    assert result.outcomes[Outcome.DONE] > 0.2 * result.sent, told


def test_lives_of_sessions_are_answered_alike(fuzzer: Fuzzer) -> None:
    grammar = Statements(fuzzer.schema(), SEED)
    lives = (grammar.life() for _ in range(60))
    sent = fuzzer.result.sent
    result = fuzzer.run(lives, seconds=SECONDS)
    assert not result.leaks, "\n".join(str(one) for one in result.leaks)
    assert result.sent > sent + 20


@pytest.mark.parametrize(
    "sql", yaml.safe_load((Path(__file__).parent / "differences.yaml").read_text("utf-8"))
)
def test_difference_once_found_is_gone(fuzzer: Fuzzer, sql: list[str]) -> None:
    found = fuzzer.one(simple(*sql, origin="regressions"))
    assert found is None or found.what in {"open", "unstable", "keys"}, found


def test_without_sluice_the_same_statements_tell_the_worlds_apart() -> None:
    with contextlib.ExitStack() as stack:
        fuzzer = Fuzzer(corpus_fixture(), stack, direct=True)
        statements = itertools.islice(drawn(fuzzer), STATEMENTS)
        for tried, statement in enumerate(statements, 1):
            if (found := fuzzer.one(statement)) is not None and found.what == "difference":
                assert tried < STATEMENTS / 4
                return
    pytest.fail("no statement told the worlds apart")
