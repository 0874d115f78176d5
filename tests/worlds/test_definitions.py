"""Definitions that a restricted session changes, beside changes of the schema by others, through the whole product."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from sluice_dev.restricted import Restriction

ROLE = "builder"
SCHEMA = f"""
CREATE ROLE {ROLE} LOGIN;
GRANT CREATE, USAGE ON SCHEMA public TO {ROLE};
CREATE TABLE held (id int PRIMARY KEY, secret text, shown text);
GRANT SELECT, INSERT, UPDATE, DELETE ON held TO {ROLE};
CREATE FUNCTION peek(anyelement) RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT secret FROM public.held';
"""
RESTRICTION = Restriction(
    name="built",
    role=ROLE,
    unreviewed="allow",
    columns=[{"table": "public.*", "column": "secret", "class": "pii"}],
    masks=[{"class": "pii", "mask": "redact"}],
    actions=[
        *("select", "insert", "update", "delete"),
        *("ddl.create", "ddl.alter", "ddl.drop", "session"),
    ],
)


@pytest.fixture(scope="module")
def dsns() -> Iterator[tuple[str, str]]:
    """DSNs straight to the server, as its administrator, and through Sluice."""
    with RESTRICTION.running(SCHEMA) as (server, sluice):
        yield server.dsn(dbname="built"), sluice.dsn(user=ROLE, password="")


@pytest.fixture
def admin(dsns: tuple[str, str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsns[0], autocommit=True) as connection:
        yield connection


@pytest.fixture
def session(dsns: tuple[str, str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsns[1], autocommit=True) as connection:
        yield connection
        connection.execute("ROLLBACK")


def known(session: psycopg.Connection[Any], sql: bytes) -> None:
    """Wait until Sluice knows the new table."""
    for _ in range(50):
        with contextlib.suppress(psycopg.Error):
            session.execute(sql)
            return
        time.sleep(0.1)
    pytest.fail("the catalog was not read again")


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize(
    "sql",
    [
        b"ALTER TABLE own RENAME COLUMN secret TO body",
        b"ALTER TABLE own RENAME TO elsewhere",
        b"ALTER TABLE own ADD COLUMN more int GENERATED ALWAYS AS (length(secret)) STORED",
        b"ALTER TABLE own ALTER COLUMN secret TYPE int USING secret::int",
        b"CREATE INDEX ON own ((secret::int))",
        b"DROP TABLE own",
    ],
)
def test_definition_is_not_changed_by_what_was_judged_before_the_table_was_governed(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], sql: bytes, *, extended: bool
) -> None:
    admin.execute("DROP TABLE IF EXISTS own, elsewhere")
    admin.execute("CREATE TABLE own (id int)")
    admin.execute("INSERT INTO own VALUES (1)")
    admin.execute(f"ALTER TABLE own OWNER TO {ROLE}".encode())
    known(session, b"SELECT id FROM own")
    options: dict[str, Any] = {"binary": extended}
    for _ in range(2):
        # Now a plan of it is kept, and it changed nothing.
        session.execute("BEGIN")
        with contextlib.suppress(psycopg.errors.UndefinedColumn):
            session.execute(sql, **options)
        session.execute("ROLLBACK")
    admin.execute(
        "BEGIN; ALTER TABLE own ADD secret text; UPDATE own SET secret = 'canary'; COMMIT"
    )
    refusals = (
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.ObjectNotInPrerequisiteState,
    )
    with pytest.raises(refusals):
        session.execute(sql, **options)
    assert session.execute("SELECT secret FROM own").fetchall() == [("***",)]


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_definitions_are_changed_one_after_the_other_beside_changes_of_others(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], *, extended: bool
) -> None:
    for number in range(5):
        for step in (
            "CREATE TABLE chain (id serial PRIMARY KEY, note text)",
            "ALTER TABLE chain ADD COLUMN more int DEFAULT 1",
            "CREATE INDEX chain_more ON chain (more)",
            "ALTER TABLE chain RENAME COLUMN more TO other",
            "INSERT INTO chain (note) VALUES ('x')",
            "DROP TABLE chain",
        ):
            admin.execute(f"CREATE TABLE beside_{number} (id int)".encode())
            session.execute(step.encode(), binary=extended)
            admin.execute(f"DROP TABLE beside_{number}".encode())


MADE = b"CREATE TEMP TABLE t (id int, secret text, held text); INSERT INTO t VALUES (1, 'x', 'y')"
SHORT = b"CREATE TEMP TABLE t (id int); INSERT INTO t VALUES (1)"
WRITES = [
    "UPDATE held SET shown = (SELECT secret FROM t)",
    "UPDATE held SET shown = (SELECT z.secret FROM (SELECT secret FROM t) z)",
    "UPDATE held SET shown = (SELECT secret FROM (SELECT * FROM t) z)",
    "UPDATE held SET shown = (WITH z AS (SELECT * FROM t) SELECT secret FROM z)",
    "UPDATE held SET shown = (SELECT max(secret) FROM t WHERE secret > 'a' GROUP BY secret ORDER BY secret)",
    "UPDATE held SET shown = (SELECT held::text FROM t)",
    "UPDATE held SET shown = 'x' RETURNING (SELECT secret FROM t)",
    "UPDATE held SET shown = 'x' RETURNING (SELECT held::text FROM t)",
    "UPDATE held SET shown = 'hit' WHERE EXISTS (SELECT FROM t WHERE secret LIKE 'canary%')",
    "DELETE FROM held WHERE 'canary' IN (SELECT secret FROM t) RETURNING 'hit'",
    "INSERT INTO held VALUES (1) ON CONFLICT (id) DO UPDATE SET shown = (SELECT secret FROM t)",
    "MERGE INTO held USING (SELECT 1 AS one) s ON id = one WHEN MATCHED THEN UPDATE SET shown = (SELECT secret FROM t)",
]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    ("before", "change"),
    [
        (MADE, "ALTER TABLE t DROP COLUMN secret, DROP COLUMN held"),
        (SHORT, "CREATE TEMP TABLE IF NOT EXISTS t (id int, secret text, held text)"),
    ],
    ids=["dropped", "never made"],
)
def test_column_that_is_gone_never_means_the_target_of_a_write(
    session: psycopg.Connection[Any],
    admin: psycopg.Connection[Any],
    before: bytes,
    change: str,
    write: str,
) -> None:
    admin.execute("TRUNCATE held; INSERT INTO held VALUES (1, 'canary', 'x')")
    session.execute(before)
    with pytest.raises(psycopg.Error):
        session.execute(f"{change}; {write}".encode())
    rows = admin.execute("SELECT secret, shown FROM held").fetchall()
    assert rows == [("canary", "x")]


def test_column_that_the_transaction_renamed_never_means_the_target_of_a_write(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    admin.execute("TRUNCATE held; INSERT INTO held VALUES (1, 'canary', 'x')")
    admin.execute("DROP TABLE IF EXISTS plain; CREATE TABLE plain (id int, shown text, held text)")
    admin.execute("INSERT INTO plain VALUES (1, 'x', 'y')")
    admin.execute(f"ALTER TABLE plain OWNER TO {ROLE}".encode())
    known(session, b"SELECT held FROM plain")
    session.execute("BEGIN")
    session.execute("ALTER TABLE plain RENAME COLUMN held TO other")
    with pytest.raises(psycopg.Error):
        session.execute("UPDATE held SET shown = (SELECT held::text FROM plain)")
    session.execute("ROLLBACK")


def test_value_of_another_table_is_written_beside_a_masked_column_of_its_name(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    admin.execute("TRUNCATE held; INSERT INTO held VALUES (1, 'canary', 'x')")
    session.execute(MADE)
    session.execute("UPDATE held SET shown = (SELECT secret FROM t WHERE t.id = held.id)")
    session.execute("UPDATE held SET secret = (SELECT max(secret) FROM t WHERE secret > 'a')")
    assert admin.execute("SELECT secret, shown FROM held").fetchall() == [("x", "x")]
    for sql in (
        "UPDATE held SET shown = (SELECT s FROM (SELECT secret AS s FROM t ORDER BY secret) z)",
        "UPDATE held SET shown = (SELECT id::text AS secret FROM t ORDER BY secret)",
        "DELETE FROM held WHERE id IN (SELECT id FROM t WHERE secret = 'x') AND false",
        "INSERT INTO held VALUES (1) ON CONFLICT (id) DO UPDATE SET shown = (SELECT secret FROM t)",
    ):
        session.execute(sql.encode())


@pytest.mark.parametrize("sql", ["SELECT t.peek FROM t", "SELECT z.peek FROM (SELECT * FROM t) z"])
def test_column_that_is_gone_never_means_a_function(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], sql: str
) -> None:
    admin.execute("TRUNCATE held; INSERT INTO held VALUES (1, 'canary', 'x')")
    session.execute(SHORT)
    with pytest.raises(psycopg.Error):
        session.execute(f"CREATE TEMP TABLE IF NOT EXISTS t (id int, peek text); {sql}".encode())


@pytest.mark.parametrize(
    "sql", ["DROP TABLE base CASCADE", "ALTER TABLE base DROP COLUMN note CASCADE"]
)
def test_cascade_takes_no_governed_view_along(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], sql: str
) -> None:
    admin.execute("DROP TABLE IF EXISTS base CASCADE; CREATE TABLE base (id int, note text)")
    admin.execute(
        "CREATE VIEW over_base AS SELECT h.secret, b.note FROM held h JOIN base b USING (id)"
    )
    admin.execute(f"ALTER TABLE base OWNER TO {ROLE}".encode())
    known(session, b"SELECT id FROM base")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(sql.encode())
    assert admin.execute("SELECT count(*) FROM over_base").fetchall() != []
    admin.execute("DROP VIEW over_base; CREATE VIEW over_base AS SELECT note FROM base")
    known(session, sql.encode())


def test_temporary_tables_are_tied_to_each_other_as_without_sluice(
    session: psycopg.Connection[Any],
) -> None:
    for sql in (
        "CREATE TEMP TABLE days (day int, shown text) PARTITION BY LIST (day)",
        "CREATE TEMP TABLE monday AS SELECT 1 AS day, secret AS shown FROM held",
        "CREATE TEMP TABLE other (LIKE monday)",
        "ALTER TABLE days ATTACH PARTITION monday FOR VALUES IN (1)",
        "ALTER TABLE days ATTACH PARTITION other DEFAULT",
        "INSERT INTO days VALUES (1, 'm'), (2, 't')",
        "ALTER TABLE days DETACH PARTITION other",
        "CREATE TEMP TABLE above (day int)",
        "ALTER TABLE other INHERIT above",
    ):
        session.execute(sql.encode())
    assert session.execute("SELECT day FROM days WHERE shown = 'm'").fetchall() == [(1,)]
    assert session.execute("SELECT day FROM above").fetchall() == [(2,)]
    session.execute("ALTER TABLE pg_temp.other NO INHERIT pg_temp.above")
    assert session.execute("SELECT day FROM above").fetchall() == []


def test_temporary_table_is_tied_to_no_other_table(session: psycopg.Connection[Any]) -> None:
    session.execute("CREATE TABLE lasting (day int)")
    session.execute("CREATE TEMP TABLE passing (day int)")
    for one, other in (("passing", "lasting"), ("lasting", "passing"), ("passing", "held")):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(f"ALTER TABLE {one} INHERIT {other}".encode())
    session.execute("DROP TABLE lasting")
