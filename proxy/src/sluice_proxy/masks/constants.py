"""The constant that stands for a redacted value of each type."""

from __future__ import annotations

from sluice_proxy.catalog.model import Catalog, ColumnType

_TEXT = "***"
_BY_NAME = {
    "text": _TEXT,
    "varchar": _TEXT,
    "bpchar": _TEXT,
    "name": _TEXT,
    "char": "*",
    "refcursor": _TEXT,
    "bool": "false",
    "int2": "0",
    "int4": "0",
    "int8": "0",
    "numeric": "0",
    "float4": "0",
    "float8": "0",
    "money": "0",
    "oid": "0",
    "xid": "0",
    "xid8": "0",
    "cid": "0",
    "tid": "(0,0)",
    "pg_lsn": "0/0",
    "date": "1970-01-01",
    "timestamp": "1970-01-01 00:00:00",
    "timestamptz": "1970-01-01 00:00:00+00",
    "time": "00:00:00",
    "timetz": "00:00:00+00",
    "interval": "0 seconds",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "bytea": "",
    "json": "{}",
    "jsonb": "{}",
    "jsonpath": "$",
    "xml": "<x/>",
    "tsvector": "",
    "tsquery": "",
    "inet": "0.0.0.0",  # noqa: S104 - no address to bind to
    "cidr": "0.0.0.0/32",
    "macaddr": "00:00:00:00:00:00",
    "macaddr8": "00:00:00:00:00:00:00:00",
    "point": "(0,0)",
    "line": "{1,0,0}",
    "lseg": "[(0,0),(0,0)]",
    "box": "(0,0),(0,0)",
    "path": "((0,0))",
    "polygon": "((0,0))",
    "circle": "<(0,0),0>",
    "int2vector": "",
    "oidvector": "",
    "txid_snapshot": "1:1:",
    "pg_snapshot": "1:1:",
    "int4range": "empty",
    "int8range": "empty",
    "numrange": "empty",
    "daterange": "empty",
    "tsrange": "empty",
    "tstzrange": "empty",
    "int4multirange": "{}",
    "int8multirange": "{}",
    "nummultirange": "{}",
    "datemultirange": "{}",
    "tsmultirange": "{}",
    "tstzmultirange": "{}",
}
_BY_NAME.update(
    dict.fromkeys(
        (
            "regclass",
            "regcollation",
            "regconfig",
            "regdictionary",
            "regnamespace",
            "regoper",
            "regoperator",
            "regproc",
            "regprocedure",
            "regrole",
            "regtype",
        ),
        "0",
    )
)
_BY_EXTENSION_TYPE = {
    "citext": ("citext", _TEXT),
    "hstore": ("hstore", ""),
    "ltree": ("ltree", ""),
    "cube": ("cube", "(0)"),
}
_BITS = {"bit", "varbit"}


def quoted(text: str) -> str:
    """Return a string literal that reads the same whatever ``standard_conforming_strings`` is."""
    if "\\" in text:
        doubled = text.replace("\\", "\\\\").replace("'", "''")
        return f"E'{doubled}'"
    return "'" + text.replace("'", "''") + "'"


def constant_sql(type_: ColumnType, catalog: Catalog) -> str | None:
    """Return the redaction constant cast to base type and typmod; None when the type has no known one."""
    if type_.element is not None:
        return f"'{{}}'::{type_.base_sql}"
    schema, _, name = type_.base_name.partition(".")
    if type_.category == "E":
        return f"{quoted(type_.enum_first)}::{type_.base_sql}" if type_.enum_first else None
    if type_.category == "C":
        return _composite(type_, catalog)
    if schema == "pg_catalog":
        if name in _BITS:
            # From a bit string, not from text: an explicit cast pads and cuts, the input function raises.
            return f"(B'0'::pg_catalog.{name})::{type_.base_sql}"
        text = _BY_NAME.get(name)
        return f"{quoted(text)}::{type_.base_sql}" if text is not None else None
    extension, text = _BY_EXTENSION_TYPE.get(name, ("", ""))
    if extension and (catalog.extensions or {}).get(extension) == schema:
        return f"{quoted(text)}::{type_.base_sql}"
    return None


def null_sql(type_: ColumnType, reference: str) -> str:
    """Return NULL of the column's type."""
    if type_.base_name in {"pg_catalog.anyarray", "pg_catalog.pg_node_tree"}:
        # Catalog columns of types that nothing can be cast to.
        return f"(CASE WHEN false THEN {reference} END)"
    return f"NULL::{type_.base_sql}"


def _composite(type_: ColumnType, catalog: Catalog) -> str | None:
    if not type_.fields:
        return None
    fields: list[str] = []
    for _, field in type_.fields:
        # A domain's CHECK would judge the constant, so such fields are NULL.
        constant = None if field.oid != field.base_oid else constant_sql(field, catalog)
        fields.append(constant or "NULL")
    return f"ROW({', '.join(fields)})::{type_.base_sql}"
