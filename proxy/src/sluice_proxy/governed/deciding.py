"""Views whose rows hidden values decide: that a row is there tells of the value, whatever the view shows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sluice_proxy import allowlists
from sluice_proxy.catalog.model import Function, Relation, View
from sluice_proxy.governed.classes import SYSTEM_SCHEMAS, Classes
from sluice_proxy.governed.entries import RowFilters, is_pattern

_NULL_SHOWN = frozenset({"none", "hash", "year", "bucket", "first", "last", "partial", "email"})
"""Masks that leave NULL as it is: whether there is a value is no secret."""


@dataclass(slots=True)
class Deciding:
    """Answers for one catalog and one decision; remembers what it has worked out."""

    classes: Classes
    filters: RowFilters
    sequences: Mapping[int, str]
    """Why nothing may read a sequence, by oid."""
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
            inherited = self.denial(base) or self.sequences.get(base.oid) or self._of_catalog(base)
            if inherited is not None:
                return f'view "{relation.qualified}" reads "{base.qualified}": {inherited}'
        for function in sorted(view.decided_by_calls, key=lambda each: each.signature):
            if self._hides and not self._harmless(function):
                return (
                    f'which rows view "{relation.qualified}" has may hang on {function.signature}, which may read '
                    f"anything; {_way_out(relation)}"
                )
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
                f"which is masked; {_way_out(relation)}"
            )
        return None

    @property
    def _hides(self) -> bool:
        masks = self.classes.entries.decision.masks.values()
        return self.filters.any or any(mask.kind != "none" for mask in masks)

    def _harmless(self, function: Function) -> bool:
        catalog, decision = self.classes.catalog, self.classes.entries.decision
        if function.signature in decision.trusted_functions:
            return True
        try:
            known = allowlists.for_major(catalog.server_major)
        except allowlists.UnsupportedMajorError:
            return False
        return known.extension_function(function) is not None

    def _of_catalog(self, base: Relation) -> str | None:
        """Return why the rows of a catalog tell something, whatever a view shows of them."""
        if base.schema not in SYSTEM_SCHEMAS:
            return None
        try:
            access = allowlists.for_major(self.classes.catalog.server_major).relation(
                base.qualified
            )
        except allowlists.UnsupportedMajorError as error:
            return str(error)
        return (
            "its rows tell of hidden rows or masked values"
            if access.denied or access.rows
            else None
        )


def _way_out(relation: Relation) -> str:
    return f'add a rowFilters entry for "{relation.qualified}" to the policy, with where or exempt: true'
