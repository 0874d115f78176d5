"""Tables that row filters read: who could exchange one, or write to it, would decide which rows are hidden."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from sluice_proxy.catalog.model import Catalog, Relation
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.refusals import refused
from sluice_proxy.facts.tree import dictionaries, parse, strings

_Read = Mapping[tuple[str | None, str], frozenset[str]]


def check_unfiltering(
    a: Analysis, schema: str, name: str, what: str, *, rows: bool = False
) -> None:
    """Check that a relation that is made, renamed, altered or dropped is none that a row filter reads.

    Args:
        a: The statement.
        schema: Of the relation.
        name: Of the relation, which need not be there.
        what: Is to be done.
        rows: Which rows there are may change, so that views over it and parents of it count too.

    Raises:
        ClientError: It is one.
    """
    read = _read(tuple(each.parts for each in a.context.decision.row_filters))
    if not read:
        return
    found = any((place or schema, table) == (schema, name) for place, table in read)
    catalog = a.context.catalog
    if not found and rows and catalog is not None:
        relation = catalog.relation(schema, name)
        found = relation is not None and relation.oid in _deciding(catalog, read)
    if found:
        raise _refused(what, name)


def check_rows_kept(
    a: Analysis, relation: Relation | None, names: frozenset[str] | None, *, there: bool
) -> None:
    """Check that a write changes no rows by which a row filter of this session goes.

    Args:
        a: The statement.
        relation: Is written.
        names: Its columns that are changed; None: rows come or go.
        there: Rows that are there change or go: foreign keys may carry that on.

    Raises:
        ClientError: It would, and the policy does not accept that.
    """
    catalog, decision = a.context.catalog, a.context.decision
    if not a.enforcing or catalog is None or relation is None:
        return
    read = _read(tuple(each.parts for each in decision.row_filters))
    if not read or decision.write_oracle_row_values_accepted:
        return
    deciding = _deciding(catalog, read)
    for oid, columns in _reached(catalog, relation, names, set(), there=there):
        if oid not in deciding:
            continue
        decides = deciding[oid]
        if decides is not None and columns is not None and not decides & columns:
            continue
        found = catalog.by_oid[oid]
        raise refused(
            f'permission denied for writing to table "{relation.name}"',
            detail=f'A row filter of a policy reads "{found.qualified}": whoever it restricts would decide which rows '
            "are hidden.",
            hint="Let a role that the filter does not restrict write it; writeOracles: {rowValues: accept} in the "
            "policy leaves it to the session.",
        )


def _reached(
    catalog: Catalog,
    relation: Relation,
    names: frozenset[str] | None,
    seen: set[int],
    *,
    there: bool,
) -> Iterator[tuple[int, frozenset[str] | None]]:
    """Yield what a write of a relation changes, by foreign keys too, with the columns; None: whole rows."""
    if relation.oid in seen:
        return
    seen.add(relation.oid)
    yield relation.oid, names
    for oid in relation.children:
        child = catalog.by_oid.get(oid)
        if child is not None:
            yield from _reached(catalog, child, names, seen, there=there)
    for coupling in relation.couplings if there else ():
        other = catalog.by_oid.get(coupling.other or 0)
        if not coupling.referred or other is None:
            continue
        if names is None and "d" in coupling.acts:
            yield from _reached(catalog, other, None, seen, there=True)
        elif names is not None and "u" in coupling.acts and coupling.columns & names:
            ends = [each.columns for each in other.couplings if each.other == relation.oid]
            yield from _reached(catalog, other, frozenset[str]().union(*ends), seen, there=True)


def _deciding(catalog: Catalog, read: _Read) -> dict[int, frozenset[str] | None]:
    """Return the tables by whose rows filters go, by oid, with the columns that they read; None: all of them."""
    found: dict[int, frozenset[str] | None] = {}
    for (schema, name), columns in read.items():
        relation = catalog.relation(schema or "public", name)
        if relation is not None:
            _decide(catalog, relation, columns or None, found)
    return found


def _decide(
    catalog: Catalog,
    relation: Relation,
    columns: frozenset[str] | None,
    found: dict[int, frozenset[str] | None],
) -> None:
    if relation.oid in found:
        known = found[relation.oid]
        if known is None or (columns is not None and columns <= known):
            return
        columns = None if columns is None else columns | known
    found[relation.oid] = columns
    below = relation.view.relations if relation.view else ()
    for oid in (*relation.children, *below):
        each = catalog.by_oid.get(oid)
        if each is not None:
            _decide(catalog, each, None if relation.view else columns, found)


def _refused(what: str, name: str) -> Exception:
    return refused(
        f'permission denied for {what} of "{name}"',
        detail="A row filter of a policy reads it.",
        hint="Let a role that no policy restricts change it, as migrations do.",
    )


@lru_cache(maxsize=64)
def _read(filters: tuple[tuple[str | tuple[str], ...], ...]) -> _Read:
    """Return the relations that sub-selects of filters name, with the columns that they read of them."""
    found: dict[tuple[str | None, str], frozenset[str]] = {}
    for parts in filters:
        text = "".join(part if isinstance(part, str) else quoted(part[0]) for part in parts)
        if "select" not in text.lower():
            continue
        for statement in parse(f"SELECT {text}".encode()):
            inside = list(dictionaries(statement.body))
            fields = [strings(node["fields"]) for key, node in inside if key == "ColumnRef"]
            for _, node in inside:
                if "relname" not in node:
                    continue
                alias = node.get("alias", {}).get("aliasname", node["relname"])
                columns = frozenset(each[1] for each in fields if each[:1] == [alias] and each[1:])
                name = (node.get("schemaname"), node["relname"])
                found[name] = found.get(name, frozenset()) | columns
    return found
