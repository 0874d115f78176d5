"""Type names in statements, and which casts and comparisons can raise."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sluice_proxy.catalog.model import ColumnType
from sluice_proxy.facts.analysis import Analysis, constant_string
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.traits import Trait
from sluice_proxy.facts.tree import Node, strings

_MORE = frozenset(
    {"any", "record", "cstring", "void", "name", "char", "unknown", "refcursor", "trigger"}
)
_TEXT = frozenset({"text", "varchar", "bpchar", "name", "char"})
_PLAIN = frozenset(
    [
        "text",
        "date",
        "uuid",
        "json",
        "jsonb",
        "bytea",
        "money",
        "inet",
        "cidr",
        "macaddr",
        "name",
        "xml",
        "point",
    ]
)
"""Types whose constants decide nothing but their value, written without pg_catalog."""
_WIDENING = {
    "pg_catalog.int2": frozenset({"int4", "int8", "numeric", "float8", "float4"}),
    "pg_catalog.int4": frozenset({"int8", "numeric", "float8"}),
    "pg_catalog.int8": frozenset({"numeric", "float8"}),
    "pg_catalog.date": frozenset({"date"}),
    "pg_catalog.uuid": frozenset({"uuid"}),
}
_FLOATS = frozenset({"pg_catalog.float4", "pg_catalog.float8"})
_SMALL_INTERVAL = re.compile(
    r"\s*-?\d{1,4}\s*(sec|second|min|minute|hour|day|week|mon|month)s?\s*|\s*-?\d{1,3}\s*years?\s*",
    re.IGNORECASE,
)


def check_type(a: Analysis, body: Node) -> None:
    """Resolve a type name, and qualify it when it is not PostgreSQL's own.

    Raises:
        ClientError: Its meaning could be another one than it seems.
    """
    a.visit(body)
    names = strings(body.get("names"))
    if body.get("pct_type") or not names:
        raise not_understood("a type given by %TYPE")
    for item in body.get("typmods", ()):
        if "A_Const" not in item and "ColumnRef" not in item:
            raise not_understood("a type modifier that is not a constant")
        if "ColumnRef" in item:
            a.visit(item["ColumnRef"])
    if not a.enforcing or names[0] in ("pg_catalog", "information_schema"):
        return
    if len(names) > 1:
        return
    name = names[0]
    if name in a.context.temporary:
        raise refused(
            f'type "{name}" is ambiguous',
            detail="A temporary table of this session has the type's name, and PostgreSQL would prefer it.",
            hint=f"Write pg_catalog.{name}, or drop the temporary table.",
        )
    schemas = (
        a.context.catalog.types.get(name, frozenset()) if a.context.catalog else frozenset[str]()
    )
    owner = next(
        (schema for schema in a.context.search_path if schema in schemas or schema == "pg_catalog"),
        None,
    )
    if name in a.allow.types or name in _MORE:
        if owner not in (None, "pg_catalog"):
            raise refused(f'type "{name}" is ambiguous', hint=f"Write pg_catalog.{name}.")
        return
    owner = next((schema for schema in a.context.search_path if schema in schemas), None)
    if owner is not None and "location" in body:
        index = a.tokens.at(body["location"])
        if a.tokens.name(index) == name:
            a.replace(index, a.tokens.name_end(index), f"{quoted(owner)}.{quoted(name)}")


def base(body: Node) -> str:
    """Return the bare name of a type."""
    return (strings(body.get("names")) or [""])[-1]


def plain(body: Node) -> bool:
    """Say whether a constant cast to it decides nothing but its own value."""
    names = strings(body.get("names"))
    return names[0] == "pg_catalog" or names[-1] in _PLAIN


def text_name(body: Node) -> bool:
    """Say whether it is one of the text types."""
    return base(body) in _TEXT and not body.get("arrayBounds")


def text_like(type_: ColumnType | None) -> bool:
    """Say whether LIKE on it is PostgreSQL's own text operator."""
    return type_ is None or type_.base_name.removeprefix("pg_catalog.") in _TEXT


def built_in(type_: ColumnType) -> bool:
    """Say whether comparing values of the type runs PostgreSQL's own total code."""
    if type_.category == "E":
        return True
    if type_.category in ("C", "P", "A") and type_.element is not None:
        return type_.element.startswith("pg_catalog.")
    return type_.base_name.startswith("pg_catalog.") and type_.category not in ("C", "P")


def total_cast(source: ColumnType | None, target: Node) -> bool:
    """Say whether a cast cannot raise for any value of the source type."""
    if target.get("arrayBounds"):
        return False
    name = base(target)
    if source is None:
        return False
    if name in ("text", "varchar"):
        return built_in(source)
    if target.get("typmods"):
        return False
    return source.base_name == f"pg_catalog.{name}" or name in _WIDENING.get(
        source.base_name, frozenset()
    )


def comparable(sides: Sequence[Trait]) -> bool:
    """Say whether comparing needs no cast that can overflow."""
    names = {side.type.base_name for side in sides if side.type is not None}
    return not ("pg_catalog.numeric" in names and names & _FLOATS)


def small_interval(cast: Node) -> bool:
    """Say whether this is a literal interval of at most some hundred years."""
    value = constant_string({"TypeCast": cast})
    return (
        base(cast["typeName"]) == "interval"
        and value is not None
        and _SMALL_INTERVAL.fullmatch(value) is not None
    )
