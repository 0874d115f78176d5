"""Type names in statements, and which casts and comparisons can raise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from sluice_proxy.catalog.model import ColumnType
from sluice_proxy.facts.analysis import Analysis, constant_string
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.traits import Trait, joined, leaking
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
    if tuple(names) in a.types and "typmods" not in body and "pct_type" not in body:
        return
    if body.get("pct_type") or not names:
        raise not_understood("a type given by %TYPE")
    for item in body.get("typmods", ()):
        if "A_Const" not in item and "ColumnRef" not in item:
            raise not_understood("a type modifier that is not a constant")
        if "ColumnRef" in item:
            a.visit(item["ColumnRef"])
    if not a.enforcing or len(names) > 1:
        a.types.add(tuple(names))
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
        a.types.add(tuple(names))
        return
    owner = next((schema for schema in a.context.search_path if schema in schemas), None)
    if owner is not None and "location" in body:
        index = a.tokens.at(body["location"])
        if a.tokens.name(index) == name:
            a.replace(index, a.tokens.name_end(index), f"{quoted(owner)}.{quoted(name)}")


def base(body: Node) -> str:
    """Return the bare name of a type."""
    return (strings(body.get("names")) or [""])[-1]


def base_of(body: Node) -> str | None:
    """Return ``schema.typname`` of one of PostgreSQL's own types; None for every other, and for arrays."""
    names = strings(body.get("names"))
    if body.get("arrayBounds") or (len(names) > 1 and names[0] != "pg_catalog"):
        return None
    name = names[-1]
    return f"pg_catalog.{name}" if name in _KNOWN else None


_KNOWN = frozenset(
    [
        *("bool", "bytea", "int2", "int4", "int8", "numeric", "float4", "float8", "money", "oid"),
        *("text", "varchar", "bpchar", "name", "char", "date", "timestamp", "timestamptz", "time"),
        *("timetz", "interval", "uuid", "json", "jsonb", "inet", "cidr", "bit", "varbit"),
    ]
)


def plain(body: Node) -> bool:
    """Say whether a constant cast to it decides nothing but its own value."""
    names = strings(body.get("names"))
    return names[0] == "pg_catalog" or names[-1] in _PLAIN


def text_name(body: Node) -> bool:
    """Say whether it is one of the text types."""
    return base(body) in _TEXT and not body.get("arrayBounds")


def text_like(side: Trait) -> bool:
    """Say whether LIKE on it is PostgreSQL's own text operator, under a collation that has it."""
    if side.base is not None and side.base not in _STRINGS:
        return False
    return ordinary_collation(side)


def ordinary_collation(side: Trait) -> bool:
    """Say whether searching in it never raises: collations that somebody made may be nondeterministic."""
    return side.collation is None or side.collation.startswith("pg_catalog.")


def built_in(type_: ColumnType) -> bool:
    """Say whether comparing values of the type runs PostgreSQL's own total code.

    Types without equality for sorting or hashing are out: their comparisons compute areas and lengths, which overflow.
    """
    if not type_.has_equality:
        return False
    if type_.category == "E":
        return True
    if type_.category in ("C", "P", "A") and type_.element is not None:
        return type_.element.startswith("pg_catalog.")
    return type_.base_name.startswith("pg_catalog.") and type_.category not in ("C", "P")


def constant_total(body: Node) -> bool:
    """Say whether a constant of the named type may be an operand of the total operators."""
    return base(body) not in _UNORDERED


_UNORDERED = frozenset({"box", "circle", "json", "line", "lseg", "path", "point", "polygon", "xml"})


def total_cast(source: ColumnType | None, target: Node) -> bool:
    """Say whether a cast cannot raise for any value of the source type."""
    if target.get("arrayBounds"):
        return False
    name = base(target)
    if source is None:
        return False
    if name in ("text", "varchar"):
        return source.category == "E" or source.base_name.startswith("pg_catalog.")
    if target.get("typmods"):
        return False
    return source.base_name == f"pg_catalog.{name}" or name in _WIDENING.get(
        source.base_name, frozenset()
    )


_INTEGERS = frozenset({"pg_catalog.int2", "pg_catalog.int4", "pg_catalog.int8"})
_NUMBERS = _INTEGERS | _FLOATS | {"pg_catalog.numeric"}
_STRINGS = frozenset(f"pg_catalog.{name}" for name in _TEXT)
_MOMENTS = frozenset({"pg_catalog.date", "pg_catalog.timestamp", "pg_catalog.timestamptz"})
_TOGETHER = (
    _INTEGERS | {"pg_catalog.numeric"},
    _INTEGERS | _FLOATS,
    _STRINGS,
    frozenset({"pg_catalog.inet", "pg_catalog.cidr"}),
    frozenset({"pg_catalog.bit", "pg_catalog.varbit"}),
)
"""Types that PostgreSQL brings together by casts that never raise."""


def known(base_name: str) -> bool:
    """Say whether this is one of PostgreSQL's own types whose comparisons never raise."""
    name = base_name.removeprefix("pg_catalog.")
    return name in _KNOWN and name not in _UNORDERED


def declared_alike(sides: list[Trait]) -> list[Trait]:
    """Take a parameter whose declared type is the very type of the column beside it for an ordinary one."""
    if not any(side.parameter for side in sides):
        return sides
    declared = {
        f"pg_catalog.oid {s.type.base_oid}" for s in sides if s.value and s.type is not None
    }
    return [
        replace(side, kind="const", base=None) if side.parameter and side.base in declared else side
        for side in sides
    ]


def comparable(sides: Sequence[Trait], *, any_type: bool = False) -> bool:
    """Say whether comparing needs no cast that can raise; of ``any_type``, only collations and rows are looked at."""
    names = {side.base for side in sides if side.base is not None and not any_type}
    rows = [side.parts for side in sides if side.parts]
    if rows and len(rows) == 2 and not all(comparable(pair) for pair in zip(*rows, strict=False)):
        return False
    if _collations_differ(sides):
        return False
    if len(names) < 2 or names <= _MOMENTS or any(names <= group for group in _TOGETHER):
        return True
    if names <= _NUMBERS:
        # A declared precision keeps a numeric within what a float holds.
        return all(
            side.type is not None and "(" in side.type.base_sql
            for side in sides
            if side.base == "pg_catalog.numeric" and side.kind != "const"
        )
    return False


def _widest(names: set[str]) -> str | None:
    order = (
        *sorted(_INTEGERS),
        "pg_catalog.numeric",
        "pg_catalog.float4",
        "pg_catalog.float8",
        "pg_catalog.text",
    )
    return max(names, key=lambda name: order.index(name) if name in order else 0, default=None)


def _collations_differ(sides: Sequence[Trait]) -> bool:
    """Comparing strings of two collations raises once a row is there, not before; the database's own gives way."""
    return len({found for side in sides if (found := collation_of(side)) is not None}) > 1


def collation_of(side: Trait) -> str | None:
    """Return an operand's collation where it is not the database's; names have one of their own."""
    if side.collation is None and side.base == "pg_catalog.name" and side.columns:
        return 'pg_catalog."C"'
    return side.collation


def blended(sides: Sequence[Trait]) -> Trait:
    """Return the trait of values brought to one type, as CASE, COALESCE and UNION do."""
    if len(sides) > 8:  # Long lists hold few different ones.
        sides = list({id(side): side for side in sides}.values())
    names = {side.base for side in sides if side.base is not None}
    fits = len(names) < 2 or any(names <= group for group in _TOGETHER)
    if not fits or _collations_differ(sides):
        return leaking(sides)
    whole = joined(sides, kind="total", base=_widest(names))
    if all(side.kind == "const" for side in sides):
        whole.kind = "const"
    return whole


def small_interval(cast: Node) -> bool:
    """Say whether this is a literal interval of at most some hundred years."""
    value = constant_string({"TypeCast": cast})
    return (
        base(cast["typeName"]) == "interval"
        and value is not None
        and _SMALL_INTERVAL.fullmatch(value) is not None
    )
