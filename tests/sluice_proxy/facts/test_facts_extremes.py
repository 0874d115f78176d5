"""Huge, deep and broken texts: answered or refused in words, with work that grows as the text does."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

from sluice_proxy.decisions import SessionContext
from sluice_proxy.facts import read_facts, reading, tree
from sluice_proxy.reports import ClientError

Open = Callable[..., Any]
Text = Callable[[int], str]


def several(make: Callable[[int], str], between: str) -> Text:
    return lambda count: between.join(make(number) for number in range(count))


HUGE: dict[str, tuple[int, Text]] = {
    "list": (5_000, lambda n: f"SELECT name FROM users WHERE id IN ({several(str, ',')(n)})"),
    "parameters": (
        1_000,
        lambda n: (
            f"SELECT 1 FROM users WHERE id IN ({several(lambda i: f'${i + 1}::int', ',')(n)})"
        ),
    ),
    "or": (
        400,
        lambda n: "SELECT 1 FROM users WHERE " + several(lambda i: f"name ~ 'x{i}'", " OR ")(n),
    ),
    "and": (
        400,
        lambda n: "SELECT 1 FROM users WHERE " + several(lambda i: f"name ~ 'x{i}'", " AND ")(n),
    ),
    "joins": (
        200,
        lambda n: (
            "SELECT 1 FROM users u0 "
            + several(
                lambda i: f"JOIN users u{i + 1} ON u{i + 1}.id = u{i}.id AND u{i}.name ~ 'x'", " "
            )(n)
        ),
    ),
    "tables": (500, lambda n: "SELECT count(*) FROM " + several(lambda i: f"users u{i}", ", ")(n)),
    "rows": (
        500,
        lambda n: "INSERT INTO users (id, tenant) VALUES " + several(lambda i: f"({i}, 1)", ",")(n),
    ),
    "columns": (
        800,
        lambda n: f"SELECT {several(lambda i: f'name || {i} AS a{i}', ',')(n)} FROM users",
    ),
    "sub-selects": (150, lambda n: "SELECT * FROM " + "(SELECT * FROM " * n + "users" + ") x" * n),
    "with": (
        300,
        lambda n: (
            "WITH c0 AS (TABLE users), "
            + several(lambda i: f"c{i + 1} AS (TABLE c{i})", ", ")(n)
            + " TABLE c1"
        ),
    ),
    "union": (500, several(lambda i: f"SELECT {i} FROM users", " UNION ALL ")),
    "exists": (
        150,
        lambda n: (
            "SELECT 1 FROM users u WHERE "
            + several(
                lambda i: f"EXISTS (SELECT FROM users o WHERE o.id = u.id AND o.name ~ '{i}')",
                " AND ",
            )(n)
        ),
    ),
    "case": (
        500,
        lambda n: (
            f"UPDATE users SET name = CASE {several(lambda i: f'WHEN id = {i} THEN {i!r}', ' ')(n)} END"
        ),
    ),
    "calls": (300, lambda n: f"SELECT {'lower(' * n}name{')' * n} FROM users"),
    "statements": (200, lambda n: "SELECT id FROM users;" * n),
}


def work(text: str, context: SessionContext) -> int:
    """Return how many calls reading a text takes, in Python and into C."""
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        with contextlib.suppress(ClientError):
            read_facts(text.encode(), context, simple=True)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("name", HUGE)
def test_work_grows_as_the_text_does(
    open_session: Open, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "HOOKED_CHARACTERS_MIN", 0)
    monkeypatch.setattr(reading, "DISMANTLED_BYTES_MIN", 0)
    size, make = HUGE[name]
    context = open_session().context()
    work(make(2), context)  # Whatever is worked out once.
    half, whole = work(make(size), context), work(make(2 * size), context)
    assert whole < 2.3 * half, (half, whole)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
        "SELECT " + "NOT " * 20_000 + "true",
        "SELECT " + "ARRAY[" * 20_000 + "1" + "]" * 20_000,
        "SELECT * FROM " + "(SELECT * FROM " * 3_000 + "users" + ") x" * 3_000,
        "SELECT " + "CASE WHEN true THEN " * 5_000 + "1" + " END" * 5_000,
        "SELECT " + "-" * 1 + " -".join(["1"] * 20_000),
    ],
)
def test_deep_nesting_is_answered_or_refused(open_session: Open, text: str) -> None:
    with contextlib.suppress(ClientError):
        read_facts(text.encode(), open_session().context(), simple=True)


def test_more_statements_than_anybody_sends_are_refused(open_session: Open) -> None:
    context = open_session().context()
    with pytest.raises(ClientError, match="more than 3000 statements"):
        read_facts(b"SELECT 1;" * 3_001, context, simple=True)
    assert len(read_facts(b"SELECT 1;" * 50, context, simple=True)) == 50


def test_megabyte_in_a_comment_or_a_string_costs_nothing(open_session: Open) -> None:
    context = open_session().context()
    plain = work("SELECT id FROM users WHERE name = ''", context)
    for text in (
        f"SELECT id /*{'x' * 1_000_000}*/ FROM users WHERE name = ''",
        f"SELECT id FROM users WHERE name = '{'x' * 1_000_000}'",
        f"SELECT id FROM users WHERE name = $a${'x' * 1_000_000}$a$",
    ):
        assert work(text, context) < plain + 50


def test_widest_table_is_read_in_full(sessions: list[Any], open_session: Open) -> None:
    columns = ", ".join(f"c{number} int" for number in range(1600))
    text = f"CREATE TEMP TABLE wide ({columns})"
    assert open_session().ask(text).sqlstate in (None, "54000")
    (facts,) = read_facts(text.encode(), sessions[0].context(), simple=True)
    assert facts.created is not None
    assert len(facts.created[1]) == 1600


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT email FROM users WHERE name = '\xff\xfe'",
        b"SELECT email FROM users WHERE name = '\xc3'",
        b"SELECT email FROM users\x00 WHERE true",
        b"\x00",
        "SELECT email FROM users WHERE name = '\ud800'".encode("utf-8", "surrogatepass"),
        b"SELECT $a$ unfinished",
        b"SELECT 'unfinished",
        b"SELECT /* unfinished",
        b'SELECT "unfinished',
        b"SELECT email FROM users WHERE name = 'a\\' OR true --'",
        b"SELECT email FROM users) x",
        b"SELECT 1 FROM users WHERE id = 99999999999999999999999999999999::int8 AND",
        b'SELECT email FROM U&"us\\0000ers"',
        b'SELECT email FROM U&"us\\D800ers"',
        b"SELECT email FROM users WHERE note = B'102'",
        b"\xef\xbb\xbfSELECT email FROM users",
    ],
)
def test_broken_text_is_refused_in_words_or_means_nothing(open_session: Open, text: bytes) -> None:
    context = open_session().context()
    for simple in (True, False):
        with contextlib.suppress(ClientError):
            facts = read_facts(text, context, simple=simple)
            assert all(each.tables == () or each.edits for each in facts)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'x' /* ' */, email, '*/' FROM users",
        "SELECT $$ FROM nowhere $$, $q$ $$ ' $q$, email FROM users -- '",
        "SELECT email --\n, E'\\' FROM nowhere --' FROM users",
        "SELECT U&'\\0065', email FROM users WHERE 'a'\n'b' <> 'x'",
        'SELECT "email" FROM "users" WHERE "users"."name" <> $a$ ; DROP TABLE users; $a$',
        "SELECT email FROM/**/users/**/WHERE/**/id=1",
        "SELECT email FROM users WHERE name <> 'it''s' AND name <> E'it\\'s' ;;; ",
        'SELECT email AS "groß İ", name AS "数" FROM users AS "таблица"',
        "SELECT U&\"d!0061t!+000061\" UESCAPE '!', email FROM (SELECT 1 AS data, email FROM users) x",
        "SELECT email FROM users WHERE name LIKE '%\\%' ESCAPE '!'",
        "select EMAIL from USERS where ID=1 and NAME<>N'x'",
        "SELECT 1 AS naïve, email FROM users u WHERE (u . id) = + - - 1 * -1",
        "SELECT\temail FROM\fusers\r\nWHERE id = 1",
        "SELECT email FROM users u WHERE u.id::text = '1'AND u.name IS NOT NULL",
    ],
)
def test_text_that_hides_things_is_read_as_the_server_reads_it(
    sessions: list[Any], sql: str
) -> None:
    one, other, shown = sessions
    plain, held = shown.raw(sql), shown.ask(sql)
    assert plain.sqlstate is None, plain
    assert (held.rows, held.columns, held.refused) == (plain.rows, plain.columns, None)
    assert one.ask(sql).rows == other.ask(sql).rows
    assert "canary" not in str(one.ask(sql).rows)


@pytest.mark.parametrize("sql", ["", ";", " ;; -- x\n;", "/* */"])
def test_empty_text_has_no_statement(open_session: Open, sql: str) -> None:
    assert read_facts(sql.encode(), open_session().context(), simple=True) == ()


def test_several_statements_are_refused_in_parse_and_read_in_query(open_session: Open) -> None:
    context, text = open_session().context(), b"SELECT email FROM users; SELECT email FROM people"
    assert len(read_facts(text, context, simple=True)) == 2
    with pytest.raises(ClientError, match="several statements"):
        read_facts(text, context, simple=False)


@pytest.mark.parametrize(
    "sql",
    [
        "SET standard_conforming_strings = off",
        "SET backslash_quote = on",
        "SET client_encoding = 'SQL_ASCII'",
        "SET NAMES 'latin1'",
        "SELECT set_config('standard_conforming_strings', 'off', false)",
        "RESET standard_conforming_strings; SET transform_null_equals = on",
    ],
)
def test_settings_that_change_how_text_is_read_are_refused(open_session: Open, sql: str) -> None:
    with pytest.raises(ClientError):
        read_facts(sql.encode(), open_session().context(), simple=True)
