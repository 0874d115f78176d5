"""Masked values as a domain takes them, so that a row may have the table's own type."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from sluice_proxy.catalog.model import Catalog, ColumnType
from sluice_proxy.facts.tree import Node, parse, strings, unwrap
from sluice_proxy.masks import constant_sql
from sluice_proxy.reports import ClientError

_OPERATORS = frozenset(
    [
        *("=", "<>", "<", "<=", ">", ">="),
        *("~", "~*", "!~", "!~*", "~~", "~~*", "!~~", "!~~*"),
    ]
)
_FUNCTIONS = frozenset(
    [
        *("length", "char_length", "character_length", "octet_length", "lower", "upper"),
        *("btrim", "ltrim", "rtrim", "strpos", "position", "starts_with", "reverse"),
    ]
)
"""They raise for no value, and give NULL for NULL."""
_TEXT_TYPES = frozenset({"text", "varchar", "bpchar"})
_PREFIX = "SELECT "
_Truth = Literal["true", "false", "null", "open"]
"""What a CHECK says of NULL; ``open`` is anything."""


class _UnknownCheckError(Exception):
    """The CHECK holds something that may raise, or that is not PostgreSQL's own."""


@dataclass(frozen=True, slots=True)
class _Check:
    """One CHECK, every name in it qualified."""

    parts: tuple[str, ...]
    """What stands around VALUE."""
    of_null: _Truth


@dataclass(slots=True)
class _Reading:
    text: str
    edits: list[tuple[int, int, str | None]] = field(
        default_factory=list[tuple[int, int, str | None]]
    )
    """Byte ranges and what takes their place; None for VALUE."""


def accepted(type_: ColumnType, value: str, catalog: Catalog) -> str | None:
    """Return a masked value as one that the domain takes: it is NULL, or a constant, where the domain would refuse it.

    Args:
        type_: The column's.
        value: The mask, as SQL; may be repeated.
        catalog: For the constant.

    Returns:
        None when that cannot be promised for every value.
    """
    if not type_.checks:
        if not type_.domain_not_null:
            return value
        constant = constant_sql(type_, catalog)
        return f"COALESCE({value}, {constant})" if constant else None
    checks = [_check(text) for text in type_.checks]
    known = [check for check in checks if check is not None]
    null_passes = not type_.domain_not_null and all(
        check.of_null in ("true", "null") for check in known
    )
    if len(known) < len(checks) or not null_passes:
        return None
    held = " AND ".join(f"({f'({value})'.join(check.parts)}) IS NOT FALSE" for check in known)
    return f"CASE WHEN {held} THEN {value} END"


@lru_cache(maxsize=1024)
def _check(text: str) -> _Check | None:
    reading = _Reading(_PREFIX + text)
    try:
        (statement,) = parse(reading.text.encode())
        (target,) = statement.body["targetList"]
        of_null = _walk(reading, unwrap(target)[1]["val"])
    except (_UnknownCheckError, ClientError, KeyError, ValueError, TypeError):
        return None
    return _Check(_cut(reading), of_null)


def _cut(reading: _Reading) -> tuple[str, ...]:
    source = reading.text.encode()
    parts: list[str] = []
    built, at = "", len(_PREFIX)
    for start, end, replacement in sorted(reading.edits, key=lambda edit: edit[:2]):
        built += source[at:start].decode()
        at = end
        if replacement is None:
            parts.append(built)
            built = ""
        else:
            built += replacement
    return (*parts, built + source[at:].decode())


def _walk(reading: _Reading, node: Node) -> _Truth:
    kind, body = unwrap(node)
    if kind == "BoolExpr":
        return _combined(body["boolop"], [_walk(reading, item) for item in body["args"]])
    if kind == "NullTest":
        if _value(reading, body["arg"]) != "null":
            return "open"
        return "true" if body["nulltesttype"] == "IS_NULL" else "false"
    return _value(reading, node)


def _combined(operator: str, sides: list[_Truth]) -> _Truth:
    if operator == "NOT_EXPR":
        turned: dict[_Truth, _Truth] = {"true": "false", "false": "true"}
        return turned.get(sides[0], sides[0])
    deciding: _Truth = "false" if operator == "AND_EXPR" else "true"
    for candidate in (deciding, "open", "null"):
        if candidate in sides:
            return candidate
    return "true" if operator == "AND_EXPR" else "false"


def _value(reading: _Reading, node: Node) -> _Truth:
    """Walk what raises for no value; ``null`` when it is NULL for a NULL VALUE."""
    kind, body = unwrap(node)
    if kind == "A_Const":
        return "open"
    if kind == "SQLValueFunction" and body["op"] == "SVFOP_CURRENT_DATE":
        return "open"
    if kind == "ColumnRef" and strings(body["fields"]) == ["value"]:
        start = body["location"]
        reading.edits.append((start, start + len("VALUE"), None))
        return "null"
    if kind == "TypeCast":
        return _cast(reading, body)
    if kind == "A_Expr":
        return _operator(reading, body)
    if kind == "FuncCall":
        return _call(reading, body)
    if kind == "A_ArrayExpr":
        sides = [_value(reading, item) for item in body["elements"]]
        if "null" in sides:
            raise _UnknownCheckError
        return "open"
    raise _UnknownCheckError


def _operator(reading: _Reading, body: Node) -> _Truth:
    names = strings(body["name"])
    if len(names) != 1 or names[0] not in _OPERATORS or "lexpr" not in body:
        raise _UnknownCheckError
    several = body["kind"] in ("AEXPR_OP_ANY", "AEXPR_OP_ALL")
    if body["kind"] != "AEXPR_OP" and not several:
        raise _UnknownCheckError
    sides = [_value(reading, body["lexpr"]), _value(reading, body["rexpr"])]
    if several and (sides[1] == "null" or not _listed(body["rexpr"])):
        raise _UnknownCheckError
    start = body["location"]
    end = start + len(names[0])
    if reading.text.encode()[start:end] != names[0].encode():
        raise _UnknownCheckError
    reading.edits.append((start, end, f"OPERATOR(pg_catalog.{names[0]})"))
    return "null" if "null" in sides else "open"


def _listed(node: Node) -> bool:
    """Say whether it is a list with an element: of an empty one, ANY and ALL say what they say of nothing."""
    while "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    return bool(node.get("A_ArrayExpr", {}).get("elements"))


def _call(reading: _Reading, body: Node) -> _Truth:
    names = strings(body["funcname"])
    if (len(names) > 1 and names[0] != "pg_catalog") or names[-1] not in _FUNCTIONS:
        raise _UnknownCheckError
    if body.keys() - {"funcname", "args", "funcformat", "location"}:
        raise _UnknownCheckError
    if len(names) == 1:
        reading.edits.append((body["location"], body["location"], "pg_catalog."))
    sides = [_value(reading, item) for item in body.get("args", ())]
    return "null" if "null" in sides else "open"


def _cast(reading: _Reading, body: Node) -> _Truth:
    inner = _value(reading, body["arg"])
    type_ = body["typeName"]
    names = strings(type_["names"])
    if len(names) > 2 or (len(names) == 2 and names[0] != "pg_catalog"):
        raise _UnknownCheckError
    if inner == "null" and (
        names[-1] not in _TEXT_TYPES or "typmods" in type_ or "arrayBounds" in type_
    ):
        raise _UnknownCheckError
    if len(names) == 1:
        reading.edits.append((type_["location"], type_["location"], "pg_catalog."))
    return inner
