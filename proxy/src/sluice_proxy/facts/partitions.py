"""Partitions and inheritance: tables that are tied to each other, neither of which a policy speaks of."""

from __future__ import annotations

from sluice_proxy.catalog.model import Relation
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.expressions import expression
from sluice_proxy.facts.filtering import check_unfiltering
from sluice_proxy.facts.lasting import (
    changed,
    ddl_refused,
    governed_refused,
    note_moved,
    tied_to_governed,
)
from sluice_proxy.facts.naming import Resolved
from sluice_proxy.facts.scopes import Level
from sluice_proxy.facts.tree import Node, strings, unwrap
from sluice_proxy.facts.unread import check_unread

TIES = frozenset(
    [
        "AT_AddInherit",
        "AT_DropInherit",
        "AT_AttachPartition",
        "AT_DetachPartition",
        "AT_DetachPartitionFinalize",
    ]
)


def tie(a: Analysis, table: Resolved, definition: Node) -> None:
    """Judge the other table that ALTER TABLE ties to this one, or unties from it.

    Raises:
        ClientError: One of them alone is temporary, or one is governed or tied to what is governed.
    """
    what = "ALTER TABLE with another table"
    other = changed(a, definition.get("name", definition), what, "ddl.alter")
    own = [each.schema == "pg_temp" for each in (table, other)]
    if any(own) and not all(own):
        raise ddl_refused(f"{what}, where one is temporary and the other is not")
    for each in (table, other):
        check_unread(each)
        if each.schema == "pg_temp":
            continue  # The session's own, as CREATE TEMP TABLE with INHERITS or PARTITION OF ties them.
        check_unfiltering(a, each.schema, each.name, what, rows=True)
        note_moved(a, each)
        # Foreign keys are checked, and those of a partitioned table become the partition's.
        if not keys_free(a, each):
            raise governed_refused(f'{what} of "{each.name}", with a foreign key')
    bound(a, definition.get("bound", {}))


def bound(a: Analysis, values: Node) -> None:
    """Check the bounds of a partition."""
    for key in ("listdatums", "lowerdatums", "upperdatums"):
        for item in values.get(key, ()):
            kind, value = unwrap(item)
            if kind == "ColumnRef" and strings(value["fields"]) in (["minvalue"], ["maxvalue"]):
                a.visit(value)
            else:
                expression(a, item, Level(None))


def keys_free(a: Analysis, table: Resolved) -> bool:
    """Say whether no foreign key ties a table, or what inherits from it, to what a policy speaks of.

    The keys of a table that the transaction made were judged when they were made.
    """
    return table.relation is None or _keys_free(a, table.relation, set())


def _keys_free(a: Analysis, relation: Relation | None, seen: set[int]) -> bool:
    catalog = a.context.catalog
    if catalog is None or relation is None:
        return False
    if relation.oid in seen:
        return True
    seen.add(relation.oid)
    others = (each.other for each in relation.couplings if each.other is not None)
    if any(tied_to_governed(a, catalog.by_oid.get(oid)) for oid in others):
        return False
    return all(_keys_free(a, catalog.by_oid.get(oid), seen) for oid in relation.children)
