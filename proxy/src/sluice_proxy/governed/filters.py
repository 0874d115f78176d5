"""Which rows each relation may show: filters of tables, and how they follow into children and views (SQL.md §9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sluice_proxy.catalog.model import Catalog, Relation, RelationKind, View
from sluice_proxy.decisions import Parts
from sluice_proxy.governed.entries import RowFilters, is_exempt, is_pattern

BASE_ALIAS = "sluice_base"
"""What an EXISTS that reaches for a view's base table calls it."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One row filter over a relation's own columns."""

    parts: Parts
    policy: str


@dataclass(frozen=True, slots=True)
class Rows:
    """What of a relation's rows may be seen."""

    filters: tuple[Filter, ...] = ()
    denial: str | None = None


def columns_of(parts: Parts) -> frozenset[str]:
    """Return the columns that an expression names."""
    return frozenset(part[0] for part in parts if not isinstance(part, str))


def replace_columns(parts: Parts, replacement: Callable[[str], str | tuple[str]]) -> Parts:
    """Return the expression with every column replaced by another column or by text."""
    return tuple(part if isinstance(part, str) else replacement(part[0]) for part in parts)


def quoted_name(name: str) -> str:
    """Return an identifier, always quoted."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(slots=True)
class RowRules:
    """Answers for one catalog and one decision; remembers what it has worked out."""

    catalog: Catalog
    filters: RowFilters
    _known: dict[int, Rows] = field(default_factory=dict[int, Rows])

    def rows(self, relation: Relation) -> Rows:
        """Return the filters that hold for a relation, or why nothing may read it."""
        known = self._known.get(relation.oid)
        if known is None:
            self._known[relation.oid] = Rows(denial=f'"{relation.qualified}" is defined by itself')
            known = self._view(relation, relation.view) if relation.view else self._table(relation)
            self._known[relation.oid] = known
        return known

    def _own(self, relation: Relation) -> list[Filter]:
        """Return the filters of a table and of its parents."""
        found = [
            Filter(f.parts, f.policy)
            for f in self.filters.matching(relation.qualified)
            if not is_exempt(f)
        ]
        for oid in relation.parents:
            parent = self.catalog.by_oid.get(oid)
            if parent is not None:
                found.extend(self._own(parent))
        return _distinct(found)

    def _table(self, relation: Relation) -> Rows:
        own = self._own(relation)
        names = {column.name for column in relation.columns}
        for row_filter in own:
            missing = sorted(columns_of(row_filter.parts) - names)
            if missing:
                return Rows(
                    denial=f'the row filter of policy {row_filter.policy} reads column "{missing[0]}", which '
                    f'table "{relation.qualified}" does not have'
                )
        held = {row_filter.parts for row_filter in own}
        for child in self._descendants(relation):
            if any(f.parts not in held for f in self._own(child)):
                return Rows(
                    denial=f'rows of "{child.qualified}" are filtered, and "{relation.qualified}" shows them too; '
                    "the policy must filter both alike"
                )
        return Rows(tuple(own))

    def _descendants(self, relation: Relation) -> list[Relation]:
        found: list[Relation] = []
        for oid in relation.children:
            child = self.catalog.by_oid.get(oid)
            if child is not None:
                found.extend([child, *self._descendants(child)])
        return found

    def _view(self, relation: Relation, view: View) -> Rows:
        declared: set[str] = set()
        own: list[Filter] = []
        names = {column.name for column in relation.columns}
        for row_filter in self.filters.matching(relation.qualified):
            missing = columns_of(row_filter.parts) - names
            if not is_pattern(row_filter.table):
                declared.add(row_filter.policy)
                if missing:
                    return Rows(
                        denial=f'the row filter of policy {row_filter.policy} reads column "{min(missing)}", '
                        f'which view "{relation.qualified}" does not have'
                    )
            if not missing and not is_exempt(row_filter):
                own.append(Filter(row_filter.parts, row_filter.policy))
        if self._may_read_anything(view) and not declared:
            return Rows(
                denial=f'it is not known which rows view "{relation.qualified}" reads; {_way_out(relation)}'
            )
        for oid in sorted(view.relations):
            inherited = self._inherited(relation, view, oid, declared)
            if inherited.denial is not None:
                return inherited
            own.extend(inherited.filters)
        return Rows(tuple(_distinct(own)))

    def _may_read_anything(self, view: View) -> bool:
        unknown = any(column.sources is None for column in view.columns.values())
        return unknown and not view.row_wise and self.filters.any

    def _inherited(self, relation: Relation, view: View, oid: int, declared: set[str]) -> Rows:
        """Return what the filters of one relation that the view reads become over the view."""
        base = self.catalog.by_oid.get(oid)
        if base is None:
            return Rows()
        rows = self.rows(base)
        if rows.denial is not None:
            return Rows(
                denial=f'view "{relation.qualified}" reads "{base.qualified}": {rows.denial}'
            )
        found: list[Filter] = []
        for row_filter in rows.filters:
            if row_filter.policy in declared:
                continue
            parts = (
                self._carried(relation, base, view, row_filter) if view.row_base == oid else None
            )
            if parts is None:
                return Rows(
                    denial=f'rows of "{base.qualified}" are filtered by policy {row_filter.policy}, and view '
                    f'"{relation.qualified}" shows neither what the filter reads nor the key; {_way_out(relation)}'
                )
            found.append(Filter(parts, row_filter.policy))
        return Rows(tuple(found))

    def _carried(
        self, relation: Relation, base: Relation, view: View, row_filter: Filter
    ) -> Parts | None:
        exposed: dict[str, str] = {}
        for name, column in view.columns.items():
            if column.direct is not None and column.direct[0] == base.oid:
                exposed.setdefault(column.direct[1], name)
        if columns_of(row_filter.parts) <= exposed.keys():
            return replace_columns(row_filter.parts, lambda name: (exposed[name],))
        # What is stored may be older than the table: a key can have passed to another row since.
        fresh = relation.kind is not RelationKind.MATERIALIZED_VIEW
        if fresh and base.view is None and base.row_key and set(base.row_key) <= exposed.keys():
            return _exists(base, exposed, row_filter)
        return None


def _exists(base: Relation, exposed: Mapping[str, str], row_filter: Filter) -> Parts | None:
    """Return ``EXISTS (…)`` that finds the base row by its key, pinned to the table that was judged (SQL.md §4)."""
    positions = {column.name: f"c{i}" for i, column in enumerate(base.columns, 1)}
    keys = [base.column(name) for name in base.row_key]
    if any(key is None or not key.type.base_name.startswith("pg_catalog.") for key in keys):
        return None
    table = f"{quoted_name(base.schema)}.{quoted_name(base.name)}"
    literal = table.replace("'", "''")
    if "\\" in literal:
        return None
    parts: list[str | tuple[str]] = [
        f"(EXISTS (SELECT FROM {table} {BASE_ALIAS}({', '.join(positions.values())}) WHERE "
    ]
    for name in base.row_key:
        parts += [
            f"{BASE_ALIAS}.{positions[name]} OPERATOR(pg_catalog.=) ",
            (exposed[name],),
            " AND ",
        ]
    parts.append(
        f"(1 OPERATOR(pg_catalog./) ('{literal}'::pg_catalog.regclass::pg_catalog.oid "
        f"OPERATOR(pg_catalog.=) '{base.oid}'::pg_catalog.oid)::pg_catalog.int4) OPERATOR(pg_catalog.=) 1 AND "
    )
    parts.extend(replace_columns(row_filter.parts, lambda name: f"{BASE_ALIAS}.{positions[name]}"))
    parts.append("))")
    return tuple(parts)


def _way_out(relation: Relation) -> str:
    return f'add a rowFilters entry for "{relation.qualified}" to the policy, with where or exempt: true'


def _distinct(filters: list[Filter]) -> list[Filter]:
    return list(dict.fromkeys(filters))
