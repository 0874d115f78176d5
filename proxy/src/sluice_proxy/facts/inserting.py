"""INSERT: new rows are held against the row filter, also where a default decides; ON CONFLICT is an UPDATE."""

from __future__ import annotations

from dataclasses import dataclass

from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.assigning import assignments, is_star, list_items
from sluice_proxy.facts.bounds import ROWS_HELD_MAX, refused_as_too_large
from sluice_proxy.facts.columns import check_field
from sluice_proxy.facts.comparing import free_literals
from sluice_proxy.facts.expressions import expression
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.newrows import (
    HOLDER,
    Given,
    check_sql,
    column_of,
    default_sql,
    failing,
    held_defaults,
    hold,
    name_columns,
    outside,
    triggered,
    untyped,
    watched,
)
from sluice_proxy.facts.predicates import condition
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.facts.returning import returning
from sluice_proxy.facts.scopes import Level, Query, Source
from sluice_proxy.facts.sources import name_span
from sluice_proxy.facts.targets import filtered, hidden, note_written, target_of
from sluice_proxy.facts.tree import Node, strings, unwrap


def insert(a: Analysis, body: Node, level: Level, result: Query) -> None:
    """Walk INSERT."""
    target = target_of(a, body, level)
    level.sources.remove(target)
    named = [unwrap(item)[1] for item in body.get("cols", ())]
    for item in named:
        a.visit(item)
        for step in item.get("indirection", ()):
            if item["name"] in watched(target):
                raise outside(target)
            if "String" in step:
                check_field(a, strings([step])[0])
    columns = [item["name"] for item in named]
    relation = target.relation
    if not columns and relation is not None:
        columns = [column.name for column in relation.columns]
    note_written(a, target, set(columns))
    select = unwrap(body["selectStmt"])[1] if "selectStmt" in body else None
    query = _source(a, select, level)
    query.end = result.end
    if a.enforcing and watched(target):
        _held(a, body, query, target, columns)
    level.sources.append(target)
    if "onConflictClause" in body:
        _on_conflict(a, body["onConflictClause"], level, target, result.end)
    returning(a, body, level, target, result)


def _source(a: Analysis, select: Node | None, level: Level) -> Query:
    if select is None:
        return Query(columns=())
    for row in select.get("valuesLists", ()):
        for item in unwrap(row)[1].get("items", ()):
            free_literals(a, item)
    return a.query(a, select, Level(level.parent, ctes=level.ctes), end=-1, role="subquery")


@dataclass(frozen=True, slots=True)
class _NewRows:
    """What an INSERT into a filtered table gives, and where its text is."""

    target: Source
    supplied: list[str]
    missing: list[str]
    """Columns that the filter reads and the statement leaves out."""
    place: int
    """The token behind the target and its alias."""
    end: int
    given: int
    """Columns of the source."""


def _held(a: Analysis, body: Node, query: Query, target: Source, columns: list[str]) -> None:
    """Hold every new row against the row filter."""
    select = unwrap(body["selectStmt"])[1] if "selectStmt" in body else None
    given = len(query.columns or ())
    if select is not None and query.columns is None:
        # As many as the statement names, or the table has: the alias list holds the server to that.
        given = len(columns)
    supplied = columns[:given]
    missing = sorted(watched(target) - set(supplied))
    if missing and triggered(a, target):
        return  # A trigger gives what the statement leaves out.
    rows = _NewRows(target, supplied, missing, _behind_target(a, body), query.end, given)
    if select is None:
        _defaults(a, rows)
        return
    if missing:
        name_columns(a, rows.place, rows.supplied, rows.missing, listed=bool(body.get("cols")))
    if "valuesLists" in select:
        _values(a, select, rows)
    else:
        _type_literals(a, select, rows)
        _select(a, rows)


def _type_literals(a: Analysis, select: Node, rows: _NewRows) -> None:
    """Give literals and parameters of the source their columns' types.

    PostgreSQL does that itself for those that stand in the SELECT list of INSERT … SELECT, but not for those of a
    sub-select, which the source becomes.
    """
    items = [unwrap(item)[1]["val"] for item in select.get("targetList", ())]
    stars = [number for number, item in enumerate(items) if is_star(item)]
    if "distinctClause" in select:
        return  # PostgreSQL takes them for text there.
    for number, item in enumerate(items):
        if len(stars) > 1 and stars[0] < number < stars[-1]:
            continue
        place = number if not stars or number < stars[0] else number - len(items)
        kind, body = unwrap(item)
        untyped_constant = kind == "A_Const" and ("sval" in body or body.get("isnull"))
        if not (untyped_constant or kind == "ParamRef") or not -len(rows.supplied) <= place < len(
            rows.supplied
        ):
            continue
        start = a.tokens.at(body.get("location", 0))
        end = start + (3 if a.tokens.word(start + 1) == "uescape" else 1)
        a.around(start, end, "(", f")::{untyped(column_of(rows.target, rows.supplied[place]))}")


def _defaults(a: Analysis, rows: _NewRows) -> None:
    """Write DEFAULT VALUES out for the columns that the filter reads."""
    place = rows.place
    if [a.tokens.word(place), a.tokens.word(place + 1)] != ["default", "values"]:
        raise not_understood("DEFAULT VALUES that cannot be found in the text")
    names = ", ".join(map(quoted, rows.missing))
    values = ", ".join(held_defaults(a, rows.target, rows.missing))
    a.replace(place, place + 2, f"({names}) VALUES ({values})")


def _behind_target(a: Analysis, body: Node) -> int:
    """Return the token behind the target and its alias: a column list, OVERRIDING, or the source."""
    _, index = name_span(a, body["relation"])
    if a.tokens.word(index) == "as":
        index = a.tokens.name_end(index + 1)
    return index


def _values(a: Analysis, select: Node, rows: _NewRows) -> None:
    index = rows.place
    while index < rows.end and a.tokens.word(index) != "values":
        index = a.tokens.close(index) + 1 if a.tokens.raw(index) == b"(" else index + 1
    opening = index + 1
    if len(select["valuesLists"]) > ROWS_HELD_MAX:
        raise refused_as_too_large(f"more than {ROWS_HELD_MAX} new rows that a row filter judges")
    for row in select["valuesLists"]:
        nodes = unwrap(row)[1].get("items", [])
        ranges = list_items(a, opening)
        if len(nodes) != len(ranges):
            raise not_understood("a row of VALUES that cannot be found in the text")
        given: list[Given] = [
            (name, node, *span)
            for name, node, span in zip(rows.supplied, nodes, ranges, strict=False)
        ]
        closing = a.tokens.close(opening)
        hold(a, rows.target, given, keep=False, defaults=rows.missing, closing=closing)
        opening = closing + 2  # The comma between rows.


def _select(a: Analysis, rows: _NewRows) -> None:
    """Put a SELECT around the source, which checks each of its rows."""
    target, place = rows.target, rows.place
    start = (
        a.tokens.close(place) + 1 if a.tokens.raw(place) == b"(" and _is_list(a, place) else place
    )
    if a.tokens.word(start) == "overriding":
        start += 3
    last = _source_end(a, start, rows.end)
    names = [f"c{number}" for number in range(1, rows.given + 1)]
    values = {name: f"{HOLDER}.{alias}" for name, alias in zip(rows.supplied, names, strict=False)}
    typed: dict[str, str] = {}
    for name in watched(target):
        value = values[name] if name in values else default_sql(a, target, name)
        typed[name] = f"({value})::{untyped(column_of(target, name))}"
    check = check_sql(target, typed)
    carrier = min(watched(target))
    held = f"CASE WHEN {check} THEN {typed[carrier]} WHEN {failing(typed[carrier])} THEN NULL END"
    items = [held if name == carrier else values[name] for name in rows.supplied]
    items += names[len(rows.supplied) :]  # More than there are columns: the server says so.
    items += [held if name == carrier else default_sql(a, target, name) for name in rows.missing]
    a.around(
        start,
        last,
        f"SELECT {', '.join(items)} FROM (",
        f"\n) {HOLDER}({', '.join(names)})",
    )


def _is_list(a: Analysis, place: int) -> bool:
    """Say whether the bracket opens a column list rather than a SELECT in brackets."""
    index = place
    while a.tokens.raw(index) == b"(":
        index += 1
    return a.tokens.word(index) not in ("select", "with", "values", "table")


def _source_end(a: Analysis, start: int, end: int) -> int:
    index = start
    while index < end:
        if a.tokens.raw(index) in (b"(", b"["):
            index = a.tokens.close(index) + 1
            continue
        word = a.tokens.word(index)
        if word == "returning" or (word == "on" and a.tokens.word(index + 1) == "conflict"):
            return index
        index += 1
    return end


def _on_conflict(a: Analysis, body: Node, level: Level, target: Source, end: int) -> None:
    a.visit(body)
    infer = body.get("infer", {})
    masked = hidden(target)
    for item in infer.get("indexElems", ()):
        _, element = unwrap(item)
        if "expr" in element:
            expression(a, element["expr"], level)
        elif element.get("name") in masked and a.enforcing:
            a.write_oracles.add("keys")
    if "whereClause" in infer:
        expression(a, infer["whereClause"], level)
    if target.governed is not None and a.enforcing and (masked or target.governed.filters):
        a.write_oracles.add("keys")
    if body["action"] != "ONCONFLICT_UPDATE":
        return
    a.actions.add("update")
    excluded = Source("excluded", level, columns=target.columns)
    level.sources.append(excluded)
    assignments(a, body["targetList"], level, target, end)
    if "whereClause" in body:
        condition(a, body["whereClause"], level, "where")
    filtered(a, body.get("whereClause"), target, a.tokens.at(body["location"]), end)
    level.sources.remove(excluded)
