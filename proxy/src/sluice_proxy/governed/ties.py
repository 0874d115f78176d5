"""What hangs together with a governed relation."""

from __future__ import annotations

from collections.abc import Container

from sluice_proxy.catalog.model import Catalog, Relation


def tied(catalog: Catalog, governed: Container[int], relation: Relation | None) -> bool:
    """Say whether a relation is governed, or one that it inherits from, is inherited by or reads.

    Args:
        catalog: Where the relation is from.
        governed: By oid.
        relation: None: one that the catalog does not have, which counts as tied.
    """
    return _tied(catalog, governed, relation, set())


def _tied(
    catalog: Catalog, governed: Container[int], relation: Relation | None, seen: set[int]
) -> bool:
    if relation is None:
        return True
    if relation.oid in seen:
        return False
    seen.add(relation.oid)
    if relation.oid in governed:
        return True
    below = relation.view.relations if relation.view else ()
    around = (*relation.children, *relation.parents, *below)
    return any(_tied(catalog, governed, catalog.by_oid.get(oid), seen) for oid in around)
