"""Builds the mask expressions."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from sluice_proxy.catalog.model import Catalog, Column, ColumnType
from sluice_proxy.decisions import Mask
from sluice_proxy.masks.constants import constant_sql, null_sql

_TEXT = frozenset({"pg_catalog.text", "pg_catalog.varchar", "pg_catalog.bpchar"})
_DATES = frozenset({"pg_catalog.date", "pg_catalog.timestamp", "pg_catalog.timestamptz"})
_INTEGERS = {
    "pg_catalog.int2": -(2**15),
    "pg_catalog.int4": -(2**31),
    "pg_catalog.int8": -(2**63),
}
_NUMBERS = frozenset({*_INTEGERS, "pg_catalog.numeric", "pg_catalog.float4", "pg_catalog.float8"})
_BUCKET_EDGE_DIGITS = 30
_BUCKET_EDGE = f"1e{_BUCKET_EDGE_DIGITS}"
"""Beyond this a number without declared precision falls into one bucket: multiplying it again could overflow."""

OWN_VALUE = "value"
"""How an expression mask names the column that it masks; a class has columns of many names."""

_KINDS = {
    "hash": "text types and uuid",
    "year": "date, timestamp and timestamptz",
    "bucket": "smallint, integer, bigint, numeric, real and double precision",
    "first": "text types",
    "last": "text types",
    "partial": "text types",
    "email": "text types",
}


def fits(mask: Mask, type_: ColumnType) -> str | None:
    """Return None when the mask can be applied to the type, else why not, as half a sentence."""
    name = type_.base_name
    match mask.kind:
        case "null" | "redact" | "none" | "expression":
            return None
        case "hash":
            ok = _is_text(name) or name == "pg_catalog.uuid"
        case "year":
            ok = name in _DATES
        case "bucket":
            ok = name in _NUMBERS
        case "first" | "last" | "partial" | "email":
            ok = _is_text(name)
        case _:
            return f'the mask "{mask.kind}" is not known to this version'
    if ok:
        return None
    return f'the mask "{mask.kind}" is for {_KINDS[mask.kind]}, and the column is of type {name}'


def is_constant(mask: Mask) -> bool:
    """Return whether every value of the column is shown alike (a join on it means nothing)."""
    return mask.kind in {"null", "redact"}


def is_partial(mask: Mask) -> bool:
    """Return whether different values are often shown alike (a join on it multiplies rows)."""
    return mask.kind in {"first", "last", "partial", "email", "year", "bucket"}


def reads(mask: Mask, column: Column) -> frozenset[str]:
    """Return the columns of the row that the mask's expression names."""
    if mask.kind in {"null", "redact"}:
        return frozenset()
    if mask.kind != "expression":
        return frozenset({column.name})
    named = {part[0] for part in mask.parts or () if not isinstance(part, str)}
    return frozenset(column.name if name == OWN_VALUE else name for name in named)


def mask_sql(
    mask: Mask,
    column: Column,
    reference: str,
    catalog: Catalog,
    *,
    references: Callable[[str], str] | None = None,
) -> str:
    """Return the expression that stands for the column.

    Args:
        mask: Must fit the column's type (``fits``); one that does not is taken as ``redact``.
        column: The column.
        reference: How the row's column is written where the expression is put (``s.c3``).
        catalog: Knows the hash function and the schemas of extensions.
        references: The same for the other columns of the row; expression masks may need it.

    Raises:
        ValueError: An expression mask names another column and ``references`` is missing.
    """
    type_ = column.type
    if fits(mask, type_) is not None or (mask.kind == "hash" and catalog.hash_function is None):
        mask = Mask("redact")
    match mask.kind:
        case "none":
            return reference
        case "null" if not column.not_null and not type_.domain_not_null:
            return _collated(null_sql(type_, reference), type_)
        case "null" | "redact":
            constant = constant_sql(type_, catalog)
            return _collated(constant or null_sql(type_, reference), type_)
        case "expression":
            raw = _expression(mask, column, reference, references)
        case "hash":
            raw = _hash(type_, reference, catalog)
        case "year":
            raw = _year(type_, reference)
        case "bucket":
            raw = _bucket(type_, reference, mask)
        case _:
            raw = _text(mask, column, reference)
    return _collated(f"({raw})::{type_.base_sql}", type_)


def _is_text(name: str) -> bool:
    return name in _TEXT or name.rpartition(".")[2] == "citext"


def _collated(sql: str, type_: ColumnType) -> str:
    return f"({sql} COLLATE {type_.collation})" if type_.collation else sql


def _expression(
    mask: Mask, column: Column, reference: str, references: Callable[[str], str] | None
) -> str:
    pieces: list[str] = []
    for part in mask.parts or ("NULL",):
        if isinstance(part, str):
            pieces.append(part)
        elif part[0] in {column.name, OWN_VALUE}:
            pieces.append(reference)
        elif references is not None:
            pieces.append(references(part[0]))
        else:
            raise ValueError(f'the mask of column "{column.name}" reads column "{part[0]}"')
    return "".join(pieces)


def _hash(type_: ColumnType, reference: str, catalog: Catalog) -> str:
    hashed = f"{catalog.hash_function}(({reference})::pg_catalog.text)"
    if type_.base_name == "pg_catalog.uuid":
        return f"pg_catalog.md5({hashed})"
    return hashed


def _text(mask: Mask, column: Column, reference: str) -> str:
    value = f"({reference})::pg_catalog.text"
    join = "OPERATOR(pg_catalog.||)"
    match mask.kind:
        case "first":
            shown, needed = f"pg_catalog.left({value}, {mask.count}) {join} '***'", mask.count or 0
        case "last":
            shown, needed = f"'***' {join} pg_catalog.right({value}, {mask.count})", mask.count or 0
        case "partial":
            needed = (mask.first or 0) + (mask.last or 0)
            left = f"pg_catalog.left({value}, {mask.first or 0})"
            right = f"pg_catalog.right({value}, {mask.last or 0})"
            shown = f"{left} {join} '***' {join} {right}"
        case _:
            # One letter before the sign would be the whole of it.
            shown = f"pg_catalog.left({value}, 1) {join} '***@' {join} pg_catalog.split_part({value}, '@', -1)"
            long = f"pg_catalog.strpos({value}, '@') OPERATOR(pg_catalog.>) 2"
            return _case(column, reference, [(long, shown)], "'***'")
    long = f"pg_catalog.length({value}) OPERATOR(pg_catalog.>=) {2 * needed}"
    return _case(column, reference, [(long, shown)], "'***'")


def _case(column: Column, reference: str, whens: list[tuple[str, str]], otherwise: str) -> str:
    null = "" if column.not_null else f"WHEN {reference} IS NULL THEN NULL "
    arms = " ".join(f"WHEN {condition} THEN {value}" for condition, value in whens)
    return f"CASE {null}{arms} ELSE {otherwise} END"


def _year(type_: ColumnType, reference: str) -> str:
    """Return 1 January, UTC. The first year that PostgreSQL knows begins before its first day."""
    match type_.base_name:
        case "pg_catalog.date":
            low, high = "'4712-01-01 BC'::pg_catalog.date", "'infinity'::pg_catalog.date"
            year = f"pg_catalog.extract('year', {reference})::pg_catalog.int4"
            start, first = f"pg_catalog.make_date({year}, 1, 1)", "'4713-11-24 BC'::pg_catalog.date"
        case "pg_catalog.timestamp":
            low, high = "'4712-01-01 BC'::pg_catalog.timestamp", "'infinity'::pg_catalog.timestamp"
            start = f"pg_catalog.date_trunc('year', {reference})"
            first = "'4713-11-24 00:00:00 BC'::pg_catalog.timestamp"
        case _:
            utc = "'0 seconds'::pg_catalog.interval"
            low = "'4712-01-01 00:00:00+00 BC'::pg_catalog.timestamptz"
            high = "'infinity'::pg_catalog.timestamptz"
            local = f"pg_catalog.timezone({utc}, {reference})"
            start = f"pg_catalog.timezone({utc}, pg_catalog.date_trunc('year', {local}))"
            first = "'4713-11-24 00:00:00+00 BC'::pg_catalog.timestamptz"
    endless = f"NOT pg_catalog.isfinite({reference})"
    return (
        f"CASE WHEN {reference} IS NULL OR {endless} THEN {reference} "
        f"WHEN {reference} OPERATOR(pg_catalog.>=) {low} AND {reference} OPERATOR(pg_catalog.<) {high} "
        f"THEN {start} ELSE {first} END"
    )


def _bucket(type_: ColumnType, reference: str, mask: Mask) -> str:
    size = _number(Decimal(str(mask.size)))
    value = f"({reference})::pg_catalog.numeric"
    step = f"{size}::pg_catalog.numeric"
    floor = f"pg_catalog.floor({value} OPERATOR(pg_catalog./) {step}) OPERATOR(pg_catalog.*) {step}"
    least = _INTEGERS.get(type_.base_name)
    if least is not None:
        return f"GREATEST({floor}, {_number(Decimal(least))}::pg_catalog.numeric)"
    edge = _edge(type_)
    low, high = f"'-{edge}'::pg_catalog.numeric", f"'{edge}'::pg_catalog.numeric"
    nan = "'NaN'::pg_catalog.numeric"
    return (
        f"CASE WHEN {reference} IS NULL THEN NULL WHEN {value} OPERATOR(pg_catalog.=) {nan} THEN {nan} "
        f"WHEN {value} OPERATOR(pg_catalog.>) {high} THEN {high} "
        f"WHEN {value} OPERATOR(pg_catalog.<) {low} THEN {low} ELSE GREATEST({floor}, {low}) END"
    )


def _edge(type_: ColumnType) -> str:
    """Return the largest value of a numeric with declared precision, if that is below the general edge."""
    _, _, parameters = type_.base_sql.partition("(")
    if type_.base_name != "pg_catalog.numeric" or not parameters:
        return _BUCKET_EDGE
    precision, _, scale = parameters.rstrip(")").partition(",")
    digits, places = int(precision), int(scale or 0)
    return f"{'9' * digits}e{-places}" if digits - places <= _BUCKET_EDGE_DIGITS else _BUCKET_EDGE


def _number(value: Decimal) -> str:
    return f"'{value:f}'"
