"""The chain of an audit spool (docs/reference/audit-spool.md)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from sluice_cli.exits import UsageError

Record = Mapping[str, Any]

_SEGMENT = re.compile(r"([0-9a-f]{32})-(\d{16})\.jsonl")
_LINE = re.compile(rb"([0-9a-f]{64}) (\{.*\})", re.DOTALL)
_KINDS: Final = frozenset({"open", "session", "begin", "end", "close"})


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of a spool."""

    path: Path
    incarnation: str
    first: int
    """Sequence number of its first record."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A place where the chain does not hold."""

    kind: str
    """"altered", "missing" or "reordered"."""
    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.kind}: {self.message}"


@dataclass(slots=True)
class Chain:
    """What was found of one incarnation."""

    incarnation: str
    head: str
    records: int = 0
    executions: int = 0
    closed: bool = False
    running: dict[int, None] = field(default_factory=dict[int, None])
    """Numbers of the ``begin`` records that have no ``end``."""
    torn: str | None = None
    """The segment whose last line is cut off."""
    after: Record | None = None
    """What its first record says about the incarnation before."""


@dataclass(slots=True)
class Report:
    """What was found in a spool."""

    chains: list[Chain] = field(default_factory=list[Chain])
    problems: list[Problem] = field(default_factory=list[Problem])
    notes: list[str] = field(default_factory=list[str])


def segments(directory: Path) -> list[Segment]:
    """Return the segments of a spool, by incarnation and number.

    Raises:
        UsageError: There is no such directory.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory")
    return [
        Segment(path, match[1], int(match[2]))
        for path in sorted(directory.iterdir())
        if (match := _SEGMENT.fullmatch(path.name))
    ]


def parse(line: bytes) -> Record | None:
    """Return the record of a line without its newline, None when it holds none."""
    match = _LINE.fullmatch(line)
    try:
        record: object = json.loads(match[2]) if match else None
    except ValueError:
        return None
    return cast("Record", record) if isinstance(record, dict) else None


def check(directory: Path, expect_head: str | None = None) -> Report:
    """Check every chain of a spool; see ``sluice_cli.audit.verify``."""
    found = segments(directory)
    if not found:
        raise UsageError(f"{directory} has no segments of an audit spool")
    report = Report()
    for path in sorted(directory.glob("*.jsonl")):
        if not _SEGMENT.fullmatch(path.name):
            report.problems.append(
                Problem("altered", path.name, None, "the name is not one of a segment")
            )
    incarnations: dict[str, list[Segment]] = {}
    for segment in found:
        incarnations.setdefault(segment.incarnation, []).append(segment)
    heads: dict[str, _Heads] = {}
    for incarnation, its_segments in incarnations.items():
        walk = _Walk(incarnation, its_segments)
        walk.run()
        report.chains.append(walk.chain)
        report.problems += walk.problems
        heads[incarnation] = walk.heads
    _check_links(report, heads, incarnations)
    if expect_head is not None:
        _check_expected(report, heads, expect_head)
    _add_notes(report)
    return report


def _check_links(
    report: Report, heads: dict[str, _Heads], incarnations: dict[str, list[Segment]]
) -> None:
    """Each incarnation names the last record of the one before: nothing up to there may be gone."""
    for chain in report.chains:
        if chain.after is None:
            continue
        place = incarnations[chain.incarnation][0].path.name
        other, sequence = str(chain.after.get("incarnation")), int(chain.after.get("seq", 0))
        known = heads.get(other)
        if known is None:
            message = f"incarnation {other} was there when this one began, and is gone"
        elif len(known) < sequence:
            message = (
                f"incarnation {other} had {sequence} records when this one began, "
                f"{len(known)} of them can be proved"
            )
        elif known.hex_of(sequence) != chain.after.get("head"):
            message = f"record {sequence} of incarnation {other} is not the one this one followed"
        else:
            continue
        if any(problem.file.startswith(other) for problem in report.problems):
            continue  # The break itself is named already.
        report.problems.append(Problem("missing", place, 1, message))


def _check_expected(report: Report, heads: dict[str, _Heads], expected: str) -> None:
    for incarnation, known in heads.items():
        sequence = known.sequence_of(expected)
        if sequence is None:
            continue
        if later := len(known) - sequence:
            report.notes.append(f"{later} records of {incarnation} follow the expected head")
        return
    last = report.chains[-1]
    message = f"no record has the expected head {expected}; the chain ends with {last.head}"
    report.problems.append(Problem("missing", last.incarnation, None, message))


def _add_notes(report: Report) -> None:
    for chain in report.chains:
        if chain.torn is not None:
            report.notes.append(
                f"{chain.torn}: the last line is cut off, as a crash leaves it; it was never part of the chain"
            )
        if chain.running:
            listed = ", ".join(str(number) for number in list(chain.running)[:10])
            more = "" if len(chain.running) <= 10 else f" and {len(chain.running) - 10} more"
            cause = "closed before they ended" if chain.closed else "running, or cut by a crash"
            report.notes.append(
                f"incarnation {chain.incarnation}: executions without an end ({cause}): begin {listed}{more}"
            )


class _Heads:
    """Hash of each record that a chain proves, in order: 32 bytes each, a spool may hold millions."""

    def __init__(self) -> None:
        self._digests = bytearray()

    def __len__(self) -> int:
        return len(self._digests) // 32

    def append(self, digest: bytes) -> None:
        self._digests += digest

    def hex_of(self, sequence: int) -> str:
        """Return the hash of record ``sequence``, from 1."""
        return self._digests[32 * sequence - 32 : 32 * sequence].hex()

    def sequence_of(self, head: str) -> int | None:
        """Return the number of the record with this hash."""
        digest, place = bytes.fromhex(head), self._digests.find(bytes.fromhex(head))
        while place >= 0 and place % 32:
            place = self._digests.find(digest, place + 1)
        return None if place < 0 else place // 32 + 1


class _BrokenError(Exception):
    """The chain of an incarnation cannot be followed any further."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Walk:
    """Follows one incarnation's chain to its end, or to where it breaks."""

    def __init__(self, incarnation: str, its_segments: list[Segment]) -> None:
        self._segments = its_segments
        self._head = hashlib.sha256(b"sluice-audit/1" + incarnation.encode()).digest()
        self.chain = Chain(incarnation, self._head.hex())
        self.heads = _Heads()
        self.problems: list[Problem] = []

    def run(self) -> None:
        """Fill ``chain``, ``heads`` and ``problems``."""
        try:
            for segment in self._segments:
                self._segment(segment)
        except _BrokenError as broken:
            self.problems.append(broken.problem)
        self.chain.head = self._head.hex()

    def _segment(self, segment: Segment) -> None:
        name, expected = segment.path.name, len(self.heads) + 1
        if segment.first > expected:
            raise _BrokenError(self._gap(name, None, segment.first))
        if segment.first < expected:
            raise _broken("reordered", name, None, f"a segment of record {expected} was expected")
        for number, line in _lines(segment.path):
            if line.endswith(b"\n"):
                self._line(name, number, line[:-1])
            else:
                self._torn(name, number, line)

    def _line(self, name: str, number: int, line: bytes) -> None:
        expected = len(self.heads) + 1
        match = _LINE.fullmatch(line)
        record = parse(line)
        if match is None or record is None:
            raise _broken("altered", name, number, f"record {expected} is not a record")
        head = hashlib.sha256(self._head + match[2]).digest()
        if head.hex().encode() != match[1]:
            raise _BrokenError(self._mismatch(name, number, record.get("seq")))
        self._head = head
        self.heads.append(head)
        self.chain.records += 1
        self._content(name, number, record)

    def _content(self, name: str, number: int, record: Record) -> None:
        """What a record that hangs in the chain says must fit its place as well."""
        sequence, kind = len(self.heads), record.get("kind")
        fits = record.get("v") == 1 and record.get("seq") == sequence and kind in _KINDS
        if not fits or (number == 1) != (kind == "open") or self.chain.closed:
            raise _broken("altered", name, number, f"record {sequence} does not fit its place")
        if kind == "open":
            before = self.heads.hex_of(sequence - 1) if sequence > 1 else self.chain.head
            if (record.get("incarnation"), record.get("head")) != (self.chain.incarnation, before):
                raise _broken("altered", name, number, f"record {sequence} opens another chain")
            after = record.get("after")
            if sequence == 1 and isinstance(after, dict):
                self.chain.after = cast("Record", after)
        elif kind == "begin":
            self.chain.executions += 1
            self.chain.running[sequence] = None
        elif kind == "end":
            self.chain.running.pop(record.get("event", 0), None)
        self.chain.closed = kind == "close"

    def _mismatch(self, name: str, number: int, sequence: object) -> Problem:
        expected = len(self.heads) + 1
        if not isinstance(sequence, int) or sequence == expected:
            message = f"record {expected} does not follow from the one before it by its hash"
            return Problem("altered", name, number, message)
        if sequence < expected:
            message = f"record {sequence} stands where record {expected} was expected"
            return Problem("reordered", name, number, message)
        return self._gap(name, number, sequence)

    def _gap(self, name: str, number: int | None, sequence: int) -> Problem:
        """Record ``sequence`` follows too early: those between are elsewhere, or gone."""
        expected = len(self.heads) + 1
        for segment in self._segments:
            for other, line in _lines(segment.path):
                record = parse(line.removesuffix(b"\n"))
                if record is not None and record.get("seq") == expected:
                    place = f"{segment.path.name}:{other}"
                    message = f"record {expected}, expected here, is at {place}"
                    return Problem("reordered", name, number, message)
        gone = (
            f"record {expected} is"
            if sequence == expected + 1
            else (f"records {expected} to {sequence - 1} are")
        )
        return Problem("missing", name, number, f"{gone} gone")

    def _torn(self, name: str, number: int, line: bytes) -> None:
        """A line without a newline was cut while it was written, unless it is no beginning of the next record."""
        expected = len(self.heads) + 1
        start = b'{"v":1,"seq":%d,' % expected
        digits, space, json_part = line[:64], line[64:65], line[65:]
        plausible = (
            re.fullmatch(rb"[0-9a-f]*", digits) is not None
            and space in {b"", b" "}
            and json_part[: len(start)] == start[: len(json_part)]
            and not self._holds_whole(line)
        )
        if not plausible:
            raise _broken("altered", name, number, f"record {expected} is not a record")
        self.chain.torn = name

    def _holds_whole(self, line: bytes) -> bool:
        """Whether the record is whole and something stands in place of its newline."""
        json_part = line[65:-1]
        if not json_part.endswith(b"}"):
            return False
        return hashlib.sha256(self._head + json_part).hexdigest().encode() == line[:64]


def _broken(kind: str, name: str, number: int | None, message: str) -> _BrokenError:
    return _BrokenError(Problem(kind, name, number, message))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        yield from enumerate(file, start=1)
