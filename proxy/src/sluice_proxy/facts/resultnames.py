"""The names that PostgreSQL gives result columns that have none."""

from __future__ import annotations

from typing import Any

from sluice_proxy.facts.tree import Node, strings, unwrap


def figured(node: Node) -> tuple[str | None, int]:
    """Return the column name that PostgreSQL gives an expression, and how strongly (FigureColname)."""
    kind, body = unwrap(node)
    if kind == "ColumnRef":
        return strings([f for f in body["fields"] if "String" in f])[-1], 2
    if kind == "A_Indirection":
        steps = [step for step in body["indirection"] if "String" in step]
        return (strings(steps)[-1], 2) if steps else figured(body["arg"])
    if kind == "FuncCall":
        return strings(body["funcname"])[-1], 2
    if kind == "A_Expr":
        return ("nullif", 2) if body["kind"] == "AEXPR_NULLIF" else (None, 0)
    if kind == "TypeCast":
        name, strength = figured(body["arg"])
        return (name, strength) if strength > 1 else (strings(body["typeName"].get("names"))[-1], 1)
    if kind == "CollateClause":
        return figured(body["arg"])
    if kind == "CaseExpr":
        name, strength = figured(body["defresult"]) if "defresult" in body else (None, 0)
        return (name, strength) if strength > 1 else ("case", 1)
    if kind == "SubLink":
        return _figured_sublink(body)
    if kind in ("MinMaxExpr", "JsonFuncExpr", "XmlExpr"):
        name = body["op"].removeprefix("IS_").removesuffix("_OP").lower()
        return (name, 2) if name != "document" else (None, 0)
    if kind == "SQLValueFunction":
        return body["op"].removeprefix("SVFOP_").removesuffix("_N").lower(), 2
    return _FIGURED.get(kind, (None, 0))


_FIGURED: dict[str, tuple[str, int]] = {
    "A_ArrayExpr": ("array", 2),
    "RowExpr": ("row", 2),
    "CoalesceExpr": ("coalesce", 2),
    "GroupingFunc": ("grouping", 2),
    "XmlSerialize": ("xmlserialize", 2),
    "JsonObjectConstructor": ("json_object", 2),
    "JsonArrayConstructor": ("json_array", 2),
    "JsonArrayQueryConstructor": ("json_array", 2),
    "JsonObjectAgg": ("json_objectagg", 2),
    "JsonArrayAgg": ("json_arrayagg", 2),
    "JsonParseExpr": ("json", 2),
    "JsonScalarExpr": ("json_scalar", 2),
    "JsonSerializeExpr": ("json_serialize", 2),
    "MergeSupportFunc": ("merge_action", 2),
}


def _figured_sublink(body: Node) -> tuple[str | None, int]:
    kind = body["subLinkType"]
    if kind == "EXISTS_SUBLINK":
        return "exists", 2
    if kind == "ARRAY_SUBLINK":
        return "array", 2
    if kind != "EXPR_SUBLINK":
        return None, 0
    _, select = unwrap(body["subselect"])
    while "larg" in select:
        select = select["larg"]
    targets: list[Any] = select.get("targetList") or []
    if not targets:
        return "column1", 2
    _, target = unwrap(targets[0])
    if "name" in target:
        return str(target["name"]), 2
    return figured(target["val"])
