"""Sessions: simple and extended protocol through the data plane to PostgreSQL."""

from __future__ import annotations

import asyncpg
import psycopg
import pytest


def test_simple_and_extended_statements_reach_the_server(stack):
    with stack.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert connection.execute("SELECT %s::int + 1", (41,)).fetchone() == (42,)
        assert connection.execute("SELECT 1; SELECT 2", prepare=False).fetchone() == (1,)


def test_cached_plan_is_not_asked_for_again(stack):
    with stack.connect() as connection:
        for number in range(5):
            cursor = psycopg.ClientCursor(connection)
            assert cursor.execute("SELECT %s", (number,)).fetchone() == (number,)
    assert [text for text in stack.brain.plans() if text.startswith(b"SELECT")] == [b"SELECT 0"]


async def test_asyncpg_prepares_and_iterates(stack):
    connection = await asyncpg.connect(
        host=stack.host,
        port=stack.port,
        user="postgres",
        password="admin-pw",
        database="postgres",
    )
    try:
        assert await connection.fetchval("SELECT $1::int", 7) == 7
        async with connection.transaction():
            rows = [row[0] async for row in connection.cursor("SELECT generate_series(1, 120)")]
        assert rows == list(range(1, 121))
    finally:
        await connection.close()


def test_pipeline_answers_in_order(stack):
    with stack.connect() as connection, connection.pipeline():
        cursors = [connection.execute("SELECT %s::int", (number,)) for number in range(50)]
        assert [cursor.fetchone() for cursor in cursors] == [(number,) for number in range(50)]


def test_copy_goes_both_ways(stack):
    with stack.connect() as connection:
        connection.execute("CREATE TEMP TABLE numbers (n int)")
        with connection.cursor().copy("COPY numbers FROM STDIN") as copy:
            for number in range(1000):
                copy.write_row((number,))
        with connection.cursor().copy("COPY numbers TO STDOUT") as copy:
            assert sum(1 for _ in copy.rows()) == 1000
        assert connection.execute("SELECT count(*) FROM numbers").fetchone() == (1000,)


def test_server_error_leaves_the_session_usable(stack):
    with stack.connect() as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0")
        assert connection.execute("SELECT 1").fetchone() == (1,)
