"""Every node type of PostgreSQL's parser has a treatment, the code agrees, and the reference page says so."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pglast.ast
import pytest

from sluice_proxy.facts import nodes, parts, read_facts, reference
from sluice_proxy.facts.expressions import HANDLERS as EXPRESSIONS
from sluice_proxy.facts.prepared import QUERIES
from sluice_proxy.facts.utility import HANDLERS as UTILITIES
from sluice_proxy.reports import ClientError

Open = Callable[..., Any]


def known_to_the_parser() -> set[str]:
    classes = (each for _, each in inspect.getmembers(pglast.ast, inspect.isclass))
    return {each.__name__ for each in classes if issubclass(each, pglast.ast.Node)}


def test_every_node_of_the_parser_has_one_treatment() -> None:
    groups: list[set[str]] = [
        set(nodes.STATEMENTS),
        set(nodes.EXPRESSIONS) - {"List"},  # A list is no node of its own there.
        set(nodes.FROM_ITEMS),
        set(parts.PARTS),
        set(parts.INTERNAL),
    ]
    together = set[str]().union(*groups)
    twice = [name for name in together if sum(name in group for group in groups) > 1]
    assert twice == []
    assert together == known_to_the_parser()


def test_what_the_table_lets_through_is_what_the_code_handles() -> None:
    handled = set(UTILITIES) | set(QUERIES)
    assert {name for name, each in nodes.STATEMENTS.items() if each.how != "denied"} == handled
    assert set(nodes.EXPRESSIONS) == set(EXPRESSIONS)


def test_reference_page_is_what_the_code_says() -> None:
    root = Path(__file__).parents[3]
    assert (root / "docs" / "reference" / "statements.md").read_text() == reference.page()


DENIED = {
    "CreateFunctionStmt": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "RuleStmt": "CREATE RULE r AS ON SELECT TO users DO INSTEAD NOTHING",
    "CreateTrigStmt": "CREATE TRIGGER t AFTER INSERT ON users EXECUTE FUNCTION f()",
    "AlterSystemStmt": "ALTER SYSTEM SET work_mem = '1MB'",
    "LoadStmt": "LOAD 'x'",
    "CheckPointStmt": "CHECKPOINT",
    "CreatePolicyStmt": "CREATE POLICY p ON users",
    "CreateSubscriptionStmt": "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p",
}


@pytest.mark.parametrize("kind", DENIED)
def test_denied_statement_says_why(open_session: Open, kind: str) -> None:
    with pytest.raises(ClientError) as caught:
        read_facts(DENIED[kind].encode(), open_session().context(), simple=True)
    assert caught.value.report.detail == nodes.STATEMENTS[kind].why
