"""Columns and constraints of tables that a restricted session makes or alters."""

from __future__ import annotations

from sluice_proxy.facts import sources
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.calls import check_operator
from sluice_proxy.facts.expressions import expression
from sluice_proxy.facts.indexes import see_options
from sluice_proxy.facts.lasting import ddl_refused, owned, refer
from sluice_proxy.facts.naming import Resolved
from sluice_proxy.facts.scopes import Level
from sluice_proxy.facts.tree import Node, strings, unwrap
from sluice_proxy.facts.types import check_type

_CONSTRAINTS = frozenset(
    [
        "CONSTR_NULL",
        "CONSTR_NOTNULL",
        "CONSTR_DEFAULT",
        "CONSTR_IDENTITY",
        "CONSTR_GENERATED",
        "CONSTR_CHECK",
        "CONSTR_PRIMARY",
        "CONSTR_UNIQUE",
        "CONSTR_ATTR_DEFERRABLE",
        "CONSTR_ATTR_NOT_DEFERRABLE",
        "CONSTR_ATTR_DEFERRED",
        "CONSTR_ATTR_IMMEDIATE",
    ]
)


def column(a: Analysis, element: Node, level: Level) -> None:
    """Check a column's definition."""
    if "typeName" in element:
        check_type(a, element["typeName"])
    if "raw_default" in element:
        expression(a, element["raw_default"], level)
    for item in element.get("constraints", ()):
        constraint(a, unwrap(item)[1], level)


def constraint(a: Analysis, element: Node, level: Level) -> None:
    """Check a constraint's definition."""
    if element["contype"] == "CONSTR_FOREIGN":
        _foreign_key(a, element, level)
    elif element["contype"] == "CONSTR_EXCLUSION":
        _exclusion(a, element, level)
    elif element["contype"] not in _CONSTRAINTS:
        raise ddl_refused("constraints of this kind")
    see_options(a, element.get("options", []))
    if "raw_expr" in element:
        expression(a, element["raw_expr"], level)


def _exclusion(a: Analysis, element: Node, level: Level) -> None:
    for item in element["exclusions"]:
        compared, operator = unwrap(item)[1]["items"]
        if "expr" in unwrap(compared)[1]:
            expression(a, unwrap(compared)[1]["expr"], level)
        check_operator(a, strings(unwrap(operator)[1]["items"]))
    if "where_clause" in element:
        expression(a, element["where_clause"], level)


def _foreign_key(a: Analysis, element: Node, level: Level) -> None:
    """Let a temporary table of the session refer to such a one, and one that stays to what no policy speaks of."""
    table = element["pktable"]
    if a.place is not None:
        refer(a, a.place, element)
        return
    if "schemaname" not in table and table["relname"] == level.sources[0].refname:
        a.visit(table)
        sources.qualify(a, table, Resolved("pg_temp", table["relname"]))
        return
    owned(a, table, "a foreign key")
