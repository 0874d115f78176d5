"""Names: quoting, and what a name means under a search_path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sluice_proxy.catalog.model import Relation
from sluice_proxy.decisions import SessionContext, TemporaryRelation


def quoted(name: str) -> str:
    """Return the name as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Return the value as a string constant (standard_conforming_strings is on)."""
    if "\\" in value:
        return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + value.replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a relation name means for a session."""

    schema: str
    name: str
    relation: Relation | None = None
    temporary: TemporaryRelation | None = None
    found: bool = True

    @property
    def sql(self) -> str:
        """The name to splice in: qualified and quoted."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"


def resolve(context: SessionContext, schema: str | None, name: str) -> Resolved:
    """Return what ``schema.name`` is, by the rules of PostgreSQL's relation look-up.

    A name that is nowhere becomes one of the session's temporary schema: PostgreSQL says that it does not exist, and a
    table that the catalog snapshot has not seen yet cannot be meant by it.
    """
    if schema is not None:
        return _in_schema(context, schema, name) or _unknown(context, schema, name)
    path = context.search_path
    if "pg_temp" not in path:
        path = ("pg_temp", *path)
    if "pg_catalog" not in path:
        path = (path[0], "pg_catalog", *path[1:])
    for candidate in path:
        found = _in_schema(context, candidate, name)
        if found is not None:
            return found
    fallback = next((s for s in path if s not in ("pg_temp", "pg_catalog")), "public")
    return _unknown(context, fallback, name)


def _unknown(context: SessionContext, schema: str, name: str) -> Resolved:
    return Resolved("pg_temp" if context.catalog else schema, name, found=False)


def _in_schema(context: SessionContext, schema: str, name: str) -> Resolved | None:
    temporary: Mapping[str, TemporaryRelation] = context.temporary
    if schema == "pg_temp":
        return Resolved("pg_temp", name, temporary=temporary[name]) if name in temporary else None
    relation = context.catalog.relation(schema, name) if context.catalog else None
    if relation is not None:
        return Resolved(schema, name, relation=relation)
    made = context.made.get((schema, name))
    return None if made is None else Resolved(schema, name, temporary=made)
