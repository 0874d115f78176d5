"""``sluice audit show``: the executions of a spool, one a line."""

from __future__ import annotations

import argparse
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sluice_cli.audit_chain import Record, Segment, parse, segments
from sluice_cli.exits import Exit, UsageError

_TEMPLATE_CHARACTERS_MAX = 160


@dataclass(slots=True)
class Execution:
    """A ``begin`` and its ``end``."""

    begin: Record
    end: Record | None = None


def run(arguments: argparse.Namespace) -> int:
    """Carry out ``sluice audit show``."""
    last: int | None = arguments.last
    if last is not None and last < 1:
        raise UsageError("--last takes a number from 1")
    found = segments(arguments.directory)
    if not found:
        raise UsageError(f"{arguments.directory} has no segments of an audit spool")
    for execution in executions(found, last):
        print(line(execution))
    return Exit.OK


def executions(found: Iterable[Segment], last: int | None) -> Iterable[Execution]:
    """Return the executions of these segments as they began, all or the last ones."""
    kept: deque[Execution] = deque(maxlen=last)
    running: dict[tuple[str, int], Execution] = {}
    for segment in found:
        for record in _records(segment):
            kind = record.get("kind")
            if kind == "begin":
                execution = Execution(record)
                running[segment.incarnation, int(record.get("seq", 0))] = execution
                kept.append(execution)
            elif kind == "end":
                ended = running.pop((segment.incarnation, int(record.get("event", 0))), None)
                if ended is not None:
                    ended.end = record
    return kept


def line(execution: Execution) -> str:
    """Return an execution as a line: time, role, verdict, rows, time taken, tables with masks, template, reasons."""
    begin, end = execution.begin, execution.end
    facts = _mapping(begin.get("statement"))
    verdict = _text(begin.get("verdict") or facts.get("verdict") or "?")
    parts = [
        _text(begin.get("at"))[:23].replace("T", " "),
        _text(_mapping(begin.get("identity")).get("role") or "?"),
        verdict,
        _outcome(end, verdict),
        ", ".join(_tables(facts)) or "-",
        _template(begin.get("template") or facts.get("kind") or ""),
    ]
    reasons = [_reason(reason) for reason in _sequence(facts.get("reasons"))]
    if reasons and verdict != "allow":
        parts.append(f"({'; '.join(reasons)})")
    return "  ".join(_printable(part) for part in parts if part)


def _records(segment: Segment) -> Iterator[Record]:
    with segment.path.open("rb") as file:
        for raw in file:
            record = parse(raw.removesuffix(b"\n"))
            if record is not None:
                yield record


def _outcome(end: Record | None, verdict: str) -> str:
    if end is None:
        return "no end"
    if end.get("denied") or verdict == "deny":
        return f"not run {_text(end.get('sqlstate'))}"
    if sqlstate := end.get("sqlstate"):
        return f"error {_text(sqlstate)}"
    rows, taken = int(end.get("rows", 0)), int(end.get("duration_us", 0))
    return f"{rows} {'row' if rows == 1 else 'rows'} {taken / 1000:.1f} ms"


def _tables(facts: Record) -> list[str]:
    """Names of the tables, each with its masked columns."""
    masks = facts.get("masks")
    by_table: dict[str, list[str]] = {}
    for mask in _sequence(masks):
        entry = _mapping(mask)
        column, kind = entry.get("column"), entry.get("mask") or entry.get("kind")
        if column is not None:
            name = _text(column) if kind is None else f"{_text(column)}: {_text(kind)}"
            by_table.setdefault(_text(entry.get("table") or ""), []).append(name)
    named: list[str] = []
    for table in _sequence(facts.get("tables")):
        entry = _mapping(table)
        name = _text(entry.get("name") or entry.get("table") or "?") if entry else _text(table)
        masked = by_table.pop(name, [])
        if entry:
            own = _mapping(entry.get("masks"))
            masked += [f"{_text(column)}: {_text(mask)}" for column, mask in own.items()]
        named.append(f"{name} [{', '.join(masked)}]" if masked else name)
    named += [f"[{', '.join(masked)}]" for masked in by_table.values()]
    return named


def _template(text: object) -> str:
    one_line = re.sub(r"\s+", " ", _text(text))
    if len(one_line) > _TEMPLATE_CHARACTERS_MAX:
        return one_line[: _TEMPLATE_CHARACTERS_MAX - 1] + "…"
    return one_line


def _reason(reason: object) -> str:
    entry = _mapping(reason)
    if not entry:
        return _text(reason)
    named = [entry.get("policy"), entry.get("rule"), entry.get("message") or entry.get("reason")]
    return " ".join(_text(part) for part in named if part)


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _sequence(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _printable(text: str) -> str:
    """Keep what a client put into a statement from steering the terminal."""
    return "".join(
        character if character.isprintable() else f"\\u{ord(character):04x}" for character in text
    )
