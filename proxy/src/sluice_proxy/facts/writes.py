"""INSERT, UPDATE, DELETE and MERGE: the target stays, so what reads it is held instead (SQL.md §8, §11, §12)."""

from __future__ import annotations

from typing import Any

from sluice_proxy.facts import sources
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.assigning import assignments
from sluice_proxy.facts.inserting import insert
from sluice_proxy.facts.merging import merge
from sluice_proxy.facts.predicates import condition
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.facts.returning import returning
from sluice_proxy.facts.scopes import Level, Query, Source
from sluice_proxy.facts.select import with_clause
from sluice_proxy.facts.targets import filtered, note_deleted, target_of
from sluice_proxy.facts.tree import Node, dictionaries

_ACTIONS = {
    "InsertStmt": "insert",
    "UpdateStmt": "update",
    "DeleteStmt": "delete",
    "MergeStmt": "merge",
}


def write(a: Analysis, kind: str, body: Node, parent: Level | None, *, end: int) -> Query:
    """Walk a statement that writes, at the top or in WITH.

    Args:
        a: The statement.
        kind: Its node type.
        body: Its node.
        parent: The level whose WITH queries it may use.
        end: The token behind its last one.
    """
    a.visit(body)
    a.actions.add(_ACTIONS[kind])
    level = Level(parent)
    with_clause(a, body.get("withClause"), level)
    result = Query(level=level, end=end, opaque=True)
    handler = {
        "InsertStmt": insert,
        "UpdateStmt": _update,
        "DeleteStmt": _delete,
        "MergeStmt": merge,
    }[kind]
    handler(a, body, level, result)
    return result


def _update(a: Analysis, body: Node, level: Level, result: Query) -> None:
    target = target_of(a, body, level)
    for item in body.get("fromClause", ()):
        sources.from_item(a, item, level)
    sources.name_apart(level)
    assignments(a, body["targetList"], level, target, result.end)
    _where(a, body, level, target, result)
    returning(a, body, level, target, result)


def _delete(a: Analysis, body: Node, level: Level, result: Query) -> None:
    target = target_of(a, body, level)
    note_deleted(a, target)
    for item in body.get("usingClause", ()):
        sources.from_item(a, item, level)
    sources.name_apart(level)
    _where(a, body, level, target, result)
    returning(a, body, level, target, result)


def _where(a: Analysis, body: Node, level: Level, target: Source, result: Query) -> None:
    node = body.get("whereClause")
    if node is not None and "CurrentOfExpr" in node:
        if "cursor_name" not in node["CurrentOfExpr"]:
            raise not_understood("WHERE CURRENT OF a parameter")
        return
    condition(a, node, level, "where")
    if node is None or not _reads_columns(node):
        a.unfiltered_write = True
    filtered(a, node, target, a.tokens.at(body["relation"].get("location", 0)), result.end)


def _reads_columns(node: Any) -> bool:
    return any(key == "ColumnRef" for key, _ in dictionaries([node]))
