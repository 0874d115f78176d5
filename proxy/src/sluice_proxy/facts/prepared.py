"""Prepared statements and cursors: statements that hold a query, and what names it later."""

from __future__ import annotations

from sluice_proxy.facts import objects
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.expressions import every
from sluice_proxy.facts.model import SessionEffects
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.facts.scopes import Level
from sluice_proxy.facts.tree import Node, unwrap
from sluice_proxy.facts.types import check_type

QUERIES = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


def inner(a: Analysis, node: Node) -> str:
    """Walk the query inside of another statement; return its node type."""
    kind, body = unwrap(node)
    if kind == "SelectStmt":
        a.actions.add("select")
        a.query(a, body, None, end=a.span[1], role="top")
    elif kind in QUERIES:
        a.write(a, kind, body, None, end=a.span[1])
    else:
        raise not_understood(f"{kind} inside another statement")
    objects.no_settings(a)
    return kind


def prepare(a: Analysis, body: Node) -> SessionEffects | None:
    """PREPARE."""
    for item in body.get("argtypes", ()):
        check_type(a, unwrap(item)[1])
    inner(a, body["query"])
    a.kind = "prepare"
    return SessionEffects(prepare=body["name"])


def execute(a: Analysis, body: Node) -> SessionEffects | None:
    """EXECUTE."""
    every(a, body.get("params"), Level(None))
    a.kind = "execute"
    return SessionEffects(execute=body["name"])


def deallocate(a: Analysis, body: Node) -> SessionEffects | None:
    """DEALLOCATE."""
    a.kind = "deallocate"
    name = body.get("name")
    return SessionEffects(deallocate=name) if name else SessionEffects(deallocate_all=True)


def declare(a: Analysis, body: Node) -> SessionEffects | None:
    """DECLARE CURSOR."""
    inner(a, body["query"])
    a.kind = "declare"
    return SessionEffects(declare=body["portalname"])


def fetch(a: Analysis, body: Node) -> SessionEffects | None:
    """FETCH and MOVE."""
    a.kind = "move" if body.get("ismove") else "fetch"
    return SessionEffects(fetch=body["portalname"])


def close(a: Analysis, body: Node) -> SessionEffects | None:
    """CLOSE."""
    a.kind = "close"
    name = body.get("portalname")
    return SessionEffects(close_cursor=name) if name else SessionEffects(close_all_cursors=True)
