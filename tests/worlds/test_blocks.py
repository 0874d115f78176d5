"""DO blocks of definitions, as ORMs and migration tools send them, through the whole product."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from sluice_dev.restricted import Restriction

ROLE = "drizzler"
SCHEMA = f"""
CREATE ROLE {ROLE} LOGIN;
GRANT CREATE, USAGE ON SCHEMA public TO {ROLE};
CREATE TABLE held (id int PRIMARY KEY, secret text, shown text);
INSERT INTO held VALUES (1, 'canary', 'x');
GRANT SELECT, INSERT, UPDATE, DELETE, REFERENCES ON held TO {ROLE};
"""
RESTRICTION = Restriction(
    name="blocks",
    role=ROLE,
    unreviewed="allow",
    columns=[{"table": "public.*", "column": "secret", "class": "pii"}],
    masks=[{"class": "pii", "mask": "redact"}],
    actions=["select", "insert", "update", "delete", "ddl.create", "ddl.alter", "session"],
)


@pytest.fixture(scope="module")
def dsns() -> Iterator[tuple[str, str]]:
    """DSNs straight to the server, as its administrator, and through Sluice."""
    with RESTRICTION.running(SCHEMA) as (server, sluice):
        yield server.dsn(dbname="blocks"), sluice.dsn(user=ROLE, password="")


@pytest.fixture
def admin(dsns: tuple[str, str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsns[0], autocommit=True) as connection:
        yield connection


@pytest.fixture
def session(dsns: tuple[str, str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsns[1], autocommit=True) as connection:
        yield connection
        connection.execute("ROLLBACK")


DRIZZLE = """
DO $$ BEGIN
 CREATE TYPE "public"."mood" AS ENUM('calm', 'loud');
EXCEPTION
 WHEN duplicate_object THEN null;
END $$;
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "owners" ("id" serial PRIMARY KEY NOT NULL, "mood" "mood");
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS "pets" ("id" serial PRIMARY KEY NOT NULL, "owner" integer NOT NULL);
--> statement-breakpoint
DO $$ BEGIN
 ALTER TABLE "pets" ADD CONSTRAINT "pets_owner_fk" FOREIGN KEY ("owner") REFERENCES "public"."owners"("id")
 ON DELETE no action ON UPDATE no action;
EXCEPTION
 WHEN duplicate_object THEN null;
END $$;
"""


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_drizzles_migration_runs_twice_in_a_transaction_each(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], *, extended: bool
) -> None:
    admin.execute("DROP TABLE IF EXISTS pets, owners; DROP TYPE IF EXISTS mood")
    for _ in range(2):
        session.execute("BEGIN")
        for statement in DRIZZLE.split("--> statement-breakpoint"):
            session.execute(statement.encode(), binary=extended)
        session.execute("INSERT INTO owners (mood) VALUES ('calm')")
        session.execute("COMMIT")
    assert session.execute("SELECT count(*), min(mood) FROM owners").fetchall() == [(2, "calm")]
    held = "SELECT count(*) FROM pg_constraint WHERE conname = 'pets_owner_fk'"
    assert admin.execute(held.encode()).fetchall() == [(1,)]


def test_block_of_sequelize_runs_by_itself(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    admin.execute("DROP TABLE IF EXISTS pets, owners; DROP TYPE IF EXISTS enum_users_role")
    sql = (
        b"DO 'BEGIN CREATE TYPE \"public\".\"enum_users_role\" AS ENUM(''a'', ''b''); "
        b"EXCEPTION WHEN duplicate_object THEN null; END';"
    )
    for _ in range(3):
        session.execute(sql)
    assert session.execute("SELECT 'b'::enum_users_role").fetchall() == [("b",)]


def test_table_of_a_block_is_masked_as_every_other(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    admin.execute("DROP TABLE IF EXISTS fresh")
    made = b"""DO $$ BEGIN CREATE TABLE fresh (id int, secret text, note text);
               EXCEPTION WHEN duplicate_table THEN NULL; END $$"""
    session.execute(made)
    session.execute("INSERT INTO fresh VALUES (1, 'mine', 'n')")
    assert session.execute("SELECT secret, note FROM fresh").fetchall() == [("***", "n")]
    session.execute("BEGIN")
    session.execute(made)
    assert session.execute("SELECT secret, note FROM fresh").fetchall() == [("***", "n")]
    session.execute("ROLLBACK")
    admin.execute("DROP TABLE fresh")
    session.execute("BEGIN")
    session.execute(made)
    session.execute("INSERT INTO fresh VALUES (1, 'mine', 'n')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
        session.execute("SELECT secret FROM fresh")
    assert "COMMIT before the table is read" in str(caught.value.diag.message_hint)


def test_temporary_table_of_a_block_stands_before_the_one_of_its_name(
    session: psycopg.Connection[Any],
) -> None:
    made = b"DO $$ BEGIN CREATE TEMP TABLE held (secret text); EXCEPTION WHEN duplicate_table THEN NULL; END $$"
    for _ in range(2):
        session.execute(made)
        session.execute("INSERT INTO held VALUES ('mine')")
    assert session.execute("SELECT * FROM held").fetchall() == [("mine",), ("mine",)]
    assert session.execute("SELECT secret FROM public.held").fetchall() == [("***",)]
    session.execute("DROP TABLE held")


@pytest.mark.parametrize(
    "body",
    [
        "ALTER TABLE held ADD COLUMN more int; EXCEPTION WHEN duplicate_column THEN NULL;",
        "CREATE TABLE tied (id int REFERENCES held);",
        "CREATE INDEX ON held (secret);",
        "CREATE TABLE ok (id int); PERFORM secret FROM held;",
        "CREATE TABLE ok (id int); EXCEPTION WHEN others THEN NULL;",
        "CREATE TABLE ok (id int); EXCEPTION WHEN duplicate_table THEN UPDATE held SET shown = secret;",
        "DROP TYPE IF EXISTS nothing;",
    ],
)
def test_block_with_more_than_its_session_may_define_is_refused(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], body: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(f"DO $$ BEGIN {body} END $$".encode())
    assert admin.execute("SELECT to_regclass('ok'), shown FROM held").fetchall() == [(None, "x")]


def test_errors_that_a_block_does_not_catch_come_back(session: psycopg.Connection[Any]) -> None:
    session.execute("CREATE TABLE IF NOT EXISTS twice (id int)")
    with pytest.raises(psycopg.errors.DuplicateTable):
        session.execute(b"DO $$ BEGIN CREATE TABLE twice (id int); END $$")
    with pytest.raises(psycopg.errors.DuplicateTable):
        session.execute(
            b"DO $$ BEGIN CREATE TABLE twice (id int); EXCEPTION WHEN duplicate_column THEN NULL; END $$"
        )


ASKED = [
    "IF NOT EXISTS (SELECT 1 FROM pg_type WHERE typname = 'weather') THEN CREATE TYPE weather AS ENUM ('a'); END IF;",
    """IF NOT EXISTS (SELECT 1 FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
       WHERE t.typname = 'weather' AND n.nspname = 'public') THEN CREATE TYPE public.weather AS ENUM ('a'); END IF;""",
    """IF NOT EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'days'
       AND column_name = 'kind') THEN ALTER TABLE days ADD COLUMN kind text DEFAULT 'c'; END IF;""",
    """IF EXISTS (SELECT 1 FROM information_schema.tables WHERE table_name = 'days') AND NOT EXISTS (SELECT 1
       FROM pg_constraint WHERE conname = 'days_positive') THEN
       ALTER TABLE days ADD CONSTRAINT days_positive CHECK (id > 0); END IF;""",
    """IF NOT EXISTS (SELECT 1 FROM pg_class c WHERE c.relname = 'days_id' AND c.relkind = 'i') THEN
       CREATE INDEX days_id ON days (id); END IF;
       IF NOT EXISTS (SELECT 1 FROM pg_indexes WHERE indexname = 'days_id2') THEN CREATE INDEX days_id2 ON days (id);
       END IF;""",
    """IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'plpgsql') THEN
       CREATE EXTENSION IF NOT EXISTS plpgsql; END IF;""",
    "IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public') THEN CREATE TABLE never (id int); END IF;",
]


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("body", ASKED)
def test_definition_that_asks_whether_it_is_there_works_as_without_sluice(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], body: str, *, extended: bool
) -> None:
    told = """SELECT (SELECT array_agg(enumlabel ORDER BY 1) FROM pg_enum WHERE enumtypid = to_regtype('weather')),
              (SELECT array_agg(attname ORDER BY 1) FROM pg_attribute WHERE attrelid = to_regclass('days')),
              (SELECT array_agg(conname ORDER BY 1) FROM pg_constraint WHERE conrelid = to_regclass('days')),
              (SELECT array_agg(indexname ORDER BY 1) FROM pg_indexes WHERE tablename = 'days'),
              to_regclass('never')"""
    found: list[Any] = []
    for connection in (admin, session):
        admin.execute("DROP TABLE IF EXISTS days; DROP TYPE IF EXISTS weather")
        connection.execute("CREATE TABLE days (id int)")
        for _ in range(2):
            connection.execute("BEGIN")
            connection.execute(f"DO $$ BEGIN {body} END $$".encode(), binary=extended)
            connection.execute("COMMIT")
        found.append(admin.execute(told.encode()).fetchall())
    assert found[0] == found[1]
    admin.execute("DROP TABLE IF EXISTS days; DROP TYPE IF EXISTS weather")


def test_branch_tells_no_more_of_a_default_than_the_catalog_shows(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    admin.execute("ALTER TABLE held ALTER secret SET DEFAULT 'canary'")
    asked = b"""SELECT 1 FROM information_schema.columns
                WHERE column_name = 'secret' AND column_default LIKE '%canary%'"""
    deadline = time.monotonic() + 5
    while session.execute(asked).fetchall() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert session.execute(asked).fetchall() == []
    session.execute(
        b"DO $$ BEGIN IF EXISTS (" + asked + b") THEN CREATE TABLE told (id int); END IF; END $$"
    )
    assert admin.execute("SELECT to_regclass('told')").fetchall() == [(None,)]
    admin.execute("ALTER TABLE held ALTER secret DROP DEFAULT")


@pytest.mark.parametrize(
    "body",
    [
        "IF EXISTS (SELECT FROM held WHERE secret LIKE 'c%') THEN CREATE TABLE told (id int); END IF;",
        "IF EXISTS (SELECT FROM pg_stats WHERE tablename = 'held') THEN CREATE TABLE told (id int); END IF;",
        "IF EXISTS (SELECT FROM pg_type) THEN ALTER TABLE held ADD COLUMN more int; END IF;",
        "IF EXISTS (SELECT FROM pg_type) THEN CREATE TABLE told (id int); END IF; ALTER TABLE told ADD x int;",
    ],
)
def test_condition_that_asks_for_more_than_names_is_refused(
    session: psycopg.Connection[Any], body: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
        session.execute(f"DO $$ BEGIN {body} END $$".encode())
    assert caught.value.diag.message_hint


PRISMA = """
BEGIN;
CREATE TYPE "Role_new" AS ENUM ('USER');
ALTER TABLE "people" ALTER COLUMN "role" DROP DEFAULT;
ALTER TABLE "people" ALTER COLUMN "role" TYPE "Role_new" USING ("role"::text::"Role_new");
ALTER TYPE "Role" RENAME TO "Role_old";
ALTER TYPE "Role_new" RENAME TO "Role";
ALTER TABLE "people" ALTER COLUMN "role" SET DEFAULT 'USER';
COMMIT;
"""


def test_enum_is_exchanged_in_one_message_as_prisma_does(dsns: tuple[str, str]) -> None:
    with psycopg.connect(dsns[1], autocommit=True) as session:
        session.execute("CREATE TYPE \"Role\" AS ENUM ('USER', 'ADMIN')")
        session.execute('CREATE TABLE people (id int, "role" "Role" NOT NULL DEFAULT \'USER\')')
        session.execute(PRISMA.encode())
        session.execute("INSERT INTO people VALUES (1, DEFAULT)")
        shown = session.execute("SELECT role, pg_typeof(role)::text FROM people").fetchall()
        assert shown == [("USER", '"Role"')]
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            session.execute("INSERT INTO people VALUES (2, 'ADMIN')")


def test_rights_are_given_only_where_the_policy_says_so(session: psycopg.Connection[Any]) -> None:
    session.execute("CREATE TABLE IF NOT EXISTS given (id int)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
        session.execute("GRANT SELECT ON given TO PUBLIC")
    assert "ddl.grant" in str(caught.value.diag.message_detail)
