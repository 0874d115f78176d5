"""One consistent snapshot of a database's catalog, as far as judging statements needs it. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class RelationKind(StrEnum):
    """``pg_class.relkind`` of what a FROM clause can name."""

    TABLE = "r"
    PARTITIONED = "p"
    VIEW = "v"
    MATERIALIZED_VIEW = "m"
    FOREIGN_TABLE = "f"
    SEQUENCE = "S"


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column's type, with domains resolved down to what the wire shows."""

    oid: int
    """Of the declared type (the domain, when it is one)."""
    base_oid: int
    """Of the type below all domains."""
    base_sql: str
    """Base type with typmod, qualified, to be put behind ``::`` (``pg_catalog.varchar(255)``)."""
    base_name: str
    """``schema.typname`` of the base type, unquoted; arrays have their element's name in ``element``."""
    category: str
    """``pg_type.typcategory`` of the base type (S string, N number, D date, B boolean, E enum, A array,
    C composite, R range, U other …)."""
    element: str | None
    """``schema.typname`` of an array's element type, else None."""
    collation: str | None
    """Qualified and quoted collation when it is not the type's default, else None."""
    enum_first: str | None = None
    """First label of an enum, else None."""
    has_equality: bool = True
    """False for json, xml, point …: cannot stand in GROUP BY."""
    fields: tuple[tuple[str, ColumnType], ...] = ()
    """Live attributes of a composite, in order; empty for every other type and below the first level."""
    domain_not_null: bool = False
    """The declared type is a NOT NULL domain, or one over such a one; drivers take the column for NOT NULL."""
    checks: tuple[str, ...] = ()
    """CHECK expressions over VALUE of the declared domain and those below it, as ``pg_get_expr`` prints them under an
    empty search_path."""


@dataclass(frozen=True, slots=True)
class Column:
    """One live column. Dropped ones keep their number and do not appear."""

    number: int
    """attnum, from 1; positions of dropped columns are gaps."""
    name: str
    type: ColumnType
    not_null: bool
    generated: bool
    """A stored or virtual generated column."""
    identity: bool
    reads: frozenset[str] = frozenset()
    """Columns of the same table that a generated column's expression reads."""
    default: str | None = None
    """The default as ``pg_get_expr`` prints it under an empty search_path; None: no default, or generated."""


@dataclass(frozen=True, slots=True)
class Function:
    """One function or aggregate outside pg_catalog, or a pg_catalog one when asked for."""

    oid: int
    schema: str
    name: str
    signature: str
    """``schema.name(type, type)`` with input types as ``format_type`` prints them under an empty search_path."""
    argument_count: int
    extension: str | None = None
    """The extension that owns it, else None."""


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """Where one output column of a view comes from."""

    sources: frozenset[tuple[int, str]] | None
    """(relation oid, column) pairs whose values can show in it; None when the lineage is not known."""
    direct: tuple[int, str] | None
    """The one column it is, unchanged, row by row; None when it is an expression or an aggregate."""


@dataclass(frozen=True, slots=True)
class View:
    """The definition of a view or materialized view, as far as lineage goes."""

    columns: Mapping[str, ViewColumn]
    relations: frozenset[int]
    """All relations it depends on, directly."""
    row_wise: bool
    """True when its rows are rows of one base relation (no grouping, set operation, DISTINCT, LIMIT or window)."""
    row_base: int | None = None
    """The base relation when ``row_wise``."""
    decided_by: frozenset[tuple[int, str]] | None = frozenset()
    """(relation oid, column) pairs that decide which rows there are and their order, by conditions, joins, grouping;
    None when that is not known."""
    decided_by_null: frozenset[tuple[int, str]] = frozenset()
    """The same of pairs of which only IS NULL is asked."""
    decided_by_calls: frozenset[Function] = frozenset()
    """Functions and operators on which its rows may hang and that may read anything: all outside pg_catalog, and of
    pg_catalog those that tell of more than their arguments and the session. Operators have the oid 0."""


@dataclass(frozen=True, slots=True)
class Coupling:
    """A column of a constraint, index or generated column that ties it to other columns of its row (SQL.md §8)."""

    kind: str
    """"key" (unique, exclusion, foreign key; own or referencing) or "row_value" (CHECK, generated, expression or
    multi-column index, predicate)."""
    columns: frozenset[str]
    """All columns of this relation that take part."""
    other: int | None = None
    """Of a foreign key: oid of the relation at its other end."""
    referred: bool = False
    """Of a foreign key: this relation is the one that is referred to."""
    overlaps: bool = False
    """Of an exclusion constraint or a temporal key (foreign ones too): not only equal values meet, so that one can
    be searched."""
    acts: str = ""
    """Of a foreign key, at the end that is referred to: what becomes of the rows that refer. ``u``: UPDATE changes
    them; ``d`` and ``s``: DELETE deletes or changes them."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, view, sequence or alike."""

    oid: int
    schema: str
    name: str
    kind: RelationKind
    columns: tuple[Column, ...]
    """Ordered by number."""
    attributes_max: int
    """Number of alias columns a reference takes: live columns only (PostgreSQL counts those)."""
    primary_key: tuple[str, ...] = ()
    row_key: tuple[str, ...] = ()
    """The primary key, when no two rows that its queries meet can ever share it: it is not deferrable, and no children
    but partitions bring rows of their own."""
    parents: tuple[int, ...] = ()
    """Oids of inheritance or partition parents, direct."""
    children: tuple[int, ...] = ()
    view: View | None = None
    couplings: tuple[Coupling, ...] = ()
    has_rules: bool = False
    has_triggers: bool = False
    owned_by: tuple[int, str] | None = None
    """For a sequence: the table and column that own it."""
    partition_key: frozenset[str] = frozenset()
    """Columns that the partition key of a partitioned table reads."""

    @property
    def qualified(self) -> str:
        """``schema.name``, unquoted, as policies write it."""
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> Column | None:
        """Return the live column of that name."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class Catalog:
    """A snapshot. ``version`` grows with every difference seen; equal versions mean equal content."""

    database: str
    """PostgreSQL's database name."""
    version: int
    server_major: int
    relations: Mapping[tuple[str, str], Relation]
    """By (schema, name); pg_catalog and information_schema included, pg_temp schemas not."""
    by_oid: Mapping[int, Relation]
    functions: Mapping[str, tuple[Function, ...]]
    """Functions outside pg_catalog and information_schema, by bare name."""
    operators: Mapping[str, frozenset[str]]
    """Schemas other than pg_catalog that have an operator of this name which no extension owns."""
    types: Mapping[str, frozenset[str]]
    """Schemas other than pg_catalog that have a type of this name (row types of tables included)."""
    schemas: frozenset[str]
    builtin_functions: frozenset[str] = frozenset()
    """Names of the functions in pg_catalog; empty: not known."""
    hash_function: str | None = None
    """Qualified name of the installed ``sluice sql hash`` function, None when it is not there."""
    extensions: Mapping[str, str] | None = None
    """Schema of each installed extension."""
    indexes: Mapping[str, frozenset[tuple[str, int]]] = field(
        default_factory=dict[str, frozenset[tuple[str, int]]]
    )
    """By name: the schemas that have such an index, each with the oid of the indexed table."""

    def relation(self, schema: str, name: str) -> Relation | None:
        """Return what ``schema.name`` is."""
        return self.relations.get((schema, name))
