"""What migrations define of what a policy speaks of: refused, with what to do."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

REFUSED = [
    "DROP INDEX held_shown",
    "DROP INDEX public.held_secret",
    "DROP INDEX plain_name, held_secret",
    "DROP INDEX plain_name CASCADE",
    "ALTER INDEX held_secret RENAME TO mine",
    "ALTER INDEX held RENAME TO mine",
    "ALTER INDEX IF EXISTS public.held RENAME TO mine",
    "ALTER INDEX held_view RENAME TO mine",
    "ALTER INDEX held_sums RENAME TO mine",
    "ALTER INDEX veiled_secret_seq RENAME TO mine",
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
    "ALTER TABLE held_parts ATTACH PARTITION plain DEFAULT",
    "ALTER TABLE held_parts DETACH PARTITION plain",
    "ALTER TABLE held INHERIT plain",
    "ALTER TABLE keyed INHERIT plain",
    "ALTER TABLE parts ATTACH PARTITION keyed FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')",
    "ALTER TABLE held ALTER CONSTRAINT held_pkey DEFERRABLE",
    "ALTER TABLE parts ATTACH PARTITION plain FOR VALUES FROM (pg_read_file('x')) TO ('2024-02-01')",
    "ALTER INDEX held_shown SET (fillfactor = 70)",
    "ALTER INDEX parts_at ATTACH PARTITION held_shown",
    "ALTER INDEX held_shown ATTACH PARTITION plain_name",
    "REINDEX TABLE held",
    "REINDEX INDEX held_shown",
    "REINDEX SCHEMA public",
    "REINDEX (TABLESPACE pg_default) TABLE plain",
    "CLUSTER held",
    "CLUSTER",
    "CREATE STATISTICS s ON shown, secret FROM held",
    "CREATE STATISTICS s ON name, (pg_read_file(name)) FROM plain",
    "ALTER TABLE held SET SCHEMA mine",
    "ALTER TABLE plain SET SCHEMA pg_temp",
    "ALTER VIEW held_view SET SCHEMA mine",
    "ALTER SEQUENCE veiled_secret_seq SET SCHEMA mine",
    "ALTER FUNCTION f() SET SCHEMA mine",
    "ALTER SCHEMA public OWNER TO postgres",
    "ALTER SCHEMA public OWNER TO CURRENT_USER",
    "ALTER TYPE state OWNER TO postgres",
    "ALTER TYPE public.date SET SCHEMA mine",
    "ALTER FUNCTION f() OWNER TO CURRENT_USER",
    "DROP FUNCTION IF EXISTS similarity(text, text)",
    "DROP FUNCTION IF EXISTS public.similarity",
    "DROP FUNCTION nothing()",
    "DROP EXTENSION IF EXISTS pg_trgm",
    "DROP EXTENSION nothing",
    "CREATE TYPE date AS ENUM ('a')",
    "CREATE TYPE pg_temp.mine AS ENUM ('a')",
    "CREATE DOMAIN pg_temp.mine AS text",
    "CREATE DOMAIN mine AS held",
    "CREATE DOMAIN mine AS public.plain",
    "CREATE DOMAIN mine AS text CHECK (pg_read_file(VALUE) <> '')",
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


def test_new_table_without_a_schema_behind_a_new_schema_is_refused_in_one_message(
    session: psycopg.Connection[Any],
) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        session.execute("CREATE SCHEMA fresh; CREATE TABLE somewhere (id int)")
    assert "schema in front of the name" in str(caught.value.diag.message_hint)


@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC", "owner grant it"),
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
