"""The catalog stays readable and fresh whatever other sessions do meanwhile."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg
import pytest

from sluice_proxy.catalog.reader import CatalogReader


@asynccontextmanager
async def reading(dsn: str) -> AsyncIterator[CatalogReader]:
    """Close the reader at the end."""
    reader = CatalogReader(dsn)
    try:
        yield reader
    finally:
        await reader.close()


@contextmanager
def busy(dsn: str, *texts: str) -> Iterator[None]:
    """Run the statements over and over in a session of its own meanwhile."""
    ended = threading.Event()

    def work() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            while not ended.is_set():
                for text in texts:
                    connection.execute(text)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize(
    "texts",
    [
        (
            "CREATE TEMP TABLE staged (id serial PRIMARY KEY, name varchar(7) CHECK (name <> ''))",
            "CREATE INDEX ON staged (name)",
            "CREATE TEMP VIEW latest AS SELECT max(id) FROM staged",
            "DROP TABLE staged CASCADE",
        ),
        ("TRUNCATE t RESTART IDENTITY", "INSERT INTO t DEFAULT VALUES"),
        ("REFRESH MATERIALIZED VIEW m", "VACUUM FULL t", "ANALYZE t"),
    ],
    ids=["temporary", "truncated", "rewritten"],
)
async def test_catalog_is_read_while_sessions_work_without_ddl(
    new_database: Callable[[str], str], texts: tuple[str, ...]
) -> None:
    dsn = new_database(
        "CREATE TABLE t (id serial, a text); CREATE MATERIALIZED VIEW m AS SELECT a FROM t"
    )
    async with reading(dsn) as reader:
        first = await reader.read()
        with busy(dsn, *texts):
            for _ in range(5):
                assert not await reader.changed()
                assert await reader.read() is first


async def test_ddl_is_seen_that_ends_after_a_transaction_which_began_later(
    new_database: Callable[[str], str],
) -> None:
    dsn = new_database("CREATE TABLE t (a int); CREATE TABLE other (a int)")
    async with reading(dsn) as reader:
        await reader.read()
        with psycopg.connect(dsn) as migration:
            migration.execute("ALTER TABLE t RENAME a TO b")
            with psycopg.connect(dsn) as later:
                later.execute("INSERT INTO other VALUES (1)")
            assert not await reader.changed()
            migration.commit()
        assert await reader.changed()


@pytest.mark.parametrize(
    "ddl",
    [
        "ALTER COLLATION plain RENAME TO simple",
        "CREATE CAST (json AS text) WITHOUT FUNCTION AS IMPLICIT",
        "CREATE OPERATOR CLASS ours DEFAULT FOR TYPE point USING hash AS OPERATOR 1 ~=, FUNCTION 1 hashed(point)",
        "ALTER EXTENSION pg_trgm ADD FUNCTION similarity(point)",
    ],
)
async def test_ddl_is_seen_that_touches_no_relation_type_or_function(
    new_database: Callable[[str], str], ddl: str
) -> None:
    dsn = new_database(
        'CREATE EXTENSION pg_trgm; CREATE COLLATION plain FROM "C";'
        "CREATE TABLE t (a text COLLATE plain, j json, p point);"
        "CREATE FUNCTION hashed(point) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';"
        "CREATE FUNCTION similarity(point) RETURNS int LANGUAGE sql AS 'SELECT 1'"
    )
    async with reading(dsn) as reader:
        before = await reader.read()
        with psycopg.connect(dsn, autocommit=True) as migration:
            migration.execute(ddl.encode())
        assert await reader.changed()
        assert await reader.read() is not before
