"""The other direction: under masks that return the raw value, Sluice changes nothing that a client sees.

One server is asked plainly, one through Sluice; both hold the same data. What is compared is what clients go by: rows,
names and types of columns, command tags, SQLSTATEs. The origin of a masked column (table and number) is lost by design,
texts of errors lose values, and so do the catalog's definitions: of what reads the catalog, only columns and numbers of
rows are compared.
"""

from __future__ import annotations

import collections
import contextlib
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sluice_dev.postgres import Installation
from sluice_dev.worlds import judging
from sluice_dev.worlds.judging import Answer, Outcome
from sluice_dev.worlds.mutations import STEERS
from sluice_dev.worlds.statement import Statement
from sluice_dev.worlds.twins import Fixture, World, ask
from sluice_dev.worlds.wire import SilentError, Step, error_fields, extended, query

_COLUMN = struct.Struct("!IhIhih")
_RECORD = 2249
RESET_AFTER = 400


def _columns(body: bytes) -> Iterator[tuple[str, int, int, int, int, int, int]]:
    """Yield name, table, number, type, size, modifier and format of each column of a RowDescription."""
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        end = body.index(b"\0", at)
        yield (body[at:end].decode(), *_COLUMN.unpack_from(body, end + 1))
        at = end + 1 + _COLUMN.size


def described(body: bytes, rows: frozenset[int] = frozenset()) -> bytes:
    """Return a RowDescription without the columns' origin: names, types, type modifiers and formats.

    Args:
        body: The message.
        rows: Types of whole rows, which through Sluice may have no type of their own: they count as record.
    """
    return "\n".join(
        f"{name} {_RECORD if oid in rows else oid} {size} {modifier} {form}"
        for name, _table, _number, oid, size, modifier, form in _columns(body)
    ).encode()


def _row_types(answer: Answer) -> frozenset[int]:
    return frozenset(
        oid
        for step in answer
        for kind, body in step
        if kind == "T"
        for _name, table, number, oid, *_rest in _columns(body)
        if table and not number
    )


_UNCOMMITTED = re.compile(r"\bTABLE (?!pg_)\w+\.\w+ (AS|\()")
"""A table that is not temporary, made in the transaction still open: Sluice reads the catalog in another session and
does not see it before the end; until then there is no such relation (docs/reference/policy-semantics.md)."""
_COUNTERS = re.compile(r"\bpg_stat")
"""Views whose counters are NULL through Sluice, so that what raises over a counter does not."""
_CATALOG = re.compile(r"\bpg_(?!temp)|\binformation_schema\b")


def seen(
    answer: Answer, statement: Statement, rows: frozenset[int] = frozenset()
) -> list[tuple[str, bytes]]:
    """Return what a client goes by."""
    made: list[tuple[str, bytes]] = []
    catalog = any(_CATALOG.search(sql) for sql in statement.sql)
    for kind, body in judging.normal(answer, ordered=statement.ordered):
        if kind == "T":
            made.append((kind, described(body, rows)))
        elif kind == "E":
            made.append((kind, error_fields(body).get("C", "").encode()))
        elif kind not in "NS":
            made.append((kind, b"" if catalog and kind in "Dd" else body))
    return made


@dataclass(slots=True)
class Comparison:
    """Counts, and what was not the same."""

    outcomes: collections.Counter[Outcome] = field(default_factory=collections.Counter[Outcome])
    denied: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """First statement and reason of what Sluice refused though PostgreSQL answered."""
    unlike: list[tuple[Statement, str]] = field(default_factory=list[tuple[Statement, str]])

    def lines(self) -> Iterator[str]:
        """The summary, a line each; then what was not the same."""
        told = ", ".join(f"{self.outcomes[one]} {one.value}" for one in Outcome)
        yield f"identity masks: {self.outcomes.total()} statements: {told}"
        yield f"denied though PostgreSQL answers: {len(self.denied)}, the commonest reasons:"
        for reason, count in collections.Counter(why for _sql, why in self.denied).most_common(10):
            yield f"  {count:6} {reason}"
        yield f"not as without Sluice: {len(self.unlike)}"
        for statement, what in self.unlike:
            yield f"--- ({statement.origin})"
            yield from statement.sql
            yield f"    {what}"


class Pair:
    """A server asked plainly, and one through Sluice under ``fixture``'s policies."""

    def __init__(
        self,
        fixture: Fixture,
        stack: contextlib.ExitStack,
        *,
        installation: Installation | None = None,
    ) -> None:
        """Start both."""
        self.fixture, self.stack, self.installation = fixture, stack, installation
        self.plain = World(fixture, "A", stack, installation=installation, direct=True)
        self.through = World(fixture, "A", stack, installation=installation)
        self._shuffled: World | None = None
        self._asked = 0

    def compare(self, statement: Statement, into: Comparison) -> None:
        """Ask both and note how they answered."""
        self._asked += 1
        if self._asked % RESET_AFTER == 0:
            self._reset()  # What a rollback leaves behind stays small.
        try:
            left, right = ask([self.plain, self.through], statement)
        except SilentError:
            into.unlike.append((statement, "silent"))
            return
        finally:
            if statement.bare:
                self._reset()
        how = judging.outcome(right)
        into.outcomes[how] += 1
        if how == Outcome.DENIED:
            if judging.outcome(left) == Outcome.DONE:
                into.denied.append((statement.sql[0], judging.reason(right)))
            return
        plainly = judging.outcome(left)
        if how == Outcome.FAILED and any(_UNCOMMITTED.search(sql) for sql in statement.sql):
            return
        if Outcome.LATE in (how, plainly):
            return
        if plainly == Outcome.FAILED and any(_COUNTERS.search(sql) for sql in statement.sql):
            return
        if plainly == Outcome.FAILED and (how == Outcome.FAILED or _misspelt(left)):
            return  # Which of two errors comes first is open, and a name twice in FROM is told apart.
        if not _alike(left, right, statement) and not self._open(statement):
            told = judging.describe(left, right, ordered=statement.ordered)
            into.unlike.append((statement, told))

    def _reset(self) -> None:
        self.plain.reset()
        self.through.reset()

    def _open(self, statement: Statement) -> bool:
        """Return whether it was chance, or SQL leaves the answer open: another plan answers otherwise, too."""
        self._reset()
        left, right = ask([self.plain, self.through], statement)
        if _alike(left, right, statement):
            return True
        if self._shuffled is None:
            self._shuffled = World(
                self.fixture, "A", self.stack,
                installation=self.installation, shuffled=True, direct=True,
            )  # fmt: skip
        self._shuffled.reset()
        self.plain.reset()
        again, other = ask([self.plain, self._shuffled], statement)
        return not _alike(left, again, statement) or not _alike(left, other, statement)


def _misspelt(answer: Answer) -> bool:
    return any(one.get("C", "").startswith("42") for one in judging.errors(answer))


def _alike(left: Answer, right: Answer, statement: Statement) -> bool:
    rows = _row_types(left)
    return seen(left, statement, rows) == seen(right, statement, rows)


def policies(
    classification: str,
    *,
    dbname: str,
    namespace: str,
    role: str,
    computed: Sequence[str] = (),
    exempt: Sequence[str] = (),
) -> Mapping[str, str]:
    """Return policy files under which every mask returns the raw value, for a role that may do all.

    Args:
        classification: A DataClassification as YAML.
        dbname: The database it describes.
        namespace: Of policy and workload.
        role: The identity.
        computed: ``schema.table.column`` that is computed from classified ones: named here, it gets the mask too.
        exempt: Views whose rows classified columns decide: nobody may read them before a policy names them.
    """
    described = yaml.safe_load(classification)
    described["spec"]["columns"] += [
        {"table": name.rpartition(".")[0], "column": name.rpartition(".")[2], "class": "pii.other"}
        for name in computed
    ]
    policy: dict[str, Any] = {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "DatabaseAccessPolicy",
        "metadata": {"name": "everything-raw", "namespace": namespace},
        "spec": {
            "mode": "enforce",
            "databases": {"names": [dbname]},
            "subjects": [{"role": {"names": [role]}}],
            "rules": [{"name": "everything", "effect": "allow"}],
            "masks": [{"class": "*", "mask": {"expression": "value"}}],
            "writeOracles": {"keys": "accept", "rowValues": "accept"},
            **(
                {"rowFilters": [{"table": name, "exempt": True} for name in exempt]}
                if exempt
                else {}
            ),
        },
    }
    return {"classification.yaml": json.dumps(described), "raw.yaml": json.dumps(policy)}


def recorded(corpus: Path, *, major: int) -> Iterator[Statement]:
    """Yield the entries of the benign corpus as they were recorded."""
    for line in (corpus / "benign.jsonl").read_text().splitlines():
        entry: dict[str, Any] = json.loads(line) if line.strip() else {}
        if not entry or entry.get("min_pg", 0) > major:
            continue
        texts: tuple[str, ...] = tuple(entry["sql"])
        copied = tuple(str(piece).encode() for piece in entry.get("copy_data") or ())
        given: list[list[Any] | None] = entry.get("params") or []
        steps: list[Step] = []
        for n, sql in enumerate(texts):
            if entry["protocol"] != "extended":
                steps.append(Step(query(sql), 1, copied))
                continue
            values = (given[n] if n < len(given) else None) or []
            encoded = [None if one is None else str(one).encode() for one in values]
            form = int(entry.get("result_format", 0))
            steps.append(Step(extended(sql, encoded, result_format=form)))
        bare = any(STEERS.search(sql) for sql in texts)
        yield Statement(texts, tuple(steps), bare=bare, origin=str(entry["id"]))
