"""Turns the rows of the catalog queries into a ``Catalog``. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from sluice_proxy.catalog.lineage import view_of
from sluice_proxy.catalog.lineage_queries import FunctionKnowledge, LineageSource
from sluice_proxy.catalog.model import (
    Catalog,
    Column,
    Coupling,
    Function,
    Relation,
    RelationKind,
)
from sluice_proxy.catalog.types import TypeTable

Row = Mapping[str, Any]

SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema"})
_NOT_LISTED = Function(
    0, "pg_temp", "a function that is not listed", "a function that is not listed", 0
)
HASH_SIGNATURE = "sluice.hash(text)"
"""The function that ``sluice sql hash`` prints for the database's owner."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Everything one read of the catalog returned, by query."""

    server: Row
    schemas: Sequence[Row]
    extensions: Sequence[Row]
    types: Sequence[Row]
    types_with_equality: Sequence[Row]
    typmods: Sequence[Row]
    collations: Sequence[Row]
    relations: Sequence[Row]
    attributes: Sequence[Row]
    inheritance: Sequence[Row]
    constraints: Sequence[Row]
    indexes: Sequence[Row]
    partition_keys: Sequence[Row]
    generated: Sequence[Row]
    rules_and_triggers: Sequence[Row]
    sequence_owners: Sequence[Row]
    views: Sequence[Row]
    functions: Sequence[Row]
    builtin_functions: Sequence[Row]
    set_functions: Sequence[Row]
    operators: Sequence[Row]


@dataclass(slots=True)
class _Index:
    """The rows of the snapshot, by relation."""

    attributes: dict[int, list[Row]]
    generated: dict[tuple[int, str], set[int]]
    couplings: dict[int, set[Coupling]] = field(default_factory=lambda: defaultdict(set))
    primary_keys: dict[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])
    deferrable: set[int] = field(default_factory=set[int])
    """Relations whose primary key may be broken until a transaction ends."""
    parents: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    children: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def names(self, relation: int, numbers: Iterable[int]) -> frozenset[str]:
        """Return the columns of these numbers; a 0 (the whole row, an expression) means all."""
        wanted = set(numbers)
        return frozenset(
            a["name"]
            for a in self.attributes.get(relation, ())
            if a["number"] in wanted or 0 in wanted
        )

    def row_key(self, relation: int, kind: str) -> tuple[str, ...]:
        """Return the primary key where it is unique at every moment and over all that the relation's queries meet."""
        shared = kind != "p" and bool(self.children.get(relation))
        return () if shared or relation in self.deferrable else self.primary_keys.get(relation, ())

    def name(self, relation: int, number: int) -> str | None:
        return next(
            (a["name"] for a in self.attributes.get(relation, ()) if a["number"] == number), None
        )


def build(rows: Rows, version: int, functions: FunctionKnowledge) -> Catalog:
    """Return the catalog of one snapshot under that version."""
    index = _index(rows)
    types = TypeTable(
        rows.types, rows.typmods, rows.collations, rows.types_with_equality, index.attributes
    )
    flags = {row["oid"]: row for row in rows.rules_and_triggers}
    partition_keys = {row["relation"]: _partition_key(row, index) for row in rows.partition_keys}
    owners = {row["sequence"]: (row["relation"], row["name"]) for row in rows.sequence_owners}
    plain: dict[int, Relation] = {}
    for row in rows.relations:
        if row["kind"] == "c":
            continue
        oid = row["oid"]
        columns = tuple(_column(a, types, index) for a in index.attributes.get(oid, ()))
        flag = flags.get(oid)
        plain[oid] = Relation(
            oid=oid,
            schema=row["schema"],
            name=row["name"],
            kind=RelationKind(row["kind"]),
            columns=columns,
            attributes_max=len(columns),
            primary_key=index.primary_keys.get(oid, ()),
            row_key=index.row_key(oid, row["kind"]),
            parents=tuple(sorted(index.parents.get(oid, ()))),
            children=tuple(sorted(index.children.get(oid, ()))),
            couplings=tuple(sorted(index.couplings.get(oid, ()), key=_order_of_couplings)),
            has_rules=bool(flag and flag["has_rules"]),
            has_triggers=bool(flag and flag["has_triggers"]),
            owned_by=owners.get(oid),
            partition_key=partition_keys.get(oid, frozenset()),
        )
    called = _functions(rows.functions)
    operators = _operators(rows.operators)
    source = LineageSource(
        by_name={(r.schema, r.name): r for r in plain.values()},
        functions=functions,
        operators=operators,
        set_functions=frozenset((row["schema"], row["name"]) for row in rows.set_functions),
    )
    by_oid = _with_views(plain, rows.views, source, called)
    return _assemble(rows, by_oid, version, called, operators)


def _operators(rows: Iterable[Row]) -> Mapping[str, frozenset[str]]:
    operators: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        operators[row["name"]].add(row["schema"])
    return {name: frozenset(schemas) for name, schemas in operators.items()}


def _assemble(
    rows: Rows,
    by_oid: Mapping[int, Relation],
    version: int,
    functions: Mapping[str, tuple[Function, ...]],
    operators: Mapping[str, frozenset[str]],
) -> Catalog:
    sealed = any(
        f.signature == HASH_SIGNATURE and row["sealed"]
        for row in rows.functions
        for f in functions.get(row["name"], ())
        if f.oid == row["oid"]
    )
    types: dict[str, set[str]] = defaultdict(set)
    for row in rows.types:
        if row["schema"] != "pg_catalog":
            types[row["name"]].add(row["schema"])
    indexes: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for row in rows.indexes:
        table = by_oid.get(row["relation"])
        if table is not None:
            indexes[row["name"]].add((table.schema, table.oid))
    return Catalog(
        database=rows.server["database"],
        version=version,
        server_major=rows.server["major"],
        relations={(r.schema, r.name): r for r in by_oid.values()},
        by_oid=by_oid,
        functions=functions,
        operators=operators,
        types={name: frozenset(schemas) for name, schemas in types.items()},
        schemas=frozenset(row["name"] for row in rows.schemas),
        builtin_functions=_shared(tuple(rows.builtin_functions[0]["names"])),
        hash_function="sluice.hash" if sealed else None,
        extensions={row["name"]: row["schema"] for row in rows.extensions},
        indexes={name: frozenset(found) for name, found in indexes.items()},
    )


@lru_cache(maxsize=8)
def _shared(names: tuple[str, ...]) -> frozenset[str]:
    """Return the names as one set for all catalogs that have the same: they are thousands."""
    return frozenset(names)


def _functions(rows: Iterable[Row]) -> Mapping[str, tuple[Function, ...]]:
    functions: dict[str, list[Function]] = defaultdict(list)
    for row in rows:
        arguments = ", ".join(row["arguments"])
        functions[row["name"]].append(
            Function(
                oid=row["oid"],
                schema=row["schema"],
                name=row["name"],
                signature=f"{row['schema']}.{row['name']}({arguments})",
                argument_count=row["argument_count"],
                extension=row["extension"],
            )
        )
    return {
        name: tuple(sorted(found, key=lambda f: f.signature)) for name, found in functions.items()
    }


def _index(rows: Rows) -> _Index:
    attributes: dict[int, list[Row]] = defaultdict(list)
    for row in rows.attributes:
        attributes[row["relation"]].append(row)
    generated: dict[tuple[int, str], set[int]] = defaultdict(set)
    for row in rows.generated:
        generated[row["relation"], row["name"]].add(row["reads"])
    index = _Index(attributes=attributes, generated=generated)
    for row in rows.inheritance:
        index.parents[row["child"]].append(row["parent"])
        index.children[row["parent"]].append(row["child"])
    for row in rows.constraints:
        _add_constraint(row, index)
    for row in rows.indexes:
        _add_index(row, index)
    for (relation, name), numbers in generated.items():
        columns = index.names(relation, (n for n in numbers if n)) | {name}
        index.couplings[relation].add(Coupling("row_value", columns))
    for row in rows.partition_keys:
        _add_partition_key(row["relation"], _partition_key(row, index), index)
    return index


def _order_of_couplings(coupling: Coupling) -> tuple[str, list[str], int, bool, bool, str]:
    other = coupling.other or 0
    ends = (coupling.referred, coupling.overlaps, coupling.acts)
    return (coupling.kind, sorted(coupling.columns), other, *ends)


def _partition_key(row: Row, index: _Index) -> frozenset[str]:
    return index.names(row["relation"], [n for n in [*row["columns"], *row["reads"]] if n])


def _add_partition_key(relation: int, columns: frozenset[str], index: _Index) -> None:
    """Tie the columns of a partition key: which partition a changed row belongs to hangs on all of them."""
    if len(columns) < 2:
        return
    index.couplings[relation].add(Coupling("row_value", columns))
    for child in index.children.get(relation, ()):
        _add_partition_key(child, columns, index)


def _add_constraint(row: Row, index: _Index) -> None:
    relation = row["relation"]
    numbers = row["columns"] or [0]
    kind = "row_value" if row["kind"] == "c" else "key"
    columns = index.names(relation, numbers)
    if columns:
        other = row["other"] if row["kind"] == "f" else None
        index.couplings[relation].add(Coupling(kind, columns, other, overlaps=row["overlaps"]))
    if row["kind"] == "p":
        if row["deferrable"]:
            index.deferrable.add(relation)
        names = (index.name(relation, number) for number in numbers)
        index.primary_keys[relation] = tuple(name for name in names if name is not None)
    if row["kind"] == "f":
        other = index.names(row["other"], row["other_columns"] or [0])
        index.couplings[row["other"]].add(
            Coupling("key", other, relation, referred=True, acts=row["acts"])
        )


def _add_index(row: Row, index: _Index) -> None:
    relation = row["relation"]
    reads = {number for number in row["reads"] or () if number > 0}
    reads.update(number for number in row["columns"] if number > 0)
    # An index without any column of its own reads the row as a whole.
    columns = index.names(relation, reads or {0})
    if row["is_key"]:
        index.couplings[relation].add(Coupling("key", columns))
    if row["has_expressions"] or len(columns) > 1:
        index.couplings[relation].add(Coupling("row_value", columns))


def _column(row: Row, types: TypeTable, index: _Index) -> Column:
    reads = index.generated.get((row["relation"], row["name"]), set())
    return Column(
        number=row["number"],
        name=row["name"],
        type=types.column_type(row["type"], row["typmod"], row["collation"]),
        not_null=row["not_null"],
        generated=row["generated"] != "",
        identity=row["identity"] != "",
        reads=index.names(row["relation"], (n for n in reads if n)),
        default=row["default_sql"],
    )


def _with_views(
    plain: Mapping[int, Relation],
    views: Iterable[Row],
    source: LineageSource,
    functions: Mapping[str, tuple[Function, ...]],
) -> dict[int, Relation]:
    """Add lineage to the views among the relations."""
    by_function = {each.oid: each for found in functions.values() for each in found}
    by_oid = dict(plain)
    for row in views:
        relation = plain.get(row["oid"])
        if relation is None:
            continue
        view = view_of(
            relation,
            row["definition"],
            frozenset(row["relations"]),
            source,
            called=tuple(by_function.get(oid, _NOT_LISTED) for oid in row["functions"]),
        )
        by_oid[relation.oid] = replace(relation, view=view)
    return by_oid
