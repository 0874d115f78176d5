"""MERGE: hidden rows of the target match nothing, and what is written is held as in INSERT and UPDATE."""

from __future__ import annotations

from sluice_proxy.facts import sources
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.assigning import assignments, list_items
from sluice_proxy.facts.columns import check_field
from sluice_proxy.facts.expressions import expression
from sluice_proxy.facts.newrows import Given, hold, outside, watched
from sluice_proxy.facts.predicates import condition
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.facts.returning import returning
from sluice_proxy.facts.scopes import Level, Query, Source
from sluice_proxy.facts.targets import filtered, note_written, target_of
from sluice_proxy.facts.tree import Node, first_offset, strings, unwrap


def merge(a: Analysis, body: Node, level: Level, result: Query) -> None:
    """Walk MERGE."""
    target = target_of(a, body, level)
    sources.from_item(a, body["sourceRelation"], level)
    sources.name_apart(level)
    condition(a, body["joinCondition"], level, "on")
    filtered(a, body["joinCondition"], target, 0, result.end, word="on")
    for item in body.get("mergeWhenClauses", ()):
        _, when = unwrap(item)
        a.visit(when)
        _when(a, when, level, target, result.end)
    if "returningClause" in body:
        returning(a, body, level, target, result)


def _when(a: Analysis, when: Node, level: Level, target: Source, end: int) -> None:
    if when.get("matchKind") == "MERGE_WHEN_NOT_MATCHED_BY_SOURCE" and watched(target):
        raise not_understood("WHEN NOT MATCHED BY SOURCE over rows that a policy filters")
    # Conditions and values are computed for joined rows: behind every filter.
    if "condition" in when:
        expression(a, when["condition"], level)
    command = when.get("commandType")
    if command == "CMD_UPDATE":
        a.actions.add("update")
        assignments(a, when["targetList"], level, target, end)
    elif command == "CMD_INSERT":
        a.actions.add("insert")
        _insert(a, when, level, target)
    elif command == "CMD_DELETE":
        a.actions.add("delete")


def _insert(a: Analysis, when: Node, level: Level, target: Source) -> None:
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
    note_written(a, target, set(columns[: len(values)] or columns))
    if not a.enforcing or not watched(target):
        return
    if watched(target) - set(columns[: len(values)]):
        raise outside(target)
    opening = _values(a, when)
    given: list[Given] = [
        (name, node, *span)
        for name, node, span in zip(columns, values, list_items(a, opening), strict=False)
    ]
    hold(a, target, given, keep=False)


def _values(a: Analysis, when: Node) -> int:
    """Return the bracket of a clause's VALUES."""
    offset = first_offset(when["values"])
    if offset is None:
        raise not_understood("VALUES that cannot be found in the text")
    index = a.tokens.at(offset)
    while a.tokens.word(index) != "values":
        index = a.tokens.partner[index] - 1 if a.tokens.raw(index) == b")" else index - 1
        if index < a.span[0]:
            raise not_understood("VALUES that cannot be found in the text")
    return index + 1
