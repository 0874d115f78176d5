"""Expressions: every node is known, every column and call is resolved, and what may leak is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from sluice_proxy.facts import calls, columns, documents, joins, types
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.comparing import COMPARISONS, compared, free_literals, small_shift
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.scopes import Level
from sluice_proxy.facts.sublinks import sublink
from sluice_proxy.facts.traits import BOOL, CONSTANT, Trait, joined, leaking
from sluice_proxy.facts.tree import SINCE, Node, strings, unwrap

Handler = Callable[[Analysis, Node, Level], Trait]

_LIKE = frozenset({"AEXPR_LIKE", "AEXPR_ILIKE"})


def expression(a: Analysis, node: Node | None, level: Level) -> Trait:
    """Walk one expression.

    Raises:
        ClientError: Something in it is not known to be harmless.
    """
    if node is None:
        return CONSTANT
    if len(node) != 1:
        raise not_understood("a tree of an unknown form")
    ((kind, body),) = node.items()
    handler = HANDLERS.get(kind)
    if handler is None or body.__class__ is not dict:
        raise not_understood(f"an expression of the kind {kind}")
    if kind in SINCE and a.context.server_major < SINCE[kind]:
        raise not_understood(f"{kind}, which this server reads in another way")
    a.seen.add(id(body))
    return handler(a, body, level)


def every(a: Analysis, nodes: Any, level: Level) -> list[Trait]:
    """Walk a list of expressions."""
    return [expression(a, node, level) for node in nodes or ()]


def _children(*fields: str) -> Handler:
    def handler(a: Analysis, body: Node, level: Level) -> Trait:
        return joined(_fields(a, body, level, fields), kind="total", base=BOOL)

    return handler


def _fields(a: Analysis, body: Node, level: Level, fields: tuple[str, ...]) -> list[Trait]:
    out: list[Trait] = []
    for name in fields:
        value = body.get(name)
        if isinstance(value, list):
            out.extend(every(a, value, level))
        elif isinstance(value, dict):
            out.append(expression(a, cast("Node", value), level))
    return out


def _constant(a: Analysis, body: Node, level: Level) -> Trait:
    del a, level
    if "sval" in body:
        return Trait(kind="const", text=body["sval"].get("sval", ""))
    for key in _NUMBER_KEYS:
        if key in body:
            return _LITERALS[key]
    return CONSTANT


_NUMBER_KEYS = ("ival", "fval", "boolval")
_LITERALS = {
    "ival": Trait(kind="const", base="pg_catalog.int4"),
    "fval": Trait(kind="const", base="pg_catalog.numeric"),
    "boolval": Trait(kind="const", base=BOOL),
}


def _parameter(a: Analysis, body: Node, level: Level) -> Trait:
    del level
    base = a.parameters.base(body.get("number", 0))
    known = base is None or types.known(base)
    return Trait(kind="const" if known else "other", parameter=True, base=base)


def _operator(a: Analysis, body: Node, level: Level) -> Trait:
    kind = body["kind"]
    names = strings(body["name"])
    if kind == "AEXPR_BETWEEN" or kind.startswith(("AEXPR_NOT_BETWEEN", "AEXPR_BETWEEN")):
        for name in ("<", "<=", ">", ">="):
            calls.check_operator(a, [name])
        names = [">="]
    else:
        calls.check_operator(a, names)
    left = expression(a, body.get("lexpr"), level)
    right = expression(a, body.get("rexpr"), level)
    sides = [left, right]
    name = names[-1]
    if a.joining and name == "=" and kind in _EQUALITIES:
        joins.check_equality(left, right)
    if kind in _LIKE:
        total = (
            left.value
            and right.kind == "const"
            and _safe_pattern(right.text)
            and types.text_like(left)
        )
        return joined(sides, kind="total", base=BOOL) if total else leaking(sides)
    if kind in ("AEXPR_SIMILAR", "AEXPR_NULLIF"):
        return leaking(sides)
    if name in COMPARISONS:
        return compared(a, body, left, right)
    if kind == "AEXPR_OP" and name in ("+", "-"):
        sides = types.declared_alike(sides)
        if small_shift(body, sides):
            return joined(sides, kind="total")
    if kind == "AEXPR_OP" and "lexpr" not in body and right.kind == "const" and not right.parameter:
        return joined(sides, kind="const", base=right.base)
    return leaking(sides)


_EQUALITIES = frozenset({"AEXPR_OP", "AEXPR_NOT_DISTINCT"})


def _safe_pattern(pattern: str | None) -> bool:
    if pattern is None:
        return False
    tail = len(pattern) - len(pattern.rstrip("\\"))
    return tail % 2 == 0


def _cast(a: Analysis, body: Node, level: Level) -> Trait:
    inner = expression(a, body["arg"], level)
    type_name = body["typeName"]
    types.check_type(a, type_name)
    base = types.base_of(type_name)
    if inner.kind == "const":
        if inner.parameter and not a.parameters.settled(body["arg"], base, type_name):
            return leaking([inner])
        return Trait(
            kind="const" if types.constant_total(type_name) else "other",
            text=inner.text if types.text_name(type_name) else None,
            base=base,
            parameter=inner.parameter,
        )
    if not inner.leaky and types.total_cast(inner.type, type_name):
        total = Trait(
            kind="total",
            refs=inner.refs,
            columns=inner.columns,
            base=base,
            collation=types.collation_of(inner) if types.text_name(type_name) else None,
            weak=inner.weak,
        )
        return replace(total, type=inner.type if inner.base == base else None)
    return leaking([inner])


def _boolean(a: Analysis, body: Node, level: Level) -> Trait:
    return joined(every(a, body["args"], level), kind="total", base=BOOL)


def _sublink(a: Analysis, body: Node, level: Level) -> Trait:
    test = expression(a, body["testexpr"], level) if "testexpr" in body else CONSTANT
    return sublink(a, body, level, test)


def _case(a: Analysis, body: Node, level: Level) -> Trait:
    tests: list[Trait] = []
    results: list[Trait] = []
    if "arg" in body:
        calls.check_operator(a, ["="])
        tests.append(expression(a, body["arg"], level))
    for item in body["args"]:
        _, when = unwrap(item)
        tests.append(expression(a, when["expr"], level))
        results.append(expression(a, when["result"], level))
    if "defresult" in body:
        results.append(expression(a, body["defresult"], level))
    compared = all(test.value for test in tests) and types.comparable(tests)
    test = joined(tests, kind="total") if "arg" not in body or compared else leaking(tests)
    result = types.blended(results)
    return joined([test, result], kind="total", base=result.base)


def _indirection(a: Analysis, body: Node, level: Level) -> Trait:
    parts = [columns.indirection_base(a, body, level) or expression(a, body["arg"], level)]
    for item in body["indirection"]:
        kind, step = unwrap(item)
        if kind == "String":
            columns.check_field(a, step.get("sval", ""))
        elif kind == "A_Indices":
            parts.extend(_fields(a, step, level, ("lidx", "uidx")))
        elif kind != "A_Star":
            raise not_understood(f"a selection by {kind}")
    return leaking(parts)


def _row(a: Analysis, body: Node, level: Level) -> Trait:
    parts = every(a, body.get("args"), level)
    implicit = body.get("row_format") == "COERCE_IMPLICIT_CAST"
    return replace(joined(parts, kind="total" if implicit else "other"), parts=tuple(parts))


def _list(a: Analysis, body: Node, level: Level) -> Trait:
    items = every(a, body.get("items"), level)
    rows = [item.parts for item in items if item.parts]
    if len(rows) != len(items) or len({len(row) for row in rows}) != 1:
        return types.blended(items)
    fields = tuple(types.blended(column) for column in zip(*rows, strict=True))
    return replace(joined(fields, kind="total"), parts=fields)


def _array(a: Analysis, body: Node, level: Level) -> Trait:
    whole = types.blended(every(a, body.get("elements"), level))
    return replace(whole, base=None)


def _named_argument(a: Analysis, body: Node, level: Level) -> Trait:
    return expression(a, body["arg"], level)


def _collate(a: Analysis, body: Node, level: Level) -> Trait:
    names = strings(body["collname"])
    if len(names) > 1 and names[0] != "pg_catalog":
        raise refused(
            f'collation "{".".join(names)}" is not one of PostgreSQL\'s own',
            detail="How it orders and compares is not known.",
            hint="Use a collation of pg_catalog.",
        )
    if "arg" not in body:
        return CONSTANT
    inner = expression(a, body["arg"], level)
    if names[-1] not in ("C", "POSIX", "default") or not inner.value:
        return leaking([inner])
    collation = None if names[-1] == "default" else f'pg_catalog."{names[-1]}"'
    return replace(inner, collation=collation)


def _value_function(a: Analysis, body: Node, level: Level) -> Trait:
    del level
    op = body["op"]
    if op in ("SVFOP_CURRENT_CATALOG", "SVFOP_CURRENT_SCHEMA") or op.startswith("SVFOP_"):
        a.functions.add("pg_catalog." + op.removeprefix("SVFOP_").lower())
        return Trait(
            kind="const", base=_VALUE_FUNCTIONS.get(op.removesuffix("_N"), "pg_catalog.name")
        )
    raise not_understood(f"the value function {op}")


_VALUE_FUNCTIONS = {
    "SVFOP_CURRENT_DATE": "pg_catalog.date",
    "SVFOP_CURRENT_TIME": "pg_catalog.timetz",
    "SVFOP_CURRENT_TIMESTAMP": "pg_catalog.timestamptz",
    "SVFOP_LOCALTIME": "pg_catalog.time",
    "SVFOP_LOCALTIMESTAMP": "pg_catalog.timestamp",
}


def _blend(a: Analysis, body: Node, level: Level) -> Trait:
    return types.blended(every(a, body["args"], level))


def _set_to_default(a: Analysis, body: Node, level: Level) -> Trait:
    del a, body, level
    return CONSTANT


def _sort(a: Analysis, body: Node, level: Level) -> Trait:
    if body.get("useOp"):
        calls.check_operator(a, strings(body["useOp"]))
    return expression(a, body["node"], level)


def _param_all(a: Analysis, body: Node, level: Level) -> Trait:
    return joined(every(a, body.get("args"), level))


HANDLERS: dict[str, Handler] = {
    "A_ArrayExpr": _array,
    "A_Const": _constant,
    "A_Expr": _operator,
    "A_Indirection": _indirection,
    "BoolExpr": _boolean,
    "BooleanTest": _children("arg"),
    "CaseExpr": _case,
    "CoalesceExpr": _blend,
    "CollateClause": _collate,
    "ColumnRef": columns.column,
    "FuncCall": calls.call,
    "GroupingFunc": _param_all,
    "JsonArrayAgg": documents.json_aggregate,
    "JsonArrayConstructor": documents.json_expression,
    "JsonArrayQueryConstructor": documents.json_expression,
    "JsonFuncExpr": documents.json_expression,
    "JsonIsPredicate": documents.json_expression,
    "JsonObjectAgg": documents.json_aggregate,
    "JsonObjectConstructor": documents.json_expression,
    "JsonParseExpr": documents.json_expression,
    "JsonScalarExpr": documents.json_expression,
    "JsonSerializeExpr": documents.json_expression,
    "List": _list,
    "MergeSupportFunc": documents.merge_action,
    "MinMaxExpr": _blend,
    "NamedArgExpr": _named_argument,
    "NullTest": _children("arg"),
    "ParamRef": _parameter,
    "RowExpr": _row,
    "SQLValueFunction": _value_function,
    "SetToDefault": _set_to_default,
    "SortBy": _sort,
    "SubLink": _sublink,
    "TypeCast": _cast,
    "XmlExpr": documents.xml,
    "XmlSerialize": documents.xml_serialize,
}
"""The expression nodes that are known; every other one is refused."""
calls.bind(expression, free_literals)
columns.bind(expression)
documents.bind(expression)
