"""New values of a governed table: held against the row filter, and masks that come back are not written (SQL.md §12).

The value stays where the client wrote it, inside ``(SELECT … FROM (SELECT (value)::type AS v) sluice_w)``: it is
computed once, and names in it mean what they meant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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
) -> None:
    """Wrap the new values of one row.

    Args:
        a: The statement.
        target: The table.
        given: All columns that the row is given.
        keep: True where there is an old row, whose raw value stays when its mask comes back.
        defaults: Columns that the filter reads and the row leaves to their defaults, which are written out.
        closing: The row's closing bracket, before which they are put.

    Raises:
        ClientError: Two values that the filter reads together cannot be repeated.
    """
    if not a.enforcing or target.governed is None or target.relation is None:
        return
    supplied = [each for each in given if each[0] in watched(target)]
    carrier = _carrier(target, supplied) if supplied else next(iter(defaults), None)
    others = {name: default_sql(target, name) for name in defaults}
    for name, node, start, end in supplied:
        others[name] = default_sql(target, name) if _is_default(node) else _raw(a, start, end)
        if name != carrier:  # Its text is part of the plan.
            a.free.difference_update(a.tokens.starts[start:end])
    for name, node, start, end in given:
        masked = keep and name in target.governed.masks and not _is_default(node)
        if not masked and name != carrier:
            continue
        column = column_of(target, name)
        value = _kept(a, target, column) if masked else _VALUE
        if name == carrier:
            value = _checked(target, name, value, others, keep=keep)
        before, after = f"(SELECT {value} FROM (SELECT (", f")::{untyped(column)} AS v) {HOLDER})"
        if _is_default(node):
            a.replace(start, end, f"{before}{default_sql(target, name)}{after}")
        else:
            a.around(start, end, before, f"\n{after}")
    for name in defaults:
        text = default_sql(target, name)
        if name == carrier:
            value = _checked(target, name, _VALUE, others, keep=keep)
            text = f"(SELECT {value} FROM (SELECT ({text})::{untyped(column_of(target, name))} AS v) {HOLDER})"
        a.append(closing, f", {text}")


def untyped(column: Column) -> str:
    """Return the column's base type without a length: one that is too long must raise, not be cut."""
    if column.type.base_name == "pg_catalog.interval":
        return column.type.base_sql
    return _TYPMOD.sub("", column.type.base_sql)


def default_sql(target: Source, name: str) -> str:
    """Return what a column is given when nothing is given."""
    return column_of(target, name).default or "NULL"


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


def _kept(a: Analysis, target: Source, column: Column) -> str:
    """Return the new value, or the old one where the new one is its mask."""
    governed, catalog = target.governed, a.context.catalog
    if governed is None or catalog is None:
        raise not_understood("a masked column without a catalog")

    def reference(name: str) -> str:
        return f"{quoted(target.refname)}.{quoted(name)}"

    own = reference(column.name)
    mask = mask_sql(governed.masks[column.name], column, own, catalog, references=reference)
    sides = [_VALUE, mask]
    if not built_in(column.type):
        sides = [f"({side})::pg_catalog.text" for side in sides]
    same = f"{sides[0]} OPERATOR(pg_catalog.=) {sides[1]}"
    return (
        f"CASE WHEN {same} OR ({_VALUE} IS NULL AND {mask} IS NULL) THEN {own}::{untyped(column)} "
        f"ELSE {_VALUE} END"
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
    return a.tokens.text[a.tokens.items[start].start : a.tokens.items[end - 1].end].decode()
