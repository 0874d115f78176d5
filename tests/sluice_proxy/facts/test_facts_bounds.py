"""Statements above the bounds: refused where values are masked, searched for names elsewhere, and never at length."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from sluice_proxy import _native
from sluice_proxy.decisions import Level, SessionContext
from sluice_proxy.facts import read_facts
from sluice_proxy.facts.bounds import too_large
from sluice_proxy.facts.lexer import Tokens
from sluice_proxy.facts.model import StatementFacts
from sluice_proxy.facts.rough import rough
from sluice_proxy.facts.tree import dismantle, statements, written
from sluice_proxy.plan import whole
from sluice_proxy.reports import ClientError, SqlState

Open = Callable[..., Any]


def numbers(count: int, form: str, between: str = ",") -> str:
    return between.join(form.replace("#", str(number)) for number in range(1, count + 1))


def of_level(context: SessionContext, level: Level) -> SessionContext:
    return dataclasses.replace(context, decision=dataclasses.replace(context.decision, level=level))


def read(text: str, context: SessionContext) -> StatementFacts:
    (facts,) = read_facts(text.encode(), context, simple=True)
    return facts


HUGE = {
    "conditions": "SELECT name FROM users WHERE " + numbers(60_000, "id = #", " OR "),
    "columns": "SELECT " + numbers(60_000, "id + #") + " FROM users",
    "tables": "SELECT 1 FROM " + numbers(30_000, "users u#"),
    "sub-selects": "SELECT 1 WHERE " + numbers(30_000, "EXISTS (SELECT #)", " OR "),
    "code": "SELECT " + "id," * 800_000 + "1 FROM users",
    "many": "SELECT 1;" * 60_000,
    "copies of the text": "SELECT " + numbers(9_000, "current_query() AS c#") + " FROM people",
    "held rows": f"INSERT INTO users (id, tenant) VALUES {numbers(20_001, '(#, 1)')}",
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_statement_says_how_to_send_less(open_session: Open, name: str) -> None:
    with pytest.raises(ClientError) as refused:
        read_facts(HUGE[name].encode(), open_session().context(), simple=True)
    report = refused.value.report
    assert report.sqlstate == SqlState.PROGRAM_LIMIT_EXCEEDED
    assert "several INSERTs" in (report.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT email FROM users WHERE id IN ({numbers(20_000, '#')})",
        "SELECT email FROM users WHERE name IN (" + numbers(20_000, "'n#'") + ")",
        f"SELECT email FROM users WHERE id IN ({numbers(10_000, '$#')})",
        "INSERT INTO users (id, tenant, name) VALUES " + numbers(8_000, "(#, 1, 'n')"),
        "INSERT INTO orders VALUES " + numbers(30_000, "(#, 1, 2.5, NULL)"),
        f"SELECT email FROM users WHERE {numbers(20_000, 'id = #', ' OR ')}",
        "SELECT count(*) FROM users u0 " + numbers(999, "JOIN users t# ON t#.id = u0.id", " "),
        f"SELECT email FROM users WHERE name = '{'x' * 6_000_000}'",
        f"SELECT email /* {'x, ' * 2_000_000} */ FROM users",
    ],
    ids=["numbers", "strings", "parameters", "held", "rows", "conditions", "joins", "value", "comment"],
)  # fmt: skip
def test_large_statements_that_people_send_are_read_in_full(open_session: Open, text: str) -> None:
    facts = read(text, open_session().context())
    assert facts.understood
    assert facts.tables


def test_huge_statement_of_a_guarded_session_tells_what_it_names(open_session: Open) -> None:
    context = of_level(open_session().context(), Level.GUARDED)
    facts = read(f"DELETE FROM users WHERE {numbers(60_000, 'id = #', ' OR ')}", context)
    assert (facts.kind, facts.actions, facts.unfiltered_write) == ("delete", ("delete",), False)
    (table,) = facts.tables
    assert (table.name, table.opa()["access"]) == ("public.users", "readwrite")
    assert {"email", "pay", "id"} <= table.reads & table.writes
    assert (facts.understood, facts.edits, facts.cacheable) == (False, (), "exact")
    for text in (
        f"DELETE FROM users WHERE true RETURNING {numbers(60_000, 'id + #')}",
        f"UPDATE users SET name = 'x' WHERE {numbers(60_000, 'id = #', ' OR ')}",
        f"WITH d AS (DELETE FROM people) DELETE FROM users WHERE {numbers(60_000, 'id = #', ' OR ')}",
    ):
        assert read(text, context).unfiltered_write  # It cannot be told: doubt denies.


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1;" * 200_000,
        f"EXPLAIN SELECT 1 FROM users WHERE {numbers(60_000, 'id = #', ' OR ')}",
    ],
)
def test_huge_text_that_cannot_be_searched_is_refused_or_passes_unread(
    open_session: Open, text: str
) -> None:
    context = open_session().context()
    with pytest.raises(ClientError) as refused:
        read_facts(text.encode(), of_level(context, Level.GUARDED), simple=True)
    assert refused.value.report.sqlstate == SqlState.PROGRAM_LIMIT_EXCEEDED
    assert not read(text, of_level(context, Level.OPEN)).understood


def test_keys_inside_of_literals_and_names_are_no_nodes(open_session: Open) -> None:
    context = of_level(open_session().context(), Level.GUARDED)
    tricks = r"""SELECT '"relname":"people"', E'\\"DeleteStmt":', '"funcname":[{"String":{"sval":"x"}}]' AS "a","b"
      FROM "old".orders AS "x"",""schemaname"":""tools"","""
    facts = searched(tricks + '"', context)
    assert [table.name for table in facts.tables] == ["old.orders"]
    assert (facts.actions, facts.functions) == (("select",), ())


def searched(text: str, context: SessionContext) -> StatementFacts:
    data = text.encode()
    return rough(written(data), Tokens(data), context)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT name, upper(email) FROM users u JOIN old.orders o ON o.id = u.id WHERE u.pay > 1",
        "WITH c AS (SELECT id FROM tree) INSERT INTO people SELECT id, 'x' FROM c",
        "INSERT INTO people VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET email = excluded.email",
        "UPDATE orders SET memo = (SELECT tools.upper(email) FROM people LIMIT 1)",
        "DELETE FROM orders o USING users u WHERE u.id = o.user_id AND lower(u.name) = 'x'",
        "MERGE INTO people p USING users ON true WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1)",
        "SELECT current_date, current_user, count(*) FILTER (WHERE id > 1) OVER () FROM public.events",
        "SELECT * FROM generate_series(1, 2) g, LATERAL (SELECT * FROM contacts WHERE id = g) x",
        "SELECT 1",
    ],
)
def test_search_finds_all_that_reading_finds(open_session: Open, text: str) -> None:
    context = of_level(open_session().context(), Level.GUARDED)
    full, found = read(text, context), searched(text, context)
    assert (found.kind, found.actions) == (full.kind, full.actions)
    assert set(full.functions) <= set(found.functions)
    assert not full.unfiltered_write or found.unfiltered_write
    tables = by_name(found.tables)
    for name, use in by_name(full.tables).items():
        assert use.reads <= tables[name].reads
        assert use.writes <= tables[name].writes
        assert (use.read, use.written) <= (tables[name].read, tables[name].written)


def by_name(tables: Iterable[Any]) -> dict[str, Any]:
    return {table.name: table for table in tables}


def test_bound_counts_what_is_outside_of_literals() -> None:
    value = b"SELECT '" + b"x" * 12_000_000 + b"'"
    assert not too_large(written(value), value)
    text = HUGE["conditions"].encode()
    assert too_large(written(text), text)


def test_denied_text_is_audited_by_its_beginning() -> None:
    short, long = b"SELECT 1, 'x'", b"SELECT " + b"id, " * 400_000 + b"1"
    assert whole(short) == (0, len(_native.tokens(short)))
    start, end = whole(long)
    assert (start, end < len(_native.tokens(long[: 64 << 10]))) == (0, True)
    assert end > 20_000
    assert whole(b"SELECT '" + b"x" * 200_000 + b"'")[1] <= 2


def test_trees_are_the_same_however_they_are_made_and_go_away_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = f"SELECT a, {numbers(500, 'f(#)')} FROM t WHERE b IN ({numbers(500, '#')})".encode()
    document = written(text)
    plain = statements(document, text)
    monkeypatch.setattr("sluice_proxy.facts.tree.HOOKED_CHARACTERS_MIN", 0)
    hooked = statements(document, text)
    assert hooked == plain
    dismantle(hooked)
    assert hooked != plain
