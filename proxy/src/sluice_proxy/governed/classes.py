"""Which class each column has: by entries, by inheritance, by what generated and view columns read."""

from __future__ import annotations

from dataclasses import dataclass, field

from sluice_proxy import allowlists
from sluice_proxy.catalog.model import Catalog, Relation
from sluice_proxy.decisions import Mask
from sluice_proxy.governed.entries import (
    PUBLIC_HOLDING,
    UNREVIEWED,
    Entries,
    Holding,
    strictest_holding,
)
from sluice_proxy.masks.order import REDACT, derived, strictest, strictness

SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema"})

_Key = tuple[int, str]


@dataclass(slots=True)
class Classes:
    """Answers for one catalog and one decision; remembers what it has worked out."""

    catalog: Catalog
    entries: Entries
    _held: dict[_Key, Holding | None] = field(default_factory=dict[_Key, Holding | None])
    _effective: dict[_Key, Holding] = field(default_factory=dict[_Key, Holding])

    def column(self, relation: Relation, name: str) -> Holding:
        """Return the class and mask that hold for a column; ``PUBLIC_HOLDING`` when nothing does."""
        key = (relation.oid, name)
        known = self._effective.get(key)
        if known is None:
            # Views cannot form a cycle; should a snapshot say so, its columns are strict.
            self._effective[key] = self._unknown()
            known = self._effective[key] = self._find(relation, name)
        return known

    def _find(self, relation: Relation, name: str) -> Holding:
        if relation.schema in SYSTEM_SCHEMAS:
            return self._of_catalog(relation, name)
        if relation.view is not None:
            return self._of_view(relation, name)
        held = self._with_generated(relation, name)
        if held is None:
            held = self._unreviewed()
        children = (self.catalog.by_oid.get(oid) for oid in relation.children)
        below = [self.column(c, name) for c in children if c is not None and c.column(name)]
        return strictest_holding([held, *below])

    def _unreviewed(self) -> Holding:
        if not self.entries.decision.unreviewed_masked:
            return PUBLIC_HOLDING
        return self.entries.holding(UNREVIEWED)

    def _from_above(self, relation: Relation, name: str) -> Holding | None:
        """Return what entries say of the column here or in a parent; None when nothing."""
        key = (relation.oid, name)
        if key in self._held:
            return self._held[key]
        found = [self.entries.match(relation.qualified, name)]
        for oid in relation.parents:
            parent = self.catalog.by_oid.get(oid)
            if parent is not None and parent.column(name) is not None:
                found.append(self._from_above(parent, name))
        said = [holding for holding in found if holding is not None]
        self._held[key] = strictest_holding(said) if said else None
        return self._held[key]

    def _with_generated(self, relation: Relation, name: str) -> Holding | None:
        held = self._from_above(relation, name)
        column = relation.column(name)
        if column is None or not column.reads or (held is not None and held.named):
            return held
        read = strictest_holding(self.column(relation, other) for other in column.reads)
        read = Holding(read.class_, derived(read.mask))
        return read if held is None else strictest_holding([held, read])

    def _of_view(self, relation: Relation, name: str) -> Holding:
        said = self.entries.match(relation.qualified, name)
        if said is not None and said.named:
            return said
        shown = self._lineage(relation, name)
        return shown if said is None else strictest_holding([said, shown])

    def _lineage(self, relation: Relation, name: str) -> Holding:
        view = relation.view
        column = view.columns.get(name) if view is not None else None
        if column is None or column.sources is None:
            return self._unknown()
        found: list[Holding] = []
        for oid, source in column.sources:
            base = self.catalog.by_oid.get(oid)
            if base is None or base.column(source) is None:
                return self._unknown()
            holding = self.column(base, source)
            direct = column.direct == (oid, source)
            mask = holding.mask if direct else derived(holding.mask)
            found.append(Holding(holding.class_, mask))
        return strictest_holding(found) if found else PUBLIC_HOLDING

    def _unknown(self) -> Holding:
        """Return the strictest class that the decision knows, shown as nothing."""
        masks = dict(self.entries.decision.masks)
        if not self.entries.decision.unreviewed_masked:
            masks.pop(UNREVIEWED, None)
        if not masks:
            return (
                PUBLIC_HOLDING if not self.entries.decision.entries else Holding(UNREVIEWED, REDACT)
            )
        class_ = max(masks, key=lambda name: (strictness(masks[name]), name))
        mask = masks[class_]
        if mask.kind == "none":
            return Holding(class_, mask)
        return Holding(class_, strictest([mask, REDACT]))

    def _of_catalog(self, relation: Relation, name: str) -> Holding:
        """Return what a view over a catalog may show: what the catalog itself would."""
        try:
            access = allowlists.for_major(self.catalog.server_major).relation(relation.qualified)
        except allowlists.UnsupportedMajorError:
            return Holding(UNREVIEWED, REDACT)
        if access.denied or access.replaced(name) is not None:
            return Holding(UNREVIEWED, Mask("null"))
        return PUBLIC_HOLDING
