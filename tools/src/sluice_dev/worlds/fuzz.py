"""Runs statements in both worlds and counts; a difference is asked again on fresh data before it counts."""

from __future__ import annotations

import collections
import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sluice_dev.postgres import Installation
from sluice_dev.worlds import denials, judging, schema
from sluice_dev.worlds.judging import Answer, Outcome
from sluice_dev.worlds.statement import Statement, simple
from sluice_dev.worlds.twins import Fixture, World, ask
from sluice_dev.worlds.wire import SilentError
from sluice_proxy.allowlists import for_major

RESET_AFTER = 400
"""Statements after which both worlds are brought back: what a rollback leaves behind stays small."""
_ON_CONFLICT = re.compile(r"\sON CONFLICT\b.*?(?=\sRETURNING\b|$)", re.IGNORECASE | re.DOTALL)
SETTLED_AFTER_S = 1.2
"""Sluice looks at the catalog once in a second."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A statement that both worlds answer differently."""

    statement: Statement
    what: str
    """``difference``: a leak; ``history``: one, only after the statements before; ``keys``: whether a key is taken,
    which the policy accepts; ``open``: SQL leaves it open, or what they wrote; ``unstable``: also twice in one
    world, or not again after the same statements."""
    told: str


@dataclass(slots=True)
class Result:
    """Counts of one run."""

    outcomes: collections.Counter[Outcome] = field(default_factory=collections.Counter[Outcome])
    origins: collections.Counter[str] = field(default_factory=collections.Counter[str])
    asked: collections.Counter[str] = field(default_factory=collections.Counter[str])
    denials: denials.Denials = field(default_factory=denials.Denials)
    sqlstates: collections.Counter[str] = field(default_factory=collections.Counter[str])
    late: int = 0
    """Not compared: one world ran into the statement timeout."""
    outdated: int = 0
    """Asked anew: one world refused a plan because the catalog had changed."""
    silent: int = 0
    found: list[Difference] = field(default_factory=list[Difference])
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        """Statements sent."""
        return sum(self.outcomes.values()) + self.silent

    @property
    def leaks(self) -> list[Difference]:
        """The differences that count."""
        return [one for one in self.found if one.what in {"difference", "history"}]

    def lines(self) -> Iterator[str]:
        """The summary, a line each."""
        kinds = collections.Counter(one.what for one in self.found)
        counts = ", ".join(f"{self.outcomes[one]} {one.value}" for one in Outcome)
        yield f"{self.sent} statements sent in {self.seconds:.0f} s: {counts}, {self.silent} silent"
        yield f"sent by origin: {dict(self.asked)}"
        yield f"not denied: {self.sent - self.outcomes[Outcome.DENIED]}, by origin {dict(self.origins)}"
        yield (
            f"asked again: {kinds['open']} left open by SQL, {kinds['unstable']} not the same twice in one world, "
            f"{kinds['keys']} told by keys (writeOracles.keys: accept), {self.outdated} after a change of the catalog; "
            f"{self.late} not compared, since one world timed out"
        )
        yield from self.denials.lines(self.sent)
        yield f"differences: {len(self.leaks)}"


class Fuzzer:
    """Both worlds, and the third when one is needed."""

    def __init__(
        self,
        fixture: Fixture,
        stack: contextlib.ExitStack,
        *,
        installation: Installation | None = None,
        direct: bool = False,
        log: Path | None = None,
    ) -> None:
        """Start both worlds; ``direct``: without Sluice, where most is different."""
        self.fixture, self.stack = fixture, stack
        self.installation, self.direct = installation, direct
        self.worlds = [self._world("A"), self._world("B")]
        self._shuffled: World | None = None
        self._plain: World | None = None
        self.log = log
        self.result = Result()
        self._since_reset: list[Statement] = []

    def _world(self, name: str, *, shuffled: bool = False) -> World:
        return World(
            self.fixture, name, self.stack,
            installation=self.installation, shuffled=shuffled, direct=self.direct,
        )  # fmt: skip

    def schema(self) -> schema.Schema:
        """Return what the grammar draws from."""
        return read_schema(self.worlds[0])

    def run(self, statements: Iterator[Statement], *, seconds: float | None = None) -> Result:
        """Ask all of them, or as many as the time allows."""
        begun = time.monotonic()
        try:
            for statement in statements:
                self.one(statement)
                if seconds is not None and time.monotonic() - begun > seconds:
                    break
        finally:
            self.result.seconds += time.monotonic() - begun
        return self.result

    def one(self, statement: Statement) -> Difference | None:
        """Ask one statement; return the difference, if there is one."""
        result = self.result
        if len(self._since_reset) >= RESET_AFTER:
            self.reset()
        self._since_reset.append(statement)
        try:
            left, right = ask(self.worlds, statement)
        except SilentError:
            result.silent += 1
            self._record(Difference(statement, "silent", ""))
            return None
        how = judging.outcome(left)
        result.outcomes[how] += 1
        result.asked[statement.origin] += 1
        if how == Outcome.DENIED:
            self._denied(statement, left)
        else:
            result.origins[statement.origin] += 1
        for error in judging.errors(left):
            result.sqlstates[f"{error.get('C', '')} {error.get('M', '')[:60]}"] += 1
        if _equal(left, right, statement):
            if statement.bare:
                self.reset()
            return None
        if judging.outdated(left) or judging.outdated(right):
            result.outdated += 1
            left, right = self._fresh(statement)
            if _equal(left, right, statement):
                return None
        if Outcome.LATE in (how, judging.outcome(right)):
            result.late += 1
            self.reset()
            return None
        return self._again(statement, left, right)

    def _denied(self, statement: Statement, answer: Answer) -> None:
        """Count a denial; PostgreSQL is asked what it would have said.

        Lives of sessions fail in one place or another; and some take a server down that has only itself to look after.
        """
        fails = statement.own or self._fails_plainly(statement)
        reason = judging.reason(answer)
        message = next((one.get("M", "") for one in judging.errors(answer) if "R" not in one), "")
        how = denials.kind(statement, message, reason, fails_plainly=fails)
        self.result.denials.add(statement, reason, how, message)

    def _fails_plainly(self, statement: Statement) -> bool:
        if self._plain is None:
            self._plain = World(
                self.fixture, "A", self.stack, installation=self.installation, direct=True
            )
        with contextlib.suppress(SilentError):
            return judging.outcome(ask([self._plain], statement)[0]) != Outcome.DONE
        return True

    def reset(self) -> None:
        """Bring all worlds back."""
        for world in (*self.worlds, *([self._plain] if self._plain else [])):
            world.reset()
        self._since_reset = []

    def _again(self, statement: Statement, left: Answer, right: Answer) -> Difference:
        """Tell a leak from what SQL leaves open, on fresh data."""
        first = self._fresh(statement)
        second = self._fresh(statement)
        told = judging.describe(left, right, ordered=statement.ordered)
        if not _equal(first[0], second[0], statement):
            what = "unstable"
        elif _equal(first[0], first[1], statement):
            what = self._replayed(statement)
            told += "\n    after " + json.dumps([one.sql for one in self._since_reset[:-1]])
        else:
            told = judging.describe(first[0], first[1], ordered=statement.ordered)
            if judging.told_by_keys(first[0], first[1], statement.sql) or self._taken(statement):
                what = "keys"
            else:
                what = "open" if self._open(statement, first) else "difference"
        found = Difference(statement, what, told)
        self.result.found.append(found)
        self._record(found)
        self.reset()
        return found

    def _replayed(self, statement: Statement) -> str:
        """Tell what the statements since the reset do to this one: what they wrote may be what SQL left open."""
        history = self._since_reset
        self.reset()
        if self._shuffled is None:
            self._shuffled = self._world("A", shuffled=True)
        self._shuffled.reset()
        worlds = [*self.worlds, self._shuffled]
        for one in history[:-1]:
            with contextlib.suppress(SilentError):
                ask(worlds, one)
        left, right, shuffled = ask(worlds, statement)
        self._since_reset = history
        if _equal(left, right, statement):
            return "unstable"
        moved = judging.same_shape(left, shuffled) and not _equal(left, shuffled, statement)
        return "open" if moved and judging.same_shape(left, right) else "history"

    def _fresh(self, statement: Statement) -> list[Answer]:
        history = self._since_reset
        self.reset()
        self._since_reset = history
        answers: list[Answer] = []
        for _ in range(4):
            # The reset changed the catalog: a plan made before Sluice has seen that is refused when it is run.
            time.sleep(SETTLED_AFTER_S)
            answers = ask(self.worlds, statement)
            if not any(judging.outdated(one) for one in answers):
                break
        return answers

    def _taken(self, statement: Statement) -> bool:
        """Return whether keys tell, once the clause that catches their violation is left out."""
        texts = [_ON_CONFLICT.sub("", sql) for sql in statement.sql]
        if texts == list(statement.sql):
            return False
        left, right = ask(self.worlds, simple(*texts))
        return judging.told_by_keys(left, right, texts)

    def _open(self, statement: Statement, seen: list[Answer]) -> bool:
        if not judging.same_shape(*seen):
            return False
        if self._shuffled is None:
            self._shuffled = self._world("A", shuffled=True)
        self._shuffled.reset()
        other = ask([self._shuffled], statement)[0]
        return judging.same_shape(seen[0], other) and not _equal(seen[0], other, statement)

    def _record(self, found: Difference) -> None:
        if self.log is None:
            return
        with self.log.open("a") as file:
            file.write(f"--- {found.what} ({found.statement.origin})\n")
            for sql in found.statement.sql:
                file.write(f"{sql}\n")
            file.write(f"    {found.told}\n")


def _equal(left: Answer, right: Answer, statement: Statement) -> bool:
    return judging.normal(left, ordered=statement.ordered) == judging.normal(
        right, ordered=statement.ordered
    )


def read_schema(world: World) -> schema.Schema:
    """Return what a grammar may draw from: relations that the identity reads, functions that Sluice lets through."""
    allowed = for_major(world.server.installation.major)
    fixture = world.fixture
    return schema.read(
        world.admin,
        role=fixture.role,
        classification=(fixture.policies / "classification.yaml").read_text(),
        functions=sorted(
            name for name, kind in allowed.functions.items() if kind in {"values", "volatile"}
        ),
        catalog={name: allowed.relation_allowed(name) for name in allowed.relations},
        unread=fixture.unread,
    )
