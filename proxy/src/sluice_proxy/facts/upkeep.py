"""REINDEX, CLUSTER and CREATE STATISTICS of tables that no policy speaks of."""

from __future__ import annotations

from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.expressions import expression
from sluice_proxy.facts.indexes import columns_level, named
from sluice_proxy.facts.lasting import TABLES, changed
from sluice_proxy.facts.model import SessionEffects
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.tree import Node, unwrap

_OPTIONS = frozenset(["concurrently", "verbose"])


def reindex(a: Analysis, body: Node) -> SessionEffects | None:
    """REINDEX TABLE and INDEX."""
    a.kind = "reindex"
    _options(body)
    relation = body.get("relation")
    if relation is None:
        raise refused(
            "permission denied for REINDEX of a schema or the whole database",
            detail="It reaches tables that a policy speaks of.",
            hint="Name a table: REINDEX TABLE t.",
        )
    if body["kind"] == "REINDEX_OBJECT_TABLE":
        changed(a, relation, "REINDEX", "ddl.other", TABLES + "m")
        return None
    a.visit(relation)
    if "catalogname" in relation:
        raise not_understood("an index of another database")
    parts = [relation[key] for key in ("schemaname", "relname") if key in relation]
    named(a, parts, a.tokens.at(relation["location"]), "REINDEX", "ddl.other")
    return None


def cluster(a: Analysis, body: Node) -> SessionEffects | None:
    """CLUSTER of one table."""
    a.kind = "cluster"
    _options(body)
    if "relation" not in body:
        raise refused(
            "permission denied for CLUSTER of the whole database",
            detail="It reaches tables that a policy speaks of.",
            hint="Name a table: CLUSTER t.",
        )
    changed(a, body["relation"], "CLUSTER", "ddl.other", TABLES + "m")
    return None


def statistics(a: Analysis, body: Node) -> SessionEffects | None:
    """CREATE STATISTICS."""
    a.kind = "create statistics"
    for item in body["relations"]:
        kind, relation = unwrap(item)
        if kind != "RangeVar":
            raise not_understood("statistics of something else than a table")
        table = changed(a, relation, "CREATE STATISTICS", "ddl.create", TABLES + "m")
        for each in body["exprs"]:
            _, element = unwrap(each)
            if "expr" in element:
                expression(a, element["expr"], columns_level(table))
    return None


def _options(body: Node) -> None:
    for item in body.get("params", ()):
        _, option = unwrap(item)
        if option["defname"] not in _OPTIONS:
            raise not_understood(f"the option {option['defname']}")
