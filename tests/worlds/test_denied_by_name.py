"""A session in which nothing is masked, and a rule that denies what changes one table: by whatever name it is reached.

The hazard is that the statement works on plain PostgreSQL, and that the name stands where no relation is expected.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from sluice_dev.restricted import Restriction

ROLE = "builder"
SCHEMA = f"""
CREATE ROLE {ROLE} LOGIN;
CREATE SCHEMA kept AUTHORIZATION {ROLE};
GRANT ALL ON SCHEMA public TO {ROLE};
CREATE TABLE kept.log (id int PRIMARY KEY, entry text);
CREATE INDEX log_entry ON kept.log (entry);
CREATE TABLE scratch (id int PRIMARY KEY, entry text);
CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER append_only BEFORE DELETE ON kept.log FOR EACH ROW EXECUTE FUNCTION stop();
CREATE POLICY own ON kept.log USING (true);
ALTER TABLE kept.log OWNER TO {ROLE};
ALTER TABLE scratch OWNER TO {ROLE};
"""
_DEFINING = ["ddl.create", "ddl.alter", "ddl.drop", "ddl.grant", "ddl.other"]
RESTRICTION = Restriction(
    name="denied",
    role=ROLE,
    unreviewed="allow",
    columns=[{"table": "public.*", "column": "secret", "class": "pii"}],
    masks=[{"class": "pii", "mask": "none"}],
    actions=[],
    more={
        "rules": [
            {"name": "all", "effect": "allow"},
            {
                "name": "kept",
                "effect": "deny",
                "actions": [*_DEFINING, "delete"],
                "tables": ["kept.log"],
            },
        ]
    },
)


@pytest.fixture(scope="module")
def dsns() -> Iterator[tuple[str, str]]:
    """DSNs straight to the server, and through Sluice, of the same role."""
    with RESTRICTION.running(SCHEMA) as (server, sluice):
        yield (
            server.dsn(user=ROLE, password="", dbname="denied", sslmode="disable"),
            sluice.dsn(user=ROLE, password=""),
        )


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE kept.log",
        "DROP TABLE scratch, kept.log",
        "DROP INDEX kept.log_entry",
        "ALTER INDEX kept.log_entry RENAME TO other",
        "DROP TRIGGER append_only ON kept.log",
        "DROP POLICY own ON kept.log",
        "COMMENT ON TABLE kept.log IS 'x'",
        "COMMENT ON COLUMN kept.log.entry IS 'x'",
        "GRANT DELETE ON ALL TABLES IN SCHEMA kept TO PUBLIC",
        f"DROP OWNED BY {ROLE}",
        "DROP SCHEMA kept CASCADE",
    ],
)
def test_table_that_may_not_be_changed_is_not_reached_by_another_name(
    dsns: tuple[str, str], statement: str
) -> None:
    with psycopg.connect(dsns[0]) as direct:
        direct.execute(statement.encode())
        direct.rollback()
    with (
        psycopg.connect(dsns[1]) as session,
        pytest.raises(psycopg.errors.InsufficientPrivilege) as denied,
    ):
        session.execute(statement.encode())
    assert "rule kept" in (denied.value.diag.message_detail or "")


@pytest.mark.parametrize(
    "gone",
    [
        ["DROP TABLE pg_temp.log", "DELETE FROM log"],
        ["ALTER TABLE pg_temp.log RENAME TO other", "DELETE FROM log"],
        ["DROP TABLE pg_temp.log; DELETE FROM log"],
        [f"DROP OWNED BY {ROLE}; DELETE FROM log"],
        ["DROP TABLE pg_temp.log, pg_temp.base CASCADE; DELETE FROM log"],
        ["DO $$ BEGIN DROP TABLE pg_temp.log; END $$", "DELETE FROM log"],
        ["DO $$ BEGIN DROP TABLE pg_temp.log; END $$; DELETE FROM log"],
    ],
)
def test_temporary_table_that_is_gone_does_not_stand_for_the_table_of_its_name(
    dsns: tuple[str, str], gone: list[str]
) -> None:
    with psycopg.connect(dsns[1], autocommit=True) as session:
        session.execute("SET search_path = kept, public")
        session.execute("CREATE TABLE pg_temp.base (id int)")
        session.execute("CREATE TABLE pg_temp.log (id int)")
        session.execute("SET search_path = kept, public")  # The table is known now.
        session.execute("DELETE FROM log")
        *before, last = gone
        for each in before:
            session.execute(each.encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as denied:
            session.execute(last.encode())
        assert "rule kept" in (denied.value.diag.message_detail or "")


def test_temporary_tables_are_made_and_dropped_in_one_message(dsns: tuple[str, str]) -> None:
    text = "DROP TABLE IF EXISTS heap; CREATE TEMP TABLE heap (id int); INSERT INTO heap VALUES (1); DROP TABLE heap"
    with psycopg.connect(dsns[1], autocommit=True) as session:
        for _ in range(2):
            session.execute(text.encode())


def test_other_tables_are_changed_as_before(dsns: tuple[str, str]) -> None:
    with psycopg.connect(dsns[1]) as session:
        session.execute("COMMENT ON TABLE scratch IS 'x'")
        session.execute("DROP TABLE scratch")
        session.rollback()
