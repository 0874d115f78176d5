"""What ORMs and drivers send, through the whole product: unknown functions, sequences, RETURNING."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT nope()",
        "SELECT nope(1, 'x', 2.5, true, NULL, 3000000000)",
        "SELECT id FROM notes WHERE nope(id, note)",
        "SELECT * FROM nope(7)",
        "SELECT public.nope('x'::varchar, now(), '{a}'::text[])",
        "SELECT pg_catalog.nope()",
        "SELECT public.lower('x')",
        "SELECT nowhere.nope()",
        "SELECT max(nope()) FROM users",
        "CALL nope(1)",
    ],
)
def test_function_that_is_nowhere_is_told_as_by_the_server(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], sql: str
) -> None:
    told: list[tuple[str | None, str | None]] = []
    for connection in (admin, session):
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(sql.encode())
        told.append((caught.value.diag.sqlstate, caught.value.diag.message_primary))
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT steal()",
        "SELECT public.steal()",
        "SELECT pg_read_file('x')",
        "SELECT pg_catalog.pg_read_file('x')",
        "SELECT email(users) FROM users",
        "SELECT information_schema.nope()",
        "SELECT nope(x) FROM (SELECT 1 AS nope) x",
        "SELECT pg_notify('x', 'y')",
    ],
)
def test_function_that_is_there_and_not_known_is_denied(
    session: psycopg.Connection[Any], sql: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(sql.encode())


def test_function_that_comes_between_is_denied_and_not_called(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    with pytest.raises(psycopg.errors.UndefinedFunction):
        session.execute("SELECT late()")
    admin.execute(
        "CREATE FUNCTION late() RETURNS text LANGUAGE sql AS 'SELECT email FROM public.users LIMIT 1'"
    )
    for _ in range(30):
        with pytest.raises(
            (psycopg.errors.UndefinedFunction, psycopg.errors.InsufficientPrivilege)
        ) as caught:
            session.execute("SELECT late()")
        if caught.value.sqlstate == "42501":
            break
        time.sleep(0.1)
    else:
        pytest.fail("the catalog was not read again")
    admin.execute("DROP FUNCTION late")


@pytest.mark.parametrize(
    ("argument", "drawn"),
    [
        ("pg_get_serial_sequence('counted', 'id')", 7),
        ("pg_catalog.pg_get_serial_sequence('public.counted', 'id')::regclass", 7),
        ("""pg_get_serial_sequence('"counted"', 'note')""", None),
    ],
)
def test_sequence_of_a_column_is_set_as_mappers_do(
    session: psycopg.Connection[Any], argument: str, drawn: int | None
) -> None:
    session.execute("BEGIN")
    session.execute("CREATE TABLE counted (id serial, note text)")
    session.execute("COMMIT")
    known = f"SELECT setval({argument}, coalesce(max(id), 7)) FROM counted"
    assert session.execute(known.encode()).fetchall() == [(drawn,)]
    session.execute("DROP TABLE counted")


def test_sequence_of_a_hidden_column_is_not_set(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    admin.execute(
        "CREATE TABLE numbered (secret serial); GRANT ALL ON numbered, numbered_secret_seq TO migrator"
    )
    session.execute("SELECT 1")
    for sql in (
        "SELECT setval(pg_get_serial_sequence('numbered', 'secret'), 5)",
        "SELECT nextval(pg_get_serial_sequence('numbered', 'secret'))",
        "SELECT nextval(pg_get_serial_sequence('numbered', name)) FROM users",
    ):
        with pytest.raises(psycopg.Error) as caught:
            session.execute(sql.encode())
        assert caught.value.sqlstate in ("42501", "42P01")
    admin.execute("DROP TABLE numbered")


def test_masked_columns_and_rows_in_returning_keep_their_names_under_a_cast(
    session: psycopg.Connection[Any],
) -> None:
    cursor = session.execute(
        "UPDATE users u SET name = name WHERE id = 1 RETURNING email::varchar, u::text, (u).email::text, upper(u::text)"
    )
    assert [each.name for each in cursor.description or ()] == ["email", "u", "email", "upper"]
    assert [each.partition("***")[1] for each in cursor.fetchall()[0]] == ["***"] * 4
    rows = session.execute(
        "WITH w AS (UPDATE users SET name = name WHERE id = 1 RETURNING users::text, email::text) "
        "SELECT email, users LIKE '%canary%' FROM w"
    ).fetchall()
    assert rows == [("***", False)]
