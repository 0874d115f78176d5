"""The masked, filtered SELECT that stands in the place of a governed relation."""

from __future__ import annotations

from sluice_proxy.decisions import Parts
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.naming import literal, quoted
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.facts.scopes import Source
from sluice_proxy.masks import mask_sql

ROW = "sluice_s"
"""The alias of the raw row inside a splice."""
SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema"})


def projection(a: Analysis, source: Source) -> str:
    """Return the masked, filtered SELECT that stands in the place of a governed relation."""
    governed, table = source.governed, source.relation
    if governed is None or table is None or a.context.catalog is None:
        raise not_understood("a relation that is not governed")
    if source.system and source.everything:
        raise not_understood("system columns of a governed table beside *")
    items: list[str] = []
    places = positions(source)
    for number, column in enumerate(table.columns, 1):
        if not (
            source.everything
            or source.renamed
            or column.name in a.mentioned
            or _guards(source, column.name)
        ):
            continue
        reference = f"{ROW}.c{number}"
        mask = governed.masks.get(column.name)
        value = reference
        if mask is not None:
            value = mask_sql(
                mask, column, reference, a.context.catalog, references=places.__getitem__
            )
        items.append(f"{value} AS {quoted(column.name)}")
    items.extend(f"{ROW}.{name} AS {quoted(name)}" for name in sorted(source.system))
    aliases = ",".join(f"c{number}" for number in range(1, len(table.columns) + 1))
    only = "ONLY " if source.only else ""
    origin = f"{only}{quoted(table.schema)}.{quoted(table.name)} {ROW}" + (
        f"({aliases})" if aliases else ""
    )
    where = [filter_sql(parts, places) for parts in governed.filters]
    where += pin(source)
    text = f"SELECT {', '.join(items)} FROM {origin}"
    if where:
        text += f" WHERE {' AND '.join(where)}"
    return text + (" OFFSET 0" if source.fenced else "")


def _guards(source: Source, name: str) -> bool:
    if not source.guarded or source.governed is None or source.relation is None:
        return False
    return name in source.governed.filter_columns or (source.nullable and name == witness(source))


def witness(source: Source) -> str | None:
    """Return a column that is null only where an outer join found no row."""
    if source.relation is None or source.governed is None:
        return None
    names = [
        c.name
        for c in source.relation.columns
        if c.not_null and c.name not in source.governed.masks
    ]
    preferred = [name for name in names if name in source.governed.filter_columns]
    return next(iter([*preferred, *names]), None)


def positions(source: Source) -> dict[str, str]:
    """Return the raw row's reference for each column, inside a splice."""
    columns = source.relation.columns if source.relation else ()
    return {column.name: f"{ROW}.c{number}" for number, column in enumerate(columns, 1)}


def filter_sql(parts: Parts, references: dict[str, str]) -> str:
    """Return a compiled expression over these references."""
    out: list[str] = []
    for part in parts:
        if isinstance(part, str):
            out.append(part)
        else:
            if part[0] not in references:
                raise not_understood(
                    f'a row filter over the column "{part[0]}", which is not there'
                )
            out.append(references[part[0]])
    return f"({''.join(out)})"


CATALOG_CHANGED = "sluice: catalog changed"


def pin(source: Source) -> list[str]:
    """Return the condition that fails when another table has taken the name; it folds to nothing at planning.

    The planner folds an OR from the left and stops at what is true: the failing side is looked at only when the table
    is another one. A CASE says the same and takes longer to plan, as does every type that is named.
    """
    table = source.relation
    if table is None or table.schema in SYSTEM_SCHEMAS:
        return []
    name = literal(f"{quoted(table.schema)}.{quoted(table.name)}")
    same = f"{name}::pg_catalog.regclass OPERATOR(pg_catalog.=) '{table.oid}'"
    changed = f"('{CATALOG_CHANGED}'::pg_catalog.text)::pg_catalog.bool"
    return [f"({same} OR {changed})"]
