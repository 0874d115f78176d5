"""Comparing what two worlds said: every byte, but for the order of rows where SQL leaves it open."""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence
from enum import StrEnum

from sluice_dev.worlds.wire import Message, error_fields

Answer = list[list[Message]]

_TIMED = re.compile(
    rb"actual time=[\d.]+|(?:Planning|Execution) Time: [\d.]+|Memory: \d+kB"
    # Of plans over catalogs: the dead space that rolled back DDL left there is cleared when there is time.
    rb"|cost=[\d.]+|(?<=\.\.)[\d.]+(?= rows=)|\"(?:Startup|Total) Cost\": [\d.]+"
    # Which slot of the server the session has.
    rb"|pg_(?:toast_)?temp_\d+"
    # The moment itself, which the two sessions read one after the other.
    rb"|20[2-9]\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d\.\d+|\b\d\d:\d\d:\d\d\.\d{1,6}"
)


class Outcome(StrEnum):
    """How one world answered."""

    DONE = "done"
    DENIED = "denied"
    FAILED = "failed"
    LATE = "timed out"
    CLOSED = "closed"


def normal(answer: Answer, *, ordered: bool) -> list[tuple[str, bytes]]:
    """Return the messages with runs of rows sorted, unless their order says something."""
    made: list[tuple[str, bytes]] = []
    for messages in answer:
        run: list[tuple[str, bytes]] = []
        for kind, body in messages:
            if kind in "Dd":
                run.append((kind, _untimed(body) if kind == "D" else _TIMED.sub(b"", body)))
                continue
            made += run if ordered else sorted(run)
            run = []
            if kind != "K":
                made.append((kind, body))
        made += run if ordered else sorted(run)
    return made


def _untimed(row: bytes) -> bytes:
    """Return a DataRow without what time changes in its fields, nor in their lengths."""
    made, at = row[:2], 2
    while at < len(row):
        length = int.from_bytes(row[at : at + 4], "big", signed=True)
        field, at = row[at + 4 : at + 4 + max(length, 0)], at + 4 + max(length, 0)
        field = _TIMED.sub(b"", field)
        length = -1 if length < 0 else len(field)
        made += length.to_bytes(4, "big", signed=True) + field
    return made


def errors(answer: Answer) -> list[dict[str, str]]:
    """Return the fields of every error."""
    return [error_fields(body) for step in answer for kind, body in step if kind == "E"]


def outcome(answer: Answer) -> Outcome:
    """Return how it ended; what Sluice itself refuses carries no routine of the server."""
    found = errors(answer)
    if any(kind == "!" for step in answer for kind, _body in step):
        return Outcome.CLOSED
    if any(one.get("C") == "57014" for one in found):
        return Outcome.LATE
    if any("R" not in one for one in found):
        return Outcome.DENIED
    return Outcome.FAILED if found else Outcome.DONE


def outdated(answer: Answer) -> bool:
    """Return whether Sluice refused to run a plan because the catalog changed meanwhile."""
    return any("R" not in one and one.get("C") == "55000" for one in errors(answer))


_KEYS_VIOLATED = frozenset({"23505", "23503", "23P01"})

_NAMED = re.compile(
    r'"[^"]*"|\b(?:pg_catalog|public|archive|audit|sandbox|pg_temp|information_schema)\.\S+|\d+'
)
_LAST_WORD = re.compile(
    r"((?:for|of) (?:table|function|type|relation|view|column|schema|setting|operator|\w+ function) )\S+"
)


def reason(answer: Answer) -> str:
    """Return the reason of a denial, without names, so that alike ones are counted together."""
    for one in errors(answer):
        if "R" not in one:
            told = one.get("M", "")
            if detail := one.get("D"):
                told += f" · {detail}"
            told = _LAST_WORD.sub(r"\1…", told)
            return _NAMED.sub("…", told)[:160]
    return ""


def describe(left: Answer, right: Answer, *, ordered: bool) -> str:
    """Return the first messages that differ."""
    one, two = normal(left, ordered=ordered), normal(right, ordered=ordered)
    only_one = list((collections.Counter(one) - collections.Counter(two)).elements())
    only_two = list((collections.Counter(two) - collections.Counter(one)).elements())
    if not only_one and not only_two:
        return f"another order or number: {len(one)} and {len(two)} messages"
    return f"A {only_one[:3]}\n    B {only_two[:3]}"


def told_by_keys(left: Answer, right: Answer, sql: Sequence[str]) -> bool:
    """Return whether a unique, exclusion or foreign key told the worlds apart (``writeOracles.keys: accept``)."""
    violated = [
        [one for one in errors(answer) if one.get("C") in _KEYS_VIOLATED]
        for answer in (left, right)
    ]
    if bool(violated[0]) != bool(violated[1]):
        return True
    conflicts = any("on conflict" in one.lower() for one in sql)
    return conflicts and not errors(left) and not errors(right) and _tags(left) != _tags(right)


def _tags(answer: Answer) -> list[bytes]:
    return [body for step in answer for kind, body in step if kind == "C"]


def same_shape(left: Answer, right: Answer) -> bool:
    """Return whether two answers differ in the bytes of rows alone, not in errors, notices or tags.

    How many rows come before an error is a matter of their order, too.
    """

    def shape(answer: Answer) -> list[tuple[str, bytes]]:
        return [
            (kind, b"" if kind in "Dd" else body)
            for step in answer
            for kind, body in step
            if kind != "K" and not (kind in "Dd" and any(other == "E" for other, _ in step))
        ]

    return shape(left) == shape(right)
