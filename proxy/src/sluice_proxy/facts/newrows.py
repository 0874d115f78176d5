"""New values of a governed table: held against the row filter, and masks that come back are not written (SQL.md §12).

The value stays where the client wrote it, inside ``(SELECT … FROM (SELECT (value)::type AS v) sluice_w)``: it is
computed once, and names in it mean what they meant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sluice_proxy.catalog.model import Column
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.projection import filter_sql
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.scopes import Source
from sluice_proxy.facts.tree import Node, unwrap
from sluice_proxy.facts.types import built_in
from sluice_proxy.masks import mask_sql

OUTSIDE_FILTER = "sluice: row outside the row filter"
HOLDER = "sluice_w"
_VALUE = f"{HOLDER}.v"
_TYPMOD = re.compile(r"\([\d,]+\)")

Given = tuple[str, Node, int, int]
"""A column, its new value, and the tokens of that."""


@dataclass(slots=True)
class GivenRow:
    """Columns that one sub-select gives, ``(a, b) = (SELECT …)``, and the tokens of that."""

    names: list[str] = field(default_factory=list[str])
    start: int = 0
    end: int = 0


def watched(target: Source) -> frozenset[str]:
    """Return the columns that the target's row filters read."""
    governed = target.governed
    return governed.filter_columns if governed is not None and governed.filters else frozenset()


def hold(
    a: Analysis,
    target: Source,
    given: Sequence[Given],
    *,
    keep: bool,
    defaults: Sequence[str] = (),
    closing: int = 0,
    rows: Sequence[GivenRow] = (),
) -> None:
    """Wrap the new values of one row.

    Args:
        a: The statement.
        target: The table.
        given: All columns that the row is given.
        keep: True where there is an old row, whose raw value stays when its mask comes back.
        defaults: Columns that the filter reads and the row leaves to their defaults, which are written out.
        closing: The row's closing bracket, before which they are put.
        rows: Columns that sub-selects give.

    Raises:
        ClientError: Two values that the filter reads together cannot be repeated.
    """
    if not a.enforcing or target.governed is None or target.relation is None:
        return
    supplied = [each for each in given if each[0] in watched(target)]
    carrier = _carrier(target, supplied)
    carrying = [row for row in rows if watched(target) & set(row.names)]
    if carrying:
        if len(carrying) > 1 or not all(_repeatable(node) for _, node, _, _ in supplied):
            raise outside(target)
        carrier = None
    others = {name: default_sql(a, target, name) for name in defaults}
    for name, node, start, end in supplied:
        others[name] = default_sql(a, target, name) if _is_default(node) else _raw(a, start, end)
        if name != carrier:  # Its text is part of the plan.
            a.free.difference_update(a.tokens.starts[start:end])
    for row in rows:
        _hold_row(a, target, row, others)
    for name, node, start, end in given:
        masked = keep and name in target.governed.masks and not _is_default(node)
        if not masked and name != carrier:
            continue
        column = column_of(target, name)
        value = _kept(a, target, column, _VALUE) if masked else _VALUE
        if name == carrier:
            value = _checked(target, name, value, others, keep=keep)
        before, after = f"(SELECT {value} FROM (SELECT (", f")::{untyped(column)} AS v) {HOLDER})"
        if _is_default(node):
            a.replace(start, end, f"{before}{default_sql(a, target, name)}{after}")
        else:
            a.around(start, end, before, f"\n{after}")
    if defaults:
        added = (
            [others[name] for name in defaults] if carrier else held_defaults(a, target, defaults)
        )
        a.append(closing, "".join(f", {text}" for text in added))


def _hold_row(a: Analysis, target: Source, row: GivenRow, others: Mapping[str, str]) -> None:
    """Wrap what a sub-select gives; where it finds no row, the columns become NULL, which is held as well."""
    names, seen = row.names, watched(target)
    if target.governed is None or not (set(names) & (seen | set(target.governed.masks))):
        return
    columns = {name: f"{HOLDER}.c{number}" for number, name in enumerate(names, 1)}
    others = {**others, **{name: columns[name] for name in names if name in seen}}
    carrier = next((name for name in names if name in seen), None)
    items: list[str] = []
    for name in names:
        column, value = column_of(target, name), columns[name]
        if name == carrier or name in target.governed.masks:
            value = f"({value})::{untyped(column)}"
        if name in target.governed.masks:
            value = f"({_kept(a, target, column, value)})"
        if name == carrier:
            value = _checked(target, name, value, others, keep=True)
        items.append(value)
    a.around(
        row.start,
        row.end,
        f"(SELECT {', '.join(items)} FROM (SELECT) {HOLDER}_1 LEFT JOIN ",
        f"\n{HOLDER}({', '.join(f'c{number}' for number in range(1, len(names) + 1))}) ON true)",
    )


def held_defaults(a: Analysis, target: Source, names: Sequence[str]) -> list[str]:
    """Return the defaults of the columns that the filter reads, the first of them held against it."""
    others = {name: default_sql(a, target, name) for name in names}
    first = names[0]
    value = _checked(target, first, _VALUE, others, keep=False)
    own = f"({others[first]})::{untyped(column_of(target, first))} AS v"
    return [f"(SELECT {value} FROM (SELECT {own}) {HOLDER})", *(others[name] for name in names[1:])]


def name_columns(
    a: Analysis, place: int, supplied: Sequence[str], missing: Sequence[str], *, listed: bool
) -> None:
    """Name the columns that are missing behind those that are supplied.

    Args:
        a: The statement.
        place: The token where its column list is, or would be.
        supplied: Columns that it gives a value.
        missing: Columns that get one.
        listed: It has a column list.
    """
    added = ", ".join(map(quoted, missing))
    if listed:
        a.append(a.tokens.close(place), f", {added}")
    else:
        a.append(place, f" ({', '.join([*map(quoted, supplied), added])}) ")


def untyped(column: Column) -> str:
    """Return the column's base type without a length: one that is too long must raise, not be cut."""
    if column.type.base_name == "pg_catalog.interval":
        return column.type.base_sql
    return _TYPMOD.sub("", column.type.base_sql)


def default_sql(a: Analysis, target: Source, name: str) -> str:
    """Return what a column is given when nothing is given; a view's column is given what the table below it is."""
    column: Column | None = column_of(target, name)
    relation = target.relation
    while column is not None and column.default is None:
        view = relation.view if relation else None
        origin = view.columns[column.name].direct if view and column.name in view.columns else None
        if origin is None or a.context.catalog is None:
            break
        relation = a.context.catalog.by_oid.get(origin[0])
        column = relation.column(origin[1]) if relation else None
    return (column.default if column else None) or "NULL"


def triggered(a: Analysis, target: Source) -> bool:
    """Say whether triggers may change a new row: those of the table below a view, too."""
    relation = target.relation
    while relation is not None and not relation.has_triggers:
        base = relation.view.row_base if relation.view else None
        relation = a.context.catalog.by_oid.get(base) if base and a.context.catalog else None
    return relation is not None


def outside(target: Source) -> Exception:
    """Return the refusal of a row that cannot be held against the filter."""
    return refused(
        f'new row for table "{target.table}" cannot be checked against the row filter',
        detail="A policy filters the rows of this table, and the statement sets columns that the filter reads.",
        hint="Give these columns as constants or parameters, or leave them out.",
    )


def check_sql(target: Source, references: Mapping[str, str]) -> str:
    """Return the row filters over these references."""
    filters = target.governed.filters if target.governed else ()
    return " AND ".join(filter_sql(parts, dict(references)) for parts in filters)


def failing(value: str) -> str:
    """Return what raises; the value is part of the text, so that nothing of it is computed before the check."""
    text = f"pg_catalog.left(({value})::pg_catalog.text, 0)"
    return f"(pg_catalog.concat('{OUTSIDE_FILTER}', {text}))::pg_catalog.bool"


def column_of(target: Source, name: str) -> Column:
    """Return a column of the target.

    Raises:
        ClientError: The catalog does not have it.
    """
    column = target.relation.column(name) if target.relation else None
    if column is None:
        raise not_understood(f'the column "{name}", which the catalog does not have')
    return column


def _carrier(target: Source, supplied: Sequence[Given]) -> str | None:
    """Return the column whose value carries the check: the one that cannot be repeated, if there is one."""
    if not supplied:
        return None
    computed = [name for name, node, _, _ in supplied if not _repeatable(node)]
    if len(computed) > 1:
        raise outside(target)
    return computed[0] if computed else supplied[0][0]


def _repeatable(node: Node) -> bool:
    kind, inner = unwrap(node)
    while kind == "TypeCast":
        kind, inner = unwrap(inner["arg"])
    return kind in ("A_Const", "ParamRef", "SetToDefault")


def _is_default(node: Node) -> bool:
    return "SetToDefault" in node


def _kept(a: Analysis, target: Source, column: Column, value: str) -> str:
    """Return the new value, or the old one where the new one is its mask."""
    governed, catalog = target.governed, a.context.catalog
    if governed is None or catalog is None:
        raise not_understood("a masked column without a catalog")

    def reference(name: str) -> str:
        return f"{quoted(target.refname)}.{quoted(name)}"

    own = reference(column.name)
    mask = mask_sql(governed.masks[column.name], column, own, catalog, references=reference)
    sides = [value, mask]
    if not built_in(column.type):
        sides = [f"({side})::pg_catalog.text" for side in sides]
    same = f"{sides[0]} OPERATOR(pg_catalog.=) {sides[1]}"
    return (
        f"CASE WHEN {same} OR ({value} IS NULL AND {mask} IS NULL) THEN {own}::{untyped(column)} "
        f"ELSE {value} END"
    )


def _checked(
    target: Source, name: str, value: str, others: Mapping[str, str], *, keep: bool
) -> str:
    references = {name: f"({value})"}
    for other in watched(target) - {name}:
        if other in others:
            references[other] = f"(\n{others[other]}\n)::{untyped(column_of(target, other))}"
        elif keep:
            references[other] = f"{quoted(target.refname)}.{quoted(other)}"
        else:
            raise outside(target)
    check = check_sql(target, references)
    return f"CASE WHEN {check} THEN {value} WHEN {failing(value)} THEN NULL END"


def _raw(a: Analysis, start: int, end: int) -> str:
    return a.tokens.text[a.tokens.starts[start] : a.tokens.ends[end - 1]].decode()
