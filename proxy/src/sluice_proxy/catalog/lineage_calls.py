"""Functions and operators that a view calls and that may read what nobody can tell from its text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from pglast import ast, parse_sql
from pglast.parser import ParseError

from sluice_proxy.catalog.lineage_queries import LineageSource
from sluice_proxy.catalog.model import Function

_Name = tuple[str | None, str]
"""Schema, where the text has one, and name."""


def printed(definition: str) -> frozenset[tuple[str, _Name]] | None:
    """Return kind (``function``, ``operator``) and name of all that a view's text calls.

    None: the text is not understood.
    """
    try:
        return frozenset(_called(parse_sql(definition)))
    except (ParseError, RecursionError):
        return None


def may_read(
    names: frozenset[tuple[str, _Name]] | None, called: Iterable[Function], source: LineageSource
) -> frozenset[Function]:
    """Return what a view calls and that may read what its arguments do not show.

    Args:
        names: What its text calls.
        called: Functions outside pg_catalog that its rule depends on.
        source: What is known of functions and operators.
    """
    found = set(called)
    if names is None:
        return frozenset([*found, _built_in("a function that is not known")])
    for kind, (schema, name) in names:
        if kind == "operator":
            if schema in source.operators.get(name, ()):
                found.add(Function(0, schema or "", name, f"operator {schema}.{name}", 2))
        elif schema in (None, "pg_catalog") and source.functions.may_read_data(name):
            found.add(_built_in(name))
    return frozenset(found)


def not_printed(
    names: frozenset[tuple[str, _Name]] | None, called: Iterable[Function]
) -> frozenset[Function]:
    """Return the functions that no call in the text names: they are casts, which may stand in a condition."""
    shown = {name for kind, (_, name) in names or () if kind == "function"}
    return frozenset(function for function in called if function.name not in shown)


def _built_in(name: str) -> Function:
    return Function(0, "pg_catalog", name, f"pg_catalog.{name}", 0)


def _called(tree: Any) -> Iterable[tuple[str, _Name]]:
    stack: list[Any] = [tree]
    while stack:
        current: Any = stack.pop()
        if isinstance(current, tuple):
            stack.extend(cast("tuple[Any, ...]", current))
        elif isinstance(current, ast.Node):
            if isinstance(current, ast.FuncCall):
                yield "function", _name(current.funcname)
            elif isinstance(current, ast.A_Expr) and current.name:
                yield "operator", _name(current.name)
            elif isinstance(current, ast.SubLink | ast.SortBy):
                operator = current.operName if isinstance(current, ast.SubLink) else current.useOp
                if operator:
                    yield "operator", _name(operator)
            stack.extend(getattr(current, slot) for slot in current)


def _name(parts: Sequence[Any] | None) -> _Name:
    names = [part.sval for part in parts or ()]
    return (names[-2] if len(names) > 1 else None, names[-1] if names else "")
