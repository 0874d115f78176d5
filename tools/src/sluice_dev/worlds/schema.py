"""What the restricted identity finds in the database: relations, columns by kind, functions by kind of argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
import yaml

KINDS: Mapping[str, str] = {
    "text": "text", "character varying": "text", "citext": "text", "name": "text", "character": "text",
    "smallint": "int", "integer": "int", "bigint": "int",
    "numeric": "num", "boolean": "bool", "date": "date",
    "timestamp with time zone": "ts", "timestamp without time zone": "ts",
    "jsonb": "jsonb", "json": "json", "text[]": "texts", "uuid": "uuid", "bytea": "bytea", "xml": "xml",
    "interval": "interval", "double precision": "float", "real": "float", "inet": "inet", "tsvector": "tsvector",
    "integer[]": "ints",
}  # fmt: skip
"""Kinds of expressions, by PostgreSQL's type name; every other type is the kind ``other``."""

_RELATIONS = """
SELECT n.nspname, c.relname, c.relkind::text, a.attname,
       pg_catalog.format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END, NULL),
       a.attgenerated <> '' OR a.attidentity <> '',
       pg_catalog.has_table_privilege(%(role)s, c.oid, 'INSERT')
         AND pg_catalog.pg_relation_is_updatable(c.oid, false) & 28 = 28
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%%'
  AND n.nspname <> 'information_schema'
  AND pg_catalog.has_schema_privilege(%(role)s, n.oid, 'USAGE')
  AND pg_catalog.has_table_privilege(%(role)s, c.oid, 'SELECT')
ORDER BY 1, 2, a.attnum
"""
_CATALOG = """
SELECT n.nspname, c.relname, 'c', a.attname, pg_catalog.format_type(a.atttypid, NULL), false, false
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relkind IN ('r', 'v') AND n.nspname IN ('pg_catalog', 'information_schema')
  AND n.nspname || '.' || c.relname = ANY (%(names)s)
ORDER BY 1, 2, a.attnum
"""
_FUNCTIONS = """
SELECT p.proname::text, pg_catalog.format_type(p.prorettype, NULL),
       ARRAY(SELECT pg_catalog.format_type(x, NULL) FROM unnest(p.proargtypes::oid[]) x), p.proretset
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.proname = ANY (%(names)s)
  AND p.pronargs BETWEEN 1 AND 4 AND p.prorettype <> 'trigger'::regtype
ORDER BY 1, p.oid
"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a relation."""

    name: str
    type: str
    kind: str
    generated: bool
    secret: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view; ``weight`` says how often it is drawn."""

    schema: str
    name: str
    kind: str
    columns: tuple[Column, ...]
    writable: bool
    weight: int

    @property
    def sql(self) -> str:
        """The qualified, quoted name."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"


@dataclass(frozen=True, slots=True)
class Function:
    """A function of pg_catalog over kinds that can be generated."""

    name: str
    kind: str
    arguments: tuple[str, ...]
    types: tuple[str, ...]
    many: bool


@dataclass(frozen=True, slots=True)
class Schema:
    """All of it."""

    relations: tuple[Relation, ...]
    catalog: tuple[Relation, ...]
    functions: tuple[Function, ...]
    major: int = 15
    """Of the server: newer ones know more."""


def quoted(name: str) -> str:
    """Return the name as an identifier of SQL, quoted where it must be."""
    plain = name.isascii() and name.replace("_", "a").isalnum() and name == name.lower()
    return name if plain and not name[0].isdigit() else '"' + name.replace('"', '""') + '"'


def secrets(classification: str) -> tuple[frozenset[tuple[str, str]], frozenset[str]]:
    """Return classified columns and the names of all classified tables of a DataClassification's YAML text."""
    columns: set[tuple[str, str]] = set()
    tables: set[str] = set()
    for document in yaml.safe_load_all(classification):
        for entry in document["spec"].get("columns", []):
            if entry["class"] != "public":
                columns.add((entry["table"], entry["column"]))
                tables.add(entry["table"])
    return frozenset(columns), frozenset(tables)


def read(
    admin: psycopg.Connection[Any],
    *,
    role: str,
    classification: str,
    functions: list[str],
    catalog: Mapping[str, bool],
    unread: tuple[str, ...] = (),
) -> Schema:
    """Look at the database.

    Args:
        admin: A superuser's connection to it.
        role: The restricted identity.
        classification: The DataClassification's YAML text.
        functions: Names of pg_catalog's functions to draw from.
        catalog: Qualified names of catalog relations to draw from, and whether they may be read.
        unread: Qualified names of relations to leave alone.
    """
    hidden, tables = secrets(classification)
    kinds: list[Function] = []
    for name, result, arguments, many in admin.execute(_FUNCTIONS, {"names": functions}):
        if all(one in KINDS for one in arguments):
            own = tuple(KINDS[one] for one in arguments)
            kinds.append(Function(name, KINDS.get(result, "other"), own, tuple(arguments), many))
    rows = [
        row
        for row in admin.execute(_RELATIONS, {"role": role})
        if f"{row[0]}.{row[1]}" not in unread
    ]
    return Schema(
        relations=_relations(rows, hidden, tables),
        catalog=_relations(
            admin.execute(_CATALOG, {"names": sorted(catalog)}).fetchall(),
            frozenset(),
            frozenset(name for name, readable in catalog.items() if readable),
            weight=8,
        ),
        functions=tuple(kinds),
        major=admin.info.server_version // 10000,
    )


def _relations(
    rows: list[Any], hidden: frozenset[tuple[str, str]], tables: frozenset[str], weight: int = 3
) -> tuple[Relation, ...]:
    found: dict[tuple[str, str], list[Any]] = {}
    for row in rows:
        found.setdefault((row[0], row[1]), []).append(row)
    made: list[Relation] = []
    named = {column for _table, column in hidden}
    for (schema, name), members in found.items():
        table = f"{schema}.{name}"
        view = members[0][2] in "vm"
        columns = tuple(
            Column(
                name, kind, KINDS.get(kind, "other"), generated,
                # A view shows a table's columns under their names, as a rule.
                secret=(table, name) in hidden or (view and name in named),
            )
            for _schema, _relation, _kind, name, kind, generated, _writable in members
        )  # fmt: skip
        often = weight if table in tables or view else 1
        made.append(Relation(schema, name, members[0][2], columns, members[0][6], often))
    return tuple(made)
