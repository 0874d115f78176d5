"""Views whose rows masked columns decide: that a row is there tells of the value, whatever the view shows of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sluice_proxy.catalog.model import Relation, View
from sluice_proxy.governed.classes import Classes
from sluice_proxy.governed.entries import RowFilters, is_pattern

_NULL_SHOWN = frozenset({"none", "hash", "year", "bucket", "first", "last", "partial", "email"})
"""Masks that leave NULL as it is: whether there is a value is no secret."""


@dataclass(slots=True)
class Deciding:
    """Answers for one catalog and one decision; remembers what it has worked out."""

    classes: Classes
    filters: RowFilters
    _known: dict[int, str | None] = field(default_factory=dict[int, "str | None"])

    def denial(self, relation: Relation) -> str | None:
        """Return why nothing may read a view, when a masked column decides its rows and no row filter names it."""
        if relation.oid not in self._known:
            self._known[relation.oid] = None
            if relation.view is not None and not self._declared(relation):
                self._known[relation.oid] = self._of_view(relation, relation.view)
        return self._known[relation.oid]

    def _declared(self, relation: Relation) -> bool:
        return any(not is_pattern(f.table) for f in self.filters.matching(relation.qualified))

    def _of_view(self, relation: Relation, view: View) -> str | None:
        catalog = self.classes.catalog
        below = [base for oid in sorted(view.relations) if (base := catalog.by_oid.get(oid))]
        for base in below:
            inherited = self.denial(base)
            if inherited is not None:
                return f'view "{relation.qualified}" reads "{base.qualified}": {inherited}'
        decided = view.decided_by
        if decided is None:
            decided = frozenset((base.oid, each.name) for base in below for each in base.columns)
        for oid, name in sorted(decided | view.decided_by_null):
            base = catalog.by_oid.get(oid)
            if base is None or base.column(name) is None:
                continue
            mask = self.classes.column(base, name).mask.kind
            if mask == "none" or ((oid, name) not in decided and mask in _NULL_SHOWN):
                continue
            return (
                f'which rows view "{relation.qualified}" has may hang on column "{name}" of "{base.qualified}", '
                f'which is masked; add a rowFilters entry for "{relation.qualified}" to the policy, '
                "with where or exempt: true"
            )
        return None
