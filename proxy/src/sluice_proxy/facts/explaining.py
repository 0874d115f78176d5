"""EXPLAIN: plans are shown where they tell nothing that a policy hides."""

from __future__ import annotations

from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.model import SessionEffects, TableUse
from sluice_proxy.facts.prepared import QUERIES, inner
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.targets import over_governed, reaches_governed
from sluice_proxy.facts.tree import Node, unwrap

_EXPLAIN = frozenset(
    [
        "analyze",
        "verbose",
        "costs",
        "settings",
        "buffers",
        "wal",
        "timing",
        "summary",
        "format",
        "generic_plan",
        "memory",
        "serialize",
    ]
)


_EXPLAINED_NOT = {
    "CreateTableAsStmt": "CREATE TABLE AS",
    "DeclareCursorStmt": "DECLARE",
    "ExecuteStmt": "EXECUTE",
}


def explain(a: Analysis, body: Node) -> SessionEffects | None:
    """EXPLAIN of a query that reads nothing governed."""
    kind, _ = unwrap(body["query"])
    if kind not in QUERIES:
        raise refused(
            f"permission denied for EXPLAIN of {_EXPLAINED_NOT.get(kind, 'this statement')}",
            detail="Plans are shown of SELECT, INSERT, UPDATE, DELETE and MERGE that read no governed table.",
            hint="EXPLAIN the query itself.",
        )
    for option in body.get("options", ()):
        _, element = unwrap(option)
        if element["defname"] not in _EXPLAIN:
            raise not_understood(f"the EXPLAIN option {element['defname']}")
    inner(a, body["query"])
    a.kind = "explain"
    a.actions.add("explain")
    if a.enforcing and (
        any(over_governed(a, source.relation, set()) for source in a.sources)
        or any(use.governed or _runs_triggers(a, use) for use in a.uses.values())
    ):
        raise refused(
            "permission denied for EXPLAIN of a statement that reads a governed table",
            detail="A plan tells of rows and values that a policy hides.",
            hint="Run the statement itself, or ask the policy's owner.",
        )
    return None


def _runs_triggers(a: Analysis, use: TableUse) -> bool:
    """Say whether EXPLAIN ANALYZE of a write would count the rows of governed tables that triggers met."""
    if not use.written or a.context.catalog is None:
        return False
    found = next((r for r in a.context.catalog.by_oid.values() if r.qualified == use.name), None)
    return reaches_governed(a, found, set())
