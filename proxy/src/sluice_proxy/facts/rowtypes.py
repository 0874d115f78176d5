"""Whole rows of masked relations: they keep the relation's own row type wherever masks can stand in it."""

from __future__ import annotations

from collections.abc import Callable

from sluice_proxy.catalog.model import Catalog, Column
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.domains import accepted
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.scopes import Source
from sluice_proxy.facts.tree import Node, unwrap
from sluice_proxy.masks import mask_sql


def masked_row(a: Analysis, body: Node, source: Source, parts: int) -> bool:
    """Put a row of masks in the place of the target's whole row in RETURNING; False where it is no such row.

    Where a domain would not take a mask the row is refused elsewhere.
    """
    governed, table, catalog = source.governed, source.relation, a.context.catalog
    if not (source.target and a.returning and a.enforcing and catalog):
        return False
    if governed is None or not governed.masks or table is None:
        return False

    def reference(name: str) -> str:
        return f"{quoted(source.refname)}.{quoted(name)}"

    def value(column: Column) -> str:
        mask = governed.masks.get(column.name)
        if mask is None:
            return reference(column.name)
        return mask_sql(mask, column, reference(column.name), catalog, references=reference)

    row = _row(source, catalog, value)
    if row is None:
        return False
    if source not in a.raw_targets:  # OLD of an INSERT and NEW of a DELETE are NULL as a whole.
        row = f"CASE WHEN {quoted(source.refname)} IS DISTINCT FROM NULL THEN {row} END"
    index = a.tokens.at(body["location"])
    end = a.tokens.dotted_end(index, parts)
    a.pending[:] = [edit for edit in a.pending if not (index <= edit.start < edit.end <= end)]
    a.replace(index, end, _named(a, body, source, (index, end), row))
    if source.use is not None:
        source.use.read = True
        source.use.reads.update(column.name for column in table.columns)
    return True


def keep_row_type(a: Analysis, body: Node, source: Source) -> None:
    """Give a whole row that is shown the relation's own row type: a sub-select's row is a record.

    Where an outer join leaves the row out it stays NULL as a whole. A record it stays where a domain's CHECK would
    not take a mask.
    """
    governed, table, catalog = source.governed, source.relation, a.context.catalog
    if governed is None or table is None or catalog is None or source.target:
        return
    if id(body) not in (a.result_reference, *a.typed_rows):
        return
    index = a.tokens.at(body["location"])
    end = a.tokens.dotted_end(index, 1)
    name = quoted(source.refname)
    row = f"{name}::{quoted(table.schema)}.{quoted(table.name)}"
    if _checked(source):
        visible = source.columns or ()
        if len(set(visible)) < len(visible) or len(visible) != len(table.columns):
            return
        places = dict(zip((c.name for c in table.columns), visible, strict=True))
        made = _row(source, catalog, lambda c: f"{name}.{quoted(places[c.name])}")
        if made is None:
            return
        row = made
    elif not source.nullable:
        a.append(end, row.removeprefix(name))
        return
    if source.nullable:
        row = f"CASE WHEN {name} IS DISTINCT FROM NULL THEN {row} END"
    a.replace(index, end, _named(a, body, source, (index, end), row))


def repeated(a: Analysis, body: Node) -> None:
    """Mark whole rows in GROUP BY, DISTINCT and ORDER BY that must be the same expression as a result column.

    Under its own name a result column is found by that; under another one PostgreSQL compares the expressions.
    """
    clauses = ("groupClause", "distinctClause", "sortClause")
    items = [item for clause in clauses for item in body.get(clause, ()) if item]
    if not items:
        return
    targets = [unwrap(item)[1] for item in body.get("targetList", ())]
    columns = [(target.get("name"), _bare(target["val"])) for target in targets]
    named = {name or column for name, column in columns}
    again = {column for _, column in columns if column is not None} - named
    for item in items:
        node = item["SortBy"]["node"] if "SortBy" in item else item
        if _bare(node) in again:
            a.typed_rows.add(id(node["ColumnRef"]))


def _bare(node: Node) -> str | None:
    fields = node.get("ColumnRef", {}).get("fields", ())
    return fields[0]["String"].get("sval") if len(fields) == 1 and "String" in fields[0] else None


def aggregated(a: Analysis, body: Node) -> None:
    """Mark the whole rows that array_agg gathers, and those that it sorts by."""
    for item in (*body.get("args", ()), *body.get("agg_order", ())):
        node = item["SortBy"]["node"] if "SortBy" in item else item
        if "ColumnRef" in node:
            a.typed_rows.add(id(node["ColumnRef"]))


def _checked(source: Source) -> bool:
    """Say whether a domain would look at a mask; of its own values it has done so."""
    governed, table = source.governed, source.relation
    if governed is None or table is None:
        return False
    return any(c.type.oid != c.type.base_oid and c.name in governed.masks for c in table.columns)


def _row(source: Source, catalog: Catalog, value: Callable[[Column], str]) -> str | None:
    """Return the row of these values under the relation's row type; None where a domain may not take one of them."""
    governed, table = source.governed, source.relation
    if governed is None or table is None:
        return None
    values: list[str] = []
    for column in table.columns:
        text: str | None = value(column)
        if column.type.oid != column.type.base_oid and column.name in governed.masks:
            text = accepted(column.type, text, catalog)
        if text is None:
            return None
        values.append(text)
    return f"ROW({', '.join(values)})::{quoted(table.schema)}.{quoted(table.name)}"


def _named(a: Analysis, body: Node, source: Source, place: tuple[int, int], row: str) -> str:
    """Return the row under the name that the result column has without Sluice."""
    if a.bare_call != id(body):
        # A cast around it takes its name over.
        return f"(SELECT {row} AS {quoted(source.refname)})"
    if a.tokens.raw(place[0] - 1) == b"(" and a.tokens.raw(place[1]) == b")":
        # AS cannot stand between parentheses.
        return f"(SELECT {row} AS {quoted(source.refname)})"
    return f"({row}) AS {quoted(source.refname)}"
