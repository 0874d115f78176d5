"""What definitions touch in sessions in which nothing is masked: a policy denies them by these names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from sluice_proxy.decisions import Level
from sluice_proxy.facts import read_facts
from sluice_proxy.facts.model import StatementFacts

Open = Callable[..., Any]


def read(open_session: Open, text: str, level: Level = Level.GUARDED) -> StatementFacts:
    context = open_session().context()
    context = dataclasses.replace(
        context, decision=dataclasses.replace(context.decision, level=level)
    )
    (facts,) = read_facts(text.encode(), context, simple=True)
    return facts


@pytest.mark.parametrize(
    ("sql", "action", "names"),
    [
        ("DROP TABLE old.orders, tree", "ddl.drop", ["old.orders", "public.tree"]),
        ('DROP TABLE IF EXISTS U&"us\\0065rs"', "ddl.drop", ["public.users"]),
        ("DROP VIEW contacts", "ddl.drop", ["public.contacts"]),
        ("DROP INDEX CONCURRENTLY users_note", "ddl.drop", ["public.users"]),
        ("DROP TRIGGER t ON users", "ddl.drop", ["public.users"]),
        ("DROP POLICY p ON old.orders", "ddl.drop", ["old.orders"]),
        ("ALTER INDEX users_note RENAME TO n", "ddl.alter", ["public.users"]),
        ("REINDEX INDEX users_note", "ddl.other", ["public.users"]),
        ("COMMENT ON TABLE users IS ''", "ddl.other", ["public.users"]),
        ("COMMENT ON COLUMN public.users.id IS ''", "ddl.other", ["public.users"]),
        ("COMMENT ON CONSTRAINT c ON users IS ''", "ddl.other", ["public.users"]),
        ("COMMENT ON INDEX users_note IS ''", "ddl.other", ["public.users"]),
        ("SECURITY LABEL ON TABLE users IS ''", "ddl.other", ["public.users"]),
        ("GRANT SELECT ON users TO PUBLIC", "ddl.grant", ["public.users"]),
        ("DROP SCHEMA old CASCADE", "ddl.drop", ["old", "old.orders"]),
        ("REVOKE ALL ON ALL TABLES IN SCHEMA old FROM PUBLIC", "ddl.grant", ["old", "old.orders"]),
        ("DROP SCHEMA old", "ddl.drop", []),
        ("DROP FUNCTION tools.upper(text)", "ddl.drop", []),
        ("COMMENT ON DATABASE x IS ''", "ddl.other", []),
    ],
)
def test_definition_tells_the_tables_that_it_touches(
    open_session: Open, sql: str, action: str, names: list[str]
) -> None:
    facts = read(open_session, sql)
    assert facts.actions == (action,)
    assert [table.name for table in facts.tables] == names
    assert all(table.written for table in facts.tables)


def test_statement_that_takes_all_that_a_role_owns_touches_everything(open_session: Open) -> None:
    names = {table.name for table in read(open_session, "DROP OWNED BY me").tables}
    assert {"*", "public.users", "old.orders"} <= names
    assert read(open_session, "DROP OWNED BY me", Level.OPEN).tables == ()
