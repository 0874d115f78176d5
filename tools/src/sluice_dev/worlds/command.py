"""Command line of the twin-worlds fuzzer."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from sluice_dev.cache import ROOT
from sluice_dev.postgres import find
from sluice_dev.worlds import records, sqlsmith
from sluice_dev.worlds.fuzz import Fuzzer, read_schema
from sluice_dev.worlds.identity import Comparison, Pair, policies
from sluice_dev.worlds.mutations import Mutations
from sluice_dev.worlds.statement import Statement
from sluice_dev.worlds.statements import Statements
from sluice_dev.worlds.twins import Fixture, World

PROGRESS_EVERY = 2_000
CORPUS = ROOT.parent / "shared" / "corpus"
"""Where the corpora are found when nobody says otherwise."""


def corpus_fixture(shared: Path = CORPUS) -> Fixture:
    """Return the corpora's database under the policies that the corpora run with."""
    return Fixture(
        schema=shared / "schema.sql",
        policies=ROOT / "tests/corpus/policies",
        dbname="leaks",
        namespace="corpus",
        role="lk_analyst",
        # The role comes without a password here, and so does the foreign table's session.
        after_create="ALTER USER MAPPING FOR lk_analyst SERVER loopback OPTIONS (ADD password_required 'false')",
        # Hidden rows drew from it: what it hands out next tells of them, with any database (docs/threat-model.md).
        after_reset="SELECT setval(pg_get_serial_sequence('public.orders', 'id'), 1000)",
        unread=("public.v_contact_export",),
        without=("{table: public.v_contact_export, exempt: true}",),
    )


def raw_fixture(folder: Path, shared: Path = CORPUS) -> Fixture:
    """Return the same database under policies whose masks return the raw value; they are written into ``folder``."""
    fixture = corpus_fixture(shared)
    files = policies(
        (fixture.policies / "classification.yaml").read_text(),
        dbname=fixture.dbname,
        namespace=fixture.namespace,
        role=fixture.role,
        computed=("public.compensation.ratio", "public.credit_lines.room"),
    )
    for name, text in files.items():
        (folder / name).write_text(text)
    return dataclasses.replace(fixture, policies=folder, unread=(), without=())


def main(arguments: list[str]) -> int:
    """Fuzz and print; 1 when a difference was found."""
    given = _parsed(arguments)
    seed = given.seed if given.seed is not None else random.randrange(1 << 32)  # noqa: S311
    print(f"fuzz: seed {seed}", flush=True)
    signal.signal(signal.SIGTERM, _interrupt)
    return _identity(given, seed) if given.identity else _fuzz(given, seed)


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--statements", type=int, default=20_000, help="that are not denied")
    parser.add_argument("--seconds", type=float, help="stop after so many")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--major", type=int, help="server version")
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument(
        "--direct", action="store_true", help="without Sluice: nearly everything differs"
    )
    parser.add_argument(
        "--log",
        type=Path,
        help="differences, and what was left open, are appended here; beside it .denied and .states",
    )
    parser.add_argument("--record", type=Path, help="the summary is written here as JSON")
    parser.add_argument(
        "--identity",
        action="store_true",
        help="under masks that return the raw value, compare with the answer without Sluice instead",
    )
    return parser.parse_args(arguments)


def _fuzz(given: argparse.Namespace, seed: int) -> int:
    chosen, load = find(contrib=True, major=given.major), os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        fuzzer = Fuzzer(
            corpus_fixture(given.corpus),
            stack,
            installation=chosen,
            direct=given.direct,
            log=given.log,
        )
        result = fuzzer.result
        wanted = itertools.takewhile(
            lambda _one: sum(result.origins.values()) < given.statements,
            _counted(drawn_from(fuzzer.worlds[0], given.corpus, seed, lives=0.06), fuzzer),
        )
        # Ended early, by Ctrl-C or a signal, it still says what it saw.
        with contextlib.suppress(KeyboardInterrupt):
            fuzzer.run(wanted, seconds=given.seconds)
        if given.record:
            server = str(fuzzer.worlds[0].admin.info.parameter_status("server_version"))
            made = records.document(result, seed=seed, server=server, load_before=load)
            records.write(given.record, made)
    if given.log:
        states = (f"{count} {what}" for what, count in result.sqlstates.most_common(400))
        given.log.with_suffix(".states").write_text("\n".join(states) + "\n")
        given.log.with_suffix(".denied").write_text("\n".join(result.denials.told()) + "\n")
    for line in result.lines():
        print(f"fuzz: {line}")
    for one in result.leaks:
        print(f"--- {one.what} ({one.statement.origin})")
        for sql in one.statement.sql:
            print(sql)
        print(f"    {one.told}")
    return 1 if result.leaks else 0


def _counted(drawn: Iterator[Statement], fuzzer: Fuzzer) -> Iterator[Statement]:
    """Yield all of them, and now and then say how far it is."""
    for number, statement in enumerate(drawn):
        if number and number % PROGRESS_EVERY == 0:
            done = sum(fuzzer.result.origins.values())
            leaks = len(fuzzer.result.leaks)
            print(f"fuzz: {number} sent, {done} not denied, {leaks} differences", flush=True)
        yield statement


def _identity(given: argparse.Namespace, seed: int) -> int:
    seen, begun = Comparison(), time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-raw-")))
        fixture = raw_fixture(folder, given.corpus)
        pair = Pair(fixture, stack, installation=find(contrib=True, major=given.major))
        statements = itertools.islice(drawn_from(pair.plain, given.corpus, seed), given.statements)
        with contextlib.suppress(KeyboardInterrupt):
            for statement in statements:
                pair.compare(statement, seen)
                if given.seconds is not None and time.monotonic() - begun > given.seconds:
                    break
        for line in seen.lines():
            print(line)
    return 1 if seen.unlike else 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def drawn_from(world: World, corpus: Path, seed: int, *, lives: float = 0.0) -> Iterator[Statement]:
    """Yield statements without end: most from the grammar, the rest from the corpora and from sqlsmith.

    ``lives`` is the share of whole lives of sessions.
    """
    grammar = Statements(read_schema(world), seed)
    mutations = Mutations(corpus, grammar, seed)
    smith: Iterator[Statement] = iter(())
    if sqlsmith.installed():
        dsn = world.server.dsn(user=world.fixture.role, dbname=world.fixture.dbname)
        smith = sqlsmith.drawn(dsn, seed, without=world.fixture.unread)
    while True:
        draw = grammar.rng.random()
        if grammar.rng.random() < lives:
            yield grammar.life()
        elif draw < 0.15 and (made := next(smith, None)) is not None:
            yield made
        elif draw < 0.4:
            yield mutations.draw()
        else:
            yield grammar.draw()
