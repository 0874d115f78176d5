"""XML and JSON: the expressions and FROM items that the grammar spells out instead of calling functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.calls import window
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.facts.scopes import Level
from sluice_proxy.facts.traits import CONSTANT, Trait, joined, leaking
from sluice_proxy.facts.tree import SINCE, Node, strings, unwrap
from sluice_proxy.facts.types import check_type

_Expression = Callable[[Analysis, Node | None, Level], Trait]
_walk: list[_Expression] = []

_WRAPPERS = frozenset({"JsonArgument", "JsonKeyValue", "JsonTableColumn", "JsonValueExpr"})
_SILENT = frozenset({"format", "returning", "alias"})


def bind(expression: _Expression) -> None:
    """Give the module its way back to the walker of expressions."""
    _walk[:] = [expression]


def json_expression(a: Analysis, body: Node, level: Level) -> Trait:
    """Walk a constructor, predicate or query function of SQL/JSON."""
    return leaking(_parts(a, body, level))


def json_aggregate(a: Analysis, body: Node, level: Level) -> Trait:
    """Walk JSON_OBJECTAGG and JSON_ARRAYAGG."""
    whole = joined(_parts(a, body, level))
    return Trait(
        refs=whole.refs, leaks=whole.leaks | whole.refs, barrier=True, columns=whole.columns
    )


def merge_action(a: Analysis, body: Node, level: Level) -> Trait:
    """``merge_action()`` in MERGE … RETURNING."""
    del a, body, level
    return CONSTANT


def xml(a: Analysis, body: Node, level: Level) -> Trait:
    """Walk XMLELEMENT and its kin."""
    walk = _walk[0]
    parts = [walk(a, item, level) for item in body.get("args", ())]
    for item in body.get("named_args", ()):
        _, target = unwrap(item)
        a.visit(target)
        parts.append(walk(a, target["val"], level))
    return leaking(parts)


def xml_serialize(a: Analysis, body: Node, level: Level) -> Trait:
    """Walk XMLSERIALIZE."""
    check_type(a, body["typeName"])
    return leaking([_walk[0](a, body["expr"], level)])


def _parts(a: Analysis, value: Any, level: Level) -> list[Trait]:
    """Walk whatever expressions and types stand below a JSON node's own structure."""
    if isinstance(value, list):
        return [part for item in cast("list[Any]", value) for part in _parts(a, item, level)]
    if not isinstance(value, dict):
        return []
    body = cast("Node", value)
    kind = next(iter(body)) if len(body) == 1 else ""
    if kind in _WRAPPERS:
        return _parts(a, body[kind], level)
    if kind == "SelectStmt":
        made = a.query(a, body[kind], level, end=-1, role="sublink")
        outer = frozenset(made.level.outer if made.level else ())
        return [Trait(refs=outer, columns=bool(outer))]
    if kind[:1].isupper():
        return [_walk[0](a, body, level)]
    parts: list[Trait] = []
    for key, child in body.items():
        if key == "typeName":
            check_type(a, child)
        elif key == "over":
            window(a, child, level)
        elif key not in _SILENT:
            parts.extend(_parts(a, child, level))
    return parts


def xml_table(a: Analysis, body: Node, level: Level) -> tuple[str, ...]:
    """Walk XMLTABLE; return its columns."""
    walk = _walk[0]
    for key in ("docexpr", "rowexpr"):
        walk(a, body.get(key), level)
    for item in body.get("namespaces", ()):
        _, target = unwrap(item)
        a.visit(target)
        walk(a, target["val"], level)
    names: list[str] = []
    for item in body["columns"]:
        _, column = unwrap(item)
        names.append(column["colname"])
        if "typeName" in column:
            check_type(a, column["typeName"])
        for key in ("colexpr", "coldefexpr"):
            walk(a, column.get(key), level)
    return tuple(names)


def json_table(a: Analysis, body: Node, level: Level) -> tuple[str, ...]:
    """Walk JSON_TABLE; return its columns."""
    if a.context.server_major < SINCE["JsonTable"]:
        raise not_understood("JSON_TABLE, which this server does not have")
    _parts(a, {key: child for key, child in body.items() if key != "pathspec"}, level)
    return tuple(_json_columns(body["columns"]))


def _json_columns(items: list[Node]) -> list[str]:
    names: list[str] = []
    for item in items:
        _, column = unwrap(item)
        if column.get("coltype") == "JTC_NESTED":
            names.extend(_json_columns(column["columns"]))
        else:
            names.append(column["name"])
    return names


def alias_columns(columns: tuple[str, ...], alias: Node | None) -> tuple[str, ...]:
    """Return the columns under an alias list."""
    names = strings(alias.get("colnames")) if alias else []
    return (*names, *columns[len(names) :])
