"""MERGE: hidden rows of the target match nothing, and what is written is held as in INSERT and UPDATE."""

from __future__ import annotations

from sluice_proxy.facts import sources
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.assigning import assignments, list_items
from sluice_proxy.facts.columns import check_field
from sluice_proxy.facts.expressions import expression
from sluice_proxy.facts.newrows import (
    Given,
    held_defaults,
    hold,
    name_columns,
    outside,
    triggered,
    watched,
)
from sluice_proxy.facts.predicates import condition
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.facts.returning import returning
from sluice_proxy.facts.scopes import Level, Query, Source
from sluice_proxy.facts.targets import conditions, filtered, note_deleted, note_written, target_of
from sluice_proxy.facts.tree import Node, strings, unwrap


def merge(a: Analysis, body: Node, level: Level, result: Query) -> None:
    """Walk MERGE."""
    target = target_of(a, body, level)
    sources.from_item(a, body["sourceRelation"], level)
    sources.name_apart(level)
    condition(a, body["joinCondition"], level, "on")
    filtered(a, body["joinCondition"], target, 0, result.end, word="on")
    place = a.tokens.at(body["relation"].get("location", 0))
    for item in body.get("mergeWhenClauses", ()):
        _, when = unwrap(item)
        a.visit(when)
        place = _clause_start(a, place, result.end)
        _when(a, when, level, target, (place, result.end))
        if when.get("matchKind") == "MERGE_WHEN_NOT_MATCHED_BY_SOURCE" and watched(target):
            _own_rows(a, target, place)
    if "returningClause" in body:
        returning(a, body, level, target, result)


def _when(a: Analysis, when: Node, level: Level, target: Source, span: tuple[int, int]) -> None:
    # Conditions and values are computed for joined rows: behind every filter.
    if "condition" in when:
        expression(a, when["condition"], level)
    command = when.get("commandType")
    if command == "CMD_UPDATE":
        a.actions.add("update")
        assignments(a, when["targetList"], level, target, span[1])
    elif command == "CMD_INSERT":
        a.actions.add("insert")
        _insert(a, when, level, target, span[0])
    elif command == "CMD_DELETE":
        a.actions.add("delete")
        note_deleted(a, target)


def _clause_start(a: Analysis, place: int, end: int) -> int:
    """Return the token behind the WHEN of the next clause."""
    index, cases = place, 0
    while index < end:
        word = a.tokens.word(index)
        if a.tokens.raw(index) in (b"(", b"["):
            index = a.tokens.close(index)
        elif word == "case":
            cases += 1
        elif word == "end" and cases:
            cases -= 1
        elif word == "when" and not cases:
            return index + 1
        index += 1
    raise not_understood("a WHEN clause that cannot be found in the text")


def _own_rows(a: Analysis, target: Source, place: int) -> None:
    """Keep WHEN NOT MATCHED BY SOURCE from rows that the filter hides: they match nothing since it stands in ON."""
    words = [a.tokens.word(index) for index in range(place, place + 4)]
    if words != ["not", "matched", "by", "source"]:
        raise not_understood("a WHEN clause that cannot be found in the text")
    start = place + 4
    shown = " AND ".join(conditions(a, target))
    if a.tokens.word(start) == "then":
        a.append(start, f" AND ({shown}) ")
        return
    a.around(start + 1, _then(a, start + 1), f"CASE WHEN {shown} THEN (", ") ELSE false END ")


def _then(a: Analysis, start: int) -> int:
    """Return the THEN of the clause that ``start`` is in."""
    index, cases = start, 0
    while cases or a.tokens.word(index) != "then":
        word = a.tokens.word(index)
        if a.tokens.raw(index) in (b"(", b"["):
            index = a.tokens.close(index)
        elif word in ("case", "end"):
            cases += 1 if word == "case" else -1
        index += 1
        if index >= a.span[1]:
            raise not_understood("a WHEN clause that cannot be found in the text")
    return index


def _insert(a: Analysis, when: Node, level: Level, target: Source, start: int) -> None:
    columns: list[str] = []
    for part in when.get("targetList", ()):
        _, assigned = unwrap(part)
        a.visit(assigned)
        columns.append(assigned["name"])
        for step in assigned.get("indirection", ()):
            if assigned["name"] in watched(target):
                raise outside(target)
            if "String" in step:
                check_field(a, strings([step])[0])
    values = when.get("values", [])
    for value in values:
        expression(a, value, level)
    if not columns and target.relation is not None:
        columns = [column.name for column in target.relation.columns]
    supplied = columns[: len(values)]
    note_written(a, target, set(supplied or columns))
    if not a.enforcing or not watched(target):
        return
    missing = sorted(watched(target) - set(supplied))
    if missing and triggered(a, target):
        return
    place = _then(a, start) + 2  # THEN INSERT
    if missing:
        name_columns(a, place, supplied, missing, listed=a.tokens.raw(place) == b"(")
    if not values:
        index = place if a.tokens.word(place) == "default" else a.tokens.close(place) + 1
        if a.tokens.word(index + 1) != "values":
            raise not_understood("DEFAULT VALUES that cannot be found in the text")
        a.replace(index, index + 2, f"VALUES ({', '.join(held_defaults(a, target, missing))})")
        return
    opening = _values(a, when)
    given: list[Given] = [
        (name, node, *span)
        for name, node, span in zip(columns, values, list_items(a, opening), strict=False)
    ]
    hold(a, target, given, keep=False, defaults=missing, closing=a.tokens.close(opening))


def _values(a: Analysis, when: Node) -> int:
    """Return the bracket of a clause's VALUES."""
    offset = a.offsets.first(when["values"])
    if offset is None:
        raise not_understood("VALUES that cannot be found in the text")
    index = a.tokens.at(offset)
    while a.tokens.word(index) != "values":
        index = a.tokens.partner[index] - 1 if a.tokens.raw(index) == b")" else index - 1
        if index < a.span[0]:
            raise not_understood("VALUES that cannot be found in the text")
    return index + 1
