"""Schemas, types and extensions: what a restricted session may define, where the policy has ddl.create and its kin."""

from __future__ import annotations

from sluice_proxy.catalog.model import ColumnType
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.constraints import column, constraint
from sluice_proxy.facts.lasting import ddl_refused, default_schema, governed_refused, made
from sluice_proxy.facts.model import SessionEffects
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.scopes import Level, Source
from sluice_proxy.facts.temporary import qualified_at
from sluice_proxy.facts.tree import Node, strings, unwrap
from sluice_proxy.facts.types import check_type

_REFRESH = SessionEffects(refresh=True)
_DOMAIN_CONSTRAINTS = frozenset(["CONSTR_CHECK", "CONSTR_NOTNULL", "CONSTR_NULL", "CONSTR_DEFAULT"])


def create_schema(a: Analysis, body: Node) -> SessionEffects | None:
    """CREATE SCHEMA."""
    a.kind = "create schema"
    role = body.get("authrole", {})
    if role.get("roletype", "ROLESPEC_CSTRING") == "ROLESPEC_CSTRING" and role:
        if role.get("rolename") != a.context.role:
            raise ddl_refused("CREATE SCHEMA for another role")
    elif role.get("roletype") == "ROLESPEC_PUBLIC":
        raise ddl_refused("CREATE SCHEMA for another role")
    name = body.get("schemaname", a.context.role)
    if body.get("schemaElts"):
        raise not_understood(
            "CREATE SCHEMA with what is to be in it", "Send the definitions one by one."
        )
    if name.startswith("pg_") or name == "information_schema":
        raise ddl_refused(f'CREATE SCHEMA "{name}"')
    a.actions.add("ddl.create")
    catalog = a.context.catalog
    there = catalog is not None and name in catalog.schemas and body.get("if_not_exists")
    if not there and name == a.context.role:
        return _REFRESH  # It may be searched from here on.
    a.nameless, a.placing = True, not there
    return _REFRESH


def create_extension(a: Analysis, body: Node) -> SessionEffects | None:
    """CREATE EXTENSION IF NOT EXISTS of one that is there, which changes nothing."""
    a.kind = "create extension"
    catalog = a.context.catalog
    installed = (catalog.extensions or {}) if catalog is not None else {}
    if not body.get("if_not_exists") or body["extname"] not in installed:
        raise refused(
            f'permission denied to create extension "{body["extname"]}"',
            detail="An extension brings code that Sluice cannot judge; IF NOT EXISTS of one that is installed works.",
            hint="Have the database's owner create the extension, with another role.",
        )
    return None


def _place(a: Analysis, parts: list[str], what: str) -> None:
    """Check the name of a new type, and write out its schema."""
    if len(parts) > 2:
        raise ddl_refused(what)
    schema = parts[0] if len(parts) == 2 else default_schema(a)
    if schema.startswith("pg_") or schema == "information_schema":
        raise ddl_refused(what)
    if parts[-1] in a.allow.types:
        raise refused(
            f'permission denied for {what} of the name "{parts[-1]}"',
            detail="One of PostgreSQL's own types has this name.",
            hint="Choose another name.",
        )
    a.actions.add("ddl.create")
    qualified_at(a, a.span[0] + 2, parts, schema)


def create_enum(a: Analysis, body: Node) -> SessionEffects | None:
    """CREATE TYPE … AS ENUM."""
    a.kind = "create type"
    _place(a, strings(body["typeName"]), "CREATE TYPE")
    a.nameless = True
    return _REFRESH


def create_composite(a: Analysis, body: Node) -> SessionEffects | None:
    """CREATE TYPE … AS (…)."""
    a.kind = "create type"
    a.visit(body["typevar"])
    if made(a, body["typevar"], "CREATE TYPE"):
        raise ddl_refused("CREATE TYPE of a temporary type")
    if body["typevar"]["relname"] in a.allow.types:
        raise ddl_refused("CREATE TYPE with the name of one of PostgreSQL's own types")
    for item in body.get("coldeflist", ()):
        _, element = unwrap(item)
        column(a, element, Level(None))
    a.nameless = True
    return _REFRESH


def create_domain(a: Analysis, body: Node) -> SessionEffects | None:
    """CREATE DOMAIN."""
    a.kind = "create domain"
    _place(a, strings(body["domainname"]), "CREATE DOMAIN")
    catalog = a.context.catalog
    of = strings(body["typeName"]["names"])[-1]
    if catalog is None or any(name == of for _, name in catalog.relations):
        raise refused(
            f'permission denied for CREATE DOMAIN over the rows of "{of}"',
            hint="Make the domain of a type that is no table's.",
        )
    check_type(a, body["typeName"])
    if "collClause" in body and len(strings(body["collClause"]["collname"])) > 1:
        raise not_understood("a collation with a schema")
    level = Level(None)
    level.sources.append(Source("", level, columns=("value",)))
    for item in body.get("constraints", ()):
        _, element = unwrap(item)
        if element["contype"] not in _DOMAIN_CONSTRAINTS:
            raise ddl_refused("constraints of this kind")
        constraint(a, element, level)
    a.nameless = True
    return _REFRESH


def alter_enum(a: Analysis, body: Node) -> SessionEffects | None:
    """ALTER TYPE … ADD VALUE and RENAME VALUE."""
    a.kind = "alter type"
    parts = strings(body["typeName"])
    if "oldVal" in body:
        check_type_changed(a, parts, "ALTER TYPE … RENAME VALUE")
    elif len(parts) > 2 or parts[0].startswith("pg_"):
        raise ddl_refused("ALTER TYPE")
    a.actions.add("ddl.alter")
    a.nameless = True
    return _REFRESH


def rename_type(a: Analysis, body: Node) -> SessionEffects | None:
    """ALTER TYPE … RENAME TO."""
    a.kind = "alter type"
    parts = strings(body["object"]["List"]["items"])
    check_type_changed(a, parts, "ALTER TYPE … RENAME")
    if body["newname"] in a.allow.types:
        raise ddl_refused("ALTER TYPE … RENAME to the name of one of PostgreSQL's own types")
    _check_unspoken(a, body["newname"], "ALTER TYPE … RENAME")
    a.actions.add("ddl.alter")
    a.nameless = True
    return _REFRESH


def check_type_changed(a: Analysis, parts: list[str], what: str) -> None:
    """Check that what a type is called, or its labels, decide nothing for a policy.

    Raises:
        ClientError: A policy's mask or filter names it, or a column of a governed relation is made of it.
    """
    if len(parts) > 2 or parts[0].startswith("pg_") or parts[0] == "information_schema":
        raise ddl_refused(what)
    name = parts[-1]
    _check_unspoken(a, name, what)
    catalog = a.context.catalog
    relations = () if catalog is None else (catalog.by_oid[oid] for oid in a.governed)
    columns = (column for relation in relations for column in relation.columns)
    if catalog is None or any(name in _made_of(column.type) for column in columns):
        raise governed_refused(f'{what} of "{name}"')


def _made_of(kind: ColumnType) -> set[str]:
    """Return the bare names of the types that a column's type is made of."""
    names = {each.partition(".")[2] for each in (kind.base_name, kind.element) if each is not None}
    return names.union(*(_made_of(field) for _, field in kind.fields))


def _check_unspoken(a: Analysis, name: str, what: str) -> None:
    """Check that no text of a policy could mean the type."""
    decision = a.context.decision
    texts = [each.parts for each in decision.row_filters]
    texts += [each.parts for each in decision.masks.values() if each.parts]
    if any(name.lower() in str(part).lower() for parts in texts for part in parts):
        raise governed_refused(f'{what} of "{name}"')


def drop_type(a: Analysis, body: Node) -> SessionEffects | None:
    """DROP TYPE and DOMAIN: what nothing else is made of, or what the catalog does not have."""
    catalog = a.context.catalog
    for item in body["objects"]:
        _, name = unwrap(item)
        a.visit(name)
        parts = strings(name["names"])
        known = catalog is None or parts[-1] in catalog.types or parts[0] == "pg_catalog"
        if known and body.get("behavior") == "DROP_CASCADE":
            raise ddl_refused(f'DROP … CASCADE of type "{parts[-1]}"')
    a.actions.add("ddl.drop")
    a.nameless = True
    return _REFRESH


def drop_schema(a: Analysis, body: Node) -> SessionEffects | None:
    """DROP SCHEMA: one that is empty, or that the catalog does not have."""
    catalog = a.context.catalog
    for item in body["objects"]:
        name = unwrap(item)[1]["sval"]
        known = catalog is None or name in catalog.schemas
        if name.startswith("pg_") or (known and body.get("behavior") == "DROP_CASCADE"):
            raise ddl_refused(f'DROP SCHEMA … CASCADE of "{name}"')
    a.actions.add("ddl.drop")
    return _REFRESH
