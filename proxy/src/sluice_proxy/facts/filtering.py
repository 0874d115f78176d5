"""Tables that row filters read: who could exchange one, or write to it, would decide which rows are hidden."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from sluice_proxy.catalog.model import Catalog, Column, Relation
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.membership import Membership, condition_of, memberships
from sluice_proxy.facts.refusals import refused


class Write(StrEnum):
    """What is done to rows."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


def check_unfiltering(
    a: Analysis, schema: str, name: str, what: str, *, rows: bool = False
) -> None:
    """Check that a relation that is made, renamed, altered or dropped is none that a row filter reads.

    Args:
        a: The statement.
        schema: Of the relation.
        name: Of the relation, which need not be there.
        what: Is to be done.
        rows: Which rows there are may change, so that what is below views and children count too.

    Raises:
        ClientError: It is one.
    """
    read = _read(a)
    if not read:
        return
    found = any((each.schema or schema, each.table) == (schema, name) for each in read)
    catalog = a.context.catalog
    if not found and rows and catalog is not None:
        relation = catalog.relation(schema, name)
        found = relation is not None and any(
            oid == relation.oid for each in read for oid, _ in _deciding(catalog, each)
        )
    if found:
        raise refused(
            f'permission denied for {what} of "{name}"',
            detail="A row filter of a policy reads it.",
            hint="Let a role that no policy restricts change it, as migrations do.",
        )


def check_rows_kept(
    a: Analysis, relation: Relation | None, write: Write, names: frozenset[str] = frozenset()
) -> None:
    """Check that a write opens no row to this session by the rows by which a filter goes.

    Args:
        a: The statement.
        relation: Is written.
        write: How.
        names: Its columns that are supplied.

    Raises:
        ClientError: It may, and the policy does not accept that.
    """
    catalog, decision = a.context.catalog, a.context.decision
    if not a.enforcing or catalog is None or relation is None:
        return
    read = _read(a)
    if not read or decision.write_oracle_row_values_accepted:
        return
    reached = list(_reached(catalog, relation, write, names, set()))
    for each in read:
        deciding = dict(_deciding(catalog, each))
        for oid, how, columns in reached:
            if oid not in deciding:
                continue
            table = catalog.by_oid[oid]
            if deciding[oid] and _harmless(a, each, table, how, columns):
                continue
            raise refused(
                f'permission denied for writing to table "{relation.name}"',
                detail=f'A row filter of a policy reads "{table.qualified}": whoever it restricts would decide which '
                "rows are hidden.",
                hint="Let a role that the filter does not restrict write it; writeOracles: {rowValues: accept} in the "
                "policy leaves it to the session.",
            )


def _read(a: Analysis) -> tuple[Membership, ...]:
    return memberships(tuple(each.parts for each in a.context.decision.row_filters))


def _harmless(
    a: Analysis, read: Membership, table: Relation, how: Write, names: frozenset[str]
) -> bool:
    """Say whether a write of a table that a sub-select reads cannot show more."""
    if how is Write.DELETE:
        return read.narrowing
    if read.key is None:
        return False
    if how is Write.UPDATE:
        moved = any(names & each[1] and not _held(a, each[0], table) for each in read.conditions)
        return read.key not in names and not moved
    key = table.column(read.key)
    return key is not None and (
        (read.key not in names and _fresh(key))
        or (table.row_key == (read.key,) and _all_there(a, read, table))
    )


def _held(a: Analysis, condition: str, table: Relation) -> bool:
    """Say whether the table's own filter keeps all rows that the session can change within a condition."""
    governed = a.governed.get(table.oid)
    return governed is not None and any(
        condition_of(each) == condition for each in governed.filters
    )


def _fresh(key: Column) -> bool:
    """Say whether a column that nobody supplies gets a value that no other row has, or none."""
    if key.default is None:
        return not key.generated
    return "nextval(" in key.default


def _all_there(a: Analysis, read: Membership, table: Relation) -> bool:
    """Say whether each value that is looked for is a key of the table already: a new row has another one."""
    held = [each.relation for each in a.governed.values() if read.parts in each.filters]
    compared = read.compared
    return compared is not None and all(_refers(each, compared, table, read.key) for each in held)


def _refers(relation: Relation, compared: str, table: Relation, key: str | None) -> bool:
    column = relation.view.columns.get(compared) if relation.view else None
    if column is not None:
        return column.direct == (table.oid, key)
    return any(
        each.other == table.oid and not each.referred and each.columns == frozenset({compared})
        for each in relation.couplings
    )


def _reached(
    catalog: Catalog, relation: Relation, write: Write, names: frozenset[str], seen: set[int]
) -> Iterator[tuple[int, Write, frozenset[str]]]:
    """Yield what a write of a relation does, by foreign keys too: oid, how, and columns."""
    if relation.oid in seen:
        return
    seen.add(relation.oid)
    yield relation.oid, write, names
    for oid in relation.children:
        child = catalog.by_oid.get(oid)
        if child is not None:
            yield from _reached(catalog, child, write, names, seen)
    for coupling in relation.couplings if write is not Write.INSERT else ():
        other = catalog.by_oid.get(coupling.other or 0)
        if not coupling.referred or other is None:
            continue
        ends = [each.columns for each in other.couplings if each.other == relation.oid]
        columns = frozenset[str]().union(*ends)
        if write is Write.DELETE and "d" in coupling.acts:
            yield from _reached(catalog, other, Write.DELETE, frozenset(), seen)
        elif (write is Write.DELETE and "s" in coupling.acts) or (
            write is Write.UPDATE and "u" in coupling.acts and coupling.columns & names
        ):
            yield from _reached(catalog, other, Write.UPDATE, columns, seen)


def _deciding(catalog: Catalog, read: Membership) -> Iterator[tuple[int, bool]]:
    """Yield the tables by whose rows a sub-select goes, by oid; False: through a view."""
    relation = catalog.relation(read.schema or "public", read.table)
    waiting = [] if relation is None else [(relation, True)]
    seen: set[int] = set()
    while waiting:
        relation, itself = waiting.pop()
        if relation.oid in seen:
            continue
        seen.add(relation.oid)
        itself = itself and relation.view is None
        yield relation.oid, itself
        below = relation.view.relations if relation.view else ()
        known = (catalog.by_oid.get(oid) for oid in (*relation.children, *below))
        waiting += [(each, itself) for each in known if each is not None]
