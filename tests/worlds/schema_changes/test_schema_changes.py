"""What migrations define of what no policy speaks of: as without Sluice."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import psycopg
import pytest


def answers(connection: psycopg.Connection[Any], steps: tuple[str, ...]) -> list[Any]:
    """Return status and rows of each step, in one transaction that is rolled back."""
    told: list[Any] = []
    connection.execute("BEGIN")
    for step in steps:
        cursor = connection.execute(step.encode())
        told.append((cursor.statusmessage, cursor.fetchall() if cursor.description else None))
    connection.execute("ROLLBACK")
    return told


WORKS = {
    "index": (
        "CREATE INDEX plain_trgm ON plain USING gin (name public.gin_trgm_ops) WITH (fastupdate = off)",
        "ALTER INDEX plain_trgm RENAME TO plain_search",
        "COMMENT ON INDEX plain_name IS 'by name'",
        "ALTER INDEX public.plain_name RENAME TO plain_by_name",
        "DROP INDEX IF EXISTS plain_search, nowhere",
        "DROP INDEX public.plain_by_name",
    ),
    "enum": (
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'happy' AFTER 'ok'",
        "COMMENT ON TYPE mood IS 'of people'",
        "CREATE TABLE moods (m mood NOT NULL DEFAULT 'ok', n public.mood)",
        "INSERT INTO moods VALUES ('sad'), (DEFAULT)",
        "SELECT m, m::text AS t FROM moods WHERE m >= 'sad'::mood ORDER BY t",
        "DROP TABLE moods",
        "DROP TYPE mood",
        "DROP TYPE IF EXISTS nowhere CASCADE",
    ),
    "composite and domain": (
        "CREATE TYPE point3 AS (x int, y int, z numeric(4, 1))",
        "CREATE DOMAIN mail AS text NOT NULL CHECK (VALUE ~ '@') CONSTRAINT short CHECK (length(VALUE) < 20)",
        "CREATE TABLE places (at point3, by mail)",
        "INSERT INTO places VALUES (ROW(1, 2, 3.5), 'a@b')",
        "SELECT (at).z, by FROM places",
        "DROP TABLE places",
        "DROP DOMAIN mail",
    ),
    "schema": (
        "CREATE SCHEMA IF NOT EXISTS public",
        "CREATE SCHEMA billing",
        "CREATE TABLE billing.bills (id serial PRIMARY KEY, plain_id int REFERENCES plain)",
        "INSERT INTO billing.bills (plain_id) VALUES (1) RETURNING id",
        "CREATE TYPE billing.kind AS ENUM ('a')",
        "DROP TABLE billing.bills",
        "DROP TYPE billing.kind",
        "DROP SCHEMA billing",
        "DROP SCHEMA IF EXISTS nowhere CASCADE",
    ),
    "extension that is there": (
        "CREATE EXTENSION IF NOT EXISTS pg_trgm",
        'CREATE EXTENSION IF NOT EXISTS "pg_trgm" WITH SCHEMA public',
    ),
    "views": (
        "CREATE VIEW cheap AS SELECT id, name FROM plain WHERE amount < 2",
        "CREATE OR REPLACE VIEW free_view WITH (security_barrier) AS SELECT id FROM plain WHERE id > 0",
        "ALTER VIEW free_view RENAME TO open_view",
        "COMMENT ON VIEW plain_view IS 'names'",
        "DROP VIEW cheap",
    ),
    "materialized views": (
        "REFRESH MATERIALIZED VIEW sums",
        "CREATE MATERIALIZED VIEW names AS SELECT name, count(*) AS n FROM plain GROUP BY name WITH NO DATA",
        "CREATE UNIQUE INDEX ON names (name)",
        "REFRESH MATERIALIZED VIEW names",
        "DROP MATERIALIZED VIEW names",
        "COMMENT ON MATERIALIZED VIEW sums IS 'sums'",
        "DROP MATERIALIZED VIEW IF EXISTS sums",
    ),
    "renaming as dbt does": (
        'create view "public"."model__dbt_tmp" as (select id, name from plain)',
        'alter table "public"."free_view" rename to "model__dbt_backup"',
        'alter table "public"."model__dbt_tmp" rename to "free_view"',
        'create table "public"."facts__dbt_tmp" as (select name, amount from plain)',
        'alter table "public"."facts__dbt_tmp" rename to "facts"',
        'select count(*) from "public"."facts"',
        'drop view if exists "public"."model__dbt_backup" cascade',
    ),
    "comments": (
        "COMMENT ON TABLE plain IS 'plain'",
        "COMMENT ON COLUMN public.plain.name IS 'name'",
        "COMMENT ON CONSTRAINT plain_pkey ON plain IS 'key'",
        "COMMENT ON SEQUENCE numbers IS NULL",
        "CREATE TABLE told (id int)",
        "COMMENT ON TABLE told IS 'told'",
        "COMMENT ON COLUMN told.id IS 'id'",
    ),
    "upkeep": (
        "ANALYZE plain",
        "ANALYZE VERBOSE plain (name)",
        "CREATE TABLE loaded AS SELECT * FROM plain",
        "ANALYZE loaded",
    ),
    "sequences": (
        "ALTER SEQUENCE numbers RESTART WITH 7 INCREMENT BY 2",
        "SELECT nextval('numbers')",
        "ALTER SEQUENCE plain_id_seq AS bigint",
        "CREATE TABLE counted (id int DEFAULT nextval('numbers'))",
        "ALTER SEQUENCE numbers OWNED BY counted.id",
        "ALTER SEQUENCE numbers OWNED BY NONE",
        "ALTER SEQUENCE numbers RENAME TO figures",
        'ALTER TABLE "plain_id_seq" RENAME TO "other_id_seq"',
        "SELECT nextval('other_id_seq') > 0",
        "CREATE SEQUENCE more OWNED BY plain.id",
    ),
    "partitions": (
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')",
        "INSERT INTO parts VALUES (1, '2024-01-02')",
        "SELECT * FROM parts_1",
        "CREATE TABLE logs (id int, day date) PARTITION BY LIST (day)",
        "CREATE TABLE logs_rest PARTITION OF logs DEFAULT",
        "INSERT INTO logs VALUES (1, '2024-01-02')",
        "SELECT id FROM logs",
        "CREATE INDEX ON logs (id)",
        "CREATE TABLE heirs (more int) INHERITS (plain)",
        "DROP TABLE logs_rest, parts_1",
    ),
    "partitions that come and go": (
        "CREATE TABLE parts_2 (id int, at date)",
        "INSERT INTO parts_2 VALUES (2, '2024-02-02')",
        "ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM ('2024-02-01') TO (MAXVALUE)",
        "SELECT id FROM parts",
        "CREATE INDEX parts_2_on ON parts_2 (at)",
        "ALTER TABLE public.parts DETACH PARTITION public.parts_2",
        "SELECT count(*) FROM parts",
        "CREATE TABLE heir (LIKE plain)",
        "ALTER TABLE heir ALTER id SET NOT NULL",
        "ALTER TABLE heir INHERIT plain",
        "ALTER TABLE heir NO INHERIT plain",
    ),
    "indexes of partitions": (
        "CREATE TABLE logs (id int) PARTITION BY LIST (id)",
        "CREATE TABLE logs_1 PARTITION OF logs DEFAULT",
        "CREATE INDEX logs_id ON ONLY logs (id)",
        "CREATE INDEX logs_1_id ON logs_1 (id)",
        "ALTER INDEX logs_id ATTACH PARTITION public.logs_1_id",
    ),
    "keys": (
        "CREATE TABLE child (id int, plain_id int)",
        "ALTER TABLE child ADD CONSTRAINT child_plain FOREIGN KEY (plain_id) REFERENCES plain NOT VALID",
        "ALTER TABLE child VALIDATE CONSTRAINT child_plain",
        "ALTER TABLE child ALTER CONSTRAINT child_plain DEFERRABLE INITIALLY DEFERRED",
        "ALTER TABLE plain ADD COLUMN parent int REFERENCES plain",
        "ALTER TABLE plain ALTER CONSTRAINT plain_parent_fkey DEFERRABLE",
    ),
    "reindexing": (
        "REINDEX TABLE plain",
        "REINDEX (VERBOSE) INDEX plain_name",
        "ALTER INDEX plain_name SET (fillfactor = 70)",
        "ALTER INDEX public.plain_name RESET (fillfactor)",
        "CLUSTER plain USING plain_name",
        "CLUSTER plain",
        "CREATE STATISTICS plain_both (ndistinct, mcv) ON name, (amount + 1) FROM plain",
        "CREATE STATISTICS IF NOT EXISTS plain_both ON name, amount FROM plain",
    ),
    "schemas": (
        "CREATE SCHEMA kept",
        "ALTER TABLE plain SET SCHEMA kept",
        "INSERT INTO kept.plain (name) VALUES ('z')",
        "ALTER TABLE IF EXISTS nowhere SET SCHEMA kept",
        "ALTER VIEW plain_view SET SCHEMA kept",
        "ALTER SEQUENCE numbers SET SCHEMA kept",
        "ALTER TYPE state SET SCHEMA kept",
        "ALTER TYPE kept.state OWNER TO shaper",
    ),
    "what is not there": (
        "DROP FUNCTION IF EXISTS nothing(int, text), public.nothing_else CASCADE",
        "DROP PROCEDURE IF EXISTS nothing",
        "DROP AGGREGATE IF EXISTS nothing(*)",
        "DROP EXTENSION IF EXISTS hstore",
    ),
    "forms of ALTER TABLE": (
        "ALTER TABLE plain ADD CONSTRAINT positive CHECK (amount > 0) NOT VALID",
        "ALTER TABLE plain VALIDATE CONSTRAINT positive",
        "ALTER TABLE plain OWNER TO shaper",
        "ALTER TABLE plain OWNER TO CURRENT_USER",
        "ALTER TABLE plain SET UNLOGGED",
        "ALTER TABLE plain SET (autovacuum_enabled = off)",
        "CREATE TABLE booked (room int, during daterange, EXCLUDE USING gist (room WITH =, during WITH &&)) USING heap",
        "ALTER TABLE booked ADD EXCLUDE USING gist (during WITH &&) WHERE (room > 1)",
    ),
}


@pytest.mark.parametrize("steps", WORKS.values(), ids=WORKS)
def test_definitions_of_what_no_policy_speaks_of_are_answered_as_without_sluice(
    session: psycopg.Connection[Any], direct: psycopg.Connection[Any], steps: tuple[str, ...]
) -> None:
    direct.autocommit = True
    assert answers(session, steps) == answers(direct, steps)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TYPE m AS ENUM ('a'); CREATE TABLE mt (m m, id int); INSERT INTO mt VALUES ('a', 1); SELECT id FROM mt",
        "CREATE SCHEMA s; CREATE TABLE s.t (id int); INSERT INTO s.t VALUES (1); SELECT id FROM s.t",
        "CREATE EXTENSION IF NOT EXISTS pg_trgm; CREATE SCHEMA IF NOT EXISTS public; SELECT 1",
        "CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE q PARTITION OF p DEFAULT; TABLE p; VALUES (1)",
        "CREATE TABLE a (id int); CREATE VIEW av AS SELECT id FROM plain; ANALYZE a; INSERT INTO a VALUES (1); TABLE a",
    ],
)
def test_script_with_definitions_runs_as_one_message(
    session: psycopg.Connection[Any], sql: str
) -> None:
    cursor = session.execute(f"BEGIN; {sql}".encode())
    while cursor.nextset():
        pass
    assert cursor.fetchall() == [(1,)]


@pytest.mark.parametrize(
    "steps",
    [
        ("CREATE VIEW later AS SELECT id FROM plain", "SELECT * FROM later"),
        ("ALTER VIEW free_view RENAME TO later", "SELECT * FROM later"),
        ("CREATE MATERIALIZED VIEW later AS SELECT id FROM plain", "SELECT * FROM later"),
        ("CREATE VIEW later AS SELECT id, name FROM plain", "INSERT INTO later VALUES (9, 'x')"),
    ],
)
def test_view_is_not_used_before_the_catalog_has_its_definition(
    session: psycopg.Connection[Any], steps: tuple[str, ...]
) -> None:
    session.execute("BEGIN")
    for step in steps[:-1]:
        session.execute(step.encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
        session.execute(steps[-1].encode())
    assert caught.value.diag.message_hint


def test_view_over_what_became_governed_shows_its_masks(
    session: psycopg.Connection[Any], dsns: tuple[str, str, str]
) -> None:
    session.execute("CREATE TABLE growing (id int, name text)")
    session.execute("CREATE VIEW over_growing AS SELECT * FROM growing")
    with psycopg.connect(dsns[1], autocommit=True) as admin:
        admin.execute("ALTER TABLE growing RENAME COLUMN name TO secret")
        admin.execute("INSERT INTO growing VALUES (1, 'canary')")
    shown: list[Any] = []
    for _ in range(50):
        with contextlib.suppress(psycopg.Error):
            shown = session.execute("SELECT name FROM over_growing").fetchall()
            break
        time.sleep(0.1)
    assert shown == [("***",)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(
            "CREATE OR REPLACE VIEW over_growing AS SELECT id, 'x'::text AS name FROM plain"
        )


def test_partition_shows_the_masks_that_its_names_come_to(
    session: psycopg.Connection[Any],
) -> None:
    session.execute("CREATE TABLE months (id int, at date, note text) PARTITION BY RANGE (at)")
    session.execute("CREATE TABLE months_1 PARTITION OF months DEFAULT")
    session.execute("INSERT INTO months VALUES (1, '2024-01-01', 'x')")
    for _ in range(50):
        with contextlib.suppress(psycopg.Error):
            assert session.execute("SELECT note FROM months").fetchall() == [("x",)]
            break
        time.sleep(0.1)
    session.execute("ALTER TABLE months RENAME COLUMN note TO secret")
    rows: list[Any] = []
    for _ in range(50):
        with contextlib.suppress(psycopg.Error):
            rows = session.execute(
                "SELECT secret FROM months UNION ALL SELECT secret FROM months_1"
            ).fetchall()
            break
        time.sleep(0.1)
    assert rows == [("***",), ("***",)]


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE nowhere ADD COLUMN x int",
        "ALTER TABLE ONLY public.nowhere ADD COLUMN x int",
        "ALTER TABLE absent.nowhere ADD COLUMN x int",
        "CREATE INDEX ON nowhere (id)",
        "ALTER TABLE nowhere RENAME COLUMN a TO b",
        "ALTER SEQUENCE nowhere RESTART",
        "ANALYZE nowhere",
        "REFRESH MATERIALIZED VIEW nowhere",
        "CREATE TABLE heir PARTITION OF nowhere DEFAULT",
    ],
)
def test_definition_of_what_is_nowhere_is_answered_as_by_the_server(
    session: psycopg.Connection[Any], direct: psycopg.Connection[Any], sql: str
) -> None:
    told: list[tuple[str | None, str | None]] = []
    for connection in (direct, session):
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(sql.encode())
        told.append((caught.value.diag.sqlstate, caught.value.diag.message_primary))
    assert told[0] == told[1]
