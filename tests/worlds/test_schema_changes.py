"""What migrations define: as without Sluice where no policy speaks of it, refused where one does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from sluice_dev.restricted import Restriction

ROLE = "shaper"
SCHEMA = f"""
CREATE EXTENSION pg_trgm;
CREATE EXTENSION btree_gist;
CREATE ROLE {ROLE} LOGIN;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO {ROLE}', current_database()); END $$;
GRANT CREATE, USAGE ON SCHEMA public TO {ROLE};
SET ROLE {ROLE};
CREATE TYPE state AS ENUM ('new', 'done');
CREATE TABLE held (id serial PRIMARY KEY, secret text, shown text, at date);
CREATE INDEX held_shown ON held (shown);
CREATE INDEX held_secret ON held (secret);
CREATE TABLE veiled (secret serial);
CREATE TABLE held_parts (id int, secret text) PARTITION BY LIST (id);
CREATE TABLE plain (id serial PRIMARY KEY, name text DEFAULT 'x', amount numeric, state state DEFAULT 'new', at date);
CREATE INDEX plain_name ON plain (name);
CREATE TABLE parts (id int, at date) PARTITION BY RANGE (at);
CREATE VIEW held_view AS SELECT id, secret FROM held;
CREATE VIEW plain_view AS SELECT id, name FROM plain;
CREATE VIEW over_plain AS SELECT p.id, h.secret FROM plain_view p JOIN held h USING (id);
CREATE VIEW free_view AS SELECT id FROM plain;
CREATE MATERIALIZED VIEW sums AS SELECT state, sum(amount) AS total FROM plain GROUP BY state;
CREATE MATERIALIZED VIEW held_sums AS SELECT shown, max(secret) AS secret FROM held GROUP BY shown;
CREATE SEQUENCE numbers;
INSERT INTO held (secret, shown, at) VALUES ('canary-one', 'a', '2024-01-01'), ('canary-two', 'b', '2024-01-02');
INSERT INTO plain (name, amount, at) VALUES ('a', 1, '2024-01-01'), ('b', 2, '2024-01-02');
"""
RESTRICTION = Restriction(
    name="shaped",
    role=ROLE,
    unreviewed="allow",
    columns=[{"table": "public.*", "column": "secret", "class": "pii"}],
    masks=[{"class": "pii", "mask": "redact"}],
    actions=[
        *("select", "insert", "update", "delete", "ddl.*", "session"),
    ],
)


@pytest.fixture(scope="module")
def dsns() -> Iterator[tuple[str, str, str]]:
    """DSNs of the role straight to the server, of its administrator, and through Sluice."""
    with RESTRICTION.running(SCHEMA) as (server, sluice):
        direct = server.dsn(dbname="shaped", user=ROLE)
        yield direct, server.dsn(dbname="shaped"), sluice.dsn(user=ROLE, password="")


@pytest.fixture
def direct(dsns: tuple[str, str, str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsns[0]) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def session(dsns: tuple[str, str, str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsns[2], autocommit=True) as connection:
        yield connection
        connection.execute("ROLLBACK")


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
    "forms of ALTER TABLE": (
        "ALTER TABLE plain ADD CONSTRAINT positive CHECK (amount > 0) NOT VALID",
        "ALTER TABLE plain VALIDATE CONSTRAINT positive",
        f"ALTER TABLE plain OWNER TO {ROLE}",
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


REFUSED = [
    "DROP INDEX held_shown",
    "DROP INDEX public.held_secret",
    "DROP INDEX plain_name, held_secret",
    "DROP INDEX plain_name CASCADE",
    "ALTER INDEX held_secret RENAME TO mine",
    "COMMENT ON INDEX held_secret IS 'x'",
    "CREATE INDEX ON held (shown)",
    "CREATE VIEW mine AS SELECT shown FROM held",
    "CREATE VIEW mine AS SELECT name FROM plain WHERE EXISTS (SELECT FROM held WHERE secret LIKE 'canary%')",
    "CREATE VIEW mine AS SELECT * FROM over_plain",
    "CREATE VIEW mine AS SELECT relname FROM pg_class",
    "CREATE VIEW mine AS SELECT current_setting('search_path') AS path",
    "CREATE VIEW mine AS SELECT pg_get_viewdef('held_view'::regclass)",
    "CREATE OR REPLACE VIEW plain_view AS SELECT id, name FROM plain",
    "CREATE OR REPLACE VIEW held_view AS SELECT id, name AS secret FROM plain",
    "CREATE MATERIALIZED VIEW mine AS SELECT secret FROM held",
    "CREATE MATERIALIZED VIEW mine AS SELECT shown FROM held WITH NO DATA",
    "REFRESH MATERIALIZED VIEW held_sums",
    "DROP MATERIALIZED VIEW held_sums",
    "DROP VIEW held_view",
    "ALTER VIEW held_view RENAME TO mine",
    "ALTER TABLE held_view RENAME TO mine",
    "ALTER TABLE veiled_secret_seq RENAME TO mine",
    "ALTER SEQUENCE veiled_secret_seq RENAME TO mine",
    "ALTER SEQUENCE veiled_secret_seq OWNED BY NONE",
    "COMMENT ON TABLE held IS 'x'",
    "COMMENT ON COLUMN held.secret IS 'x'",
    "COMMENT ON CONSTRAINT held_pkey ON held IS 'x'",
    "VACUUM held",
    "VACUUM",
    "ANALYZE",
    "ANALYZE held",
    "ANALYZE plain, held",
    "ANALYZE pg_class",
    "CREATE SEQUENCE mine OWNED BY held.id",
    "ALTER SEQUENCE numbers OWNED BY held.id",
    "CREATE TABLE mine PARTITION OF held_parts DEFAULT",
    "CREATE TABLE mine () INHERITS (held)",
    "CREATE TABLE mine (secret text) INHERITS (plain)",
    "CREATE TABLE mine OF state",
    "ALTER TABLE held VALIDATE CONSTRAINT held_pkey",
    "ALTER TABLE plain OWNER TO postgres",
    "ALTER TABLE plain ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE plain INHERIT held",
    "ALTER TABLE parts ATTACH PARTITION held FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')",
    "CREATE TYPE date AS ENUM ('a')",
    "CREATE TYPE pg_temp.mine AS ENUM ('a')",
    "CREATE DOMAIN pg_temp.mine AS text",
    "CREATE DOMAIN mine AS held",
    "CREATE DOMAIN mine AS public.plain",
    "CREATE DOMAIN mine AS text CHECK (pg_read_file(VALUE) <> '')",
    "ALTER TYPE state RENAME VALUE 'new' TO 'old'",
    "DROP TYPE state CASCADE",
    "DROP SCHEMA public CASCADE",
    "CREATE SCHEMA mine AUTHORIZATION postgres",
    "CREATE SCHEMA mine CREATE VIEW v AS SELECT secret FROM public.held",
    "CREATE SCHEMA pg_mine",
    "CREATE EXTENSION hstore",
    "CREATE EXTENSION IF NOT EXISTS hstore",
    "CREATE EXTENSION pg_trgm",
    "CREATE TABLE mine (id int, EXCLUDE USING gist (pg_read_file('x') WITH =))",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_definitions_of_what_a_policy_speaks_of_are_refused_and_say_what_to_do(
    session: psycopg.Connection[Any], sql: str
) -> None:
    with pytest.raises(
        (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)
    ) as caught:
        session.execute(sql.encode())
    told = caught.value.diag
    assert told.source_function is None, "the server itself refused it"
    assert told.message_hint
    assert "canary" not in f"{told.message_primary}{told.message_detail}{told.message_hint}"


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


def test_new_table_without_a_schema_behind_a_new_schema_is_refused_in_one_message(
    session: psycopg.Connection[Any],
) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        session.execute("CREATE SCHEMA fresh; CREATE TABLE somewhere (id int)")
    assert "schema in front of the name" in str(caught.value.diag.message_hint)


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


@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        (
            "DO $$ BEGIN CREATE TYPE m AS ENUM ('a'); EXCEPTION WHEN duplicate_object THEN NULL; END $$",
            "by themselves",
        ),
        ("GRANT SELECT ON plain TO PUBLIC", "owner grant it"),
        ("ALTER TABLE plain DISABLE TRIGGER ALL", "no policy restricts"),
        ("CREATE TRIGGER t BEFORE UPDATE ON plain EXECUTE FUNCTION f()", "another database role"),
        ("PREPARE TRANSACTION 'x'", "COMMIT or ROLLBACK"),
        ("EXPLAIN CREATE TABLE x AS SELECT 1", "the query itself"),
        ("SELECT set_config('role', 'x', false)", "as the database's owner has it"),
        ("LISTEN somewhere", "trusted"),
    ],
)
def test_refusal_says_what_to_do_instead(
    session: psycopg.Connection[Any], sql: str, hint: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
        session.execute(sql.encode())
    assert hint in str(caught.value.diag.message_hint)
