"""Tables that a row filter reads in a sub-select: whom it restricts must not decide by them which rows are hidden."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from sluice_dev.restricted import Restriction

ROLE = "clerk"
SCHEMA = f"""
CREATE ROLE {ROLE} LOGIN;
CREATE TABLE teams (id int PRIMARY KEY, label text);
CREATE TABLE member (who text, team int REFERENCES teams ON UPDATE CASCADE, note text);
CREATE TABLE blocked (team int NOT NULL) PARTITION BY LIST (team);
CREATE TABLE blocked_2 PARTITION OF blocked DEFAULT;
CREATE TABLE seen (team int);
CREATE VIEW seen_teams AS SELECT team FROM seen;
CREATE TABLE by_member (id int, team int, title text);
CREATE TABLE by_blocked (id int, team int, title text);
CREATE TABLE by_view (id int, team int, title text);
CREATE TABLE plain (id int);
CREATE TABLE log (id int);
ALTER TABLE teams OWNER TO {ROLE};
ALTER TABLE member OWNER TO {ROLE};
ALTER TABLE blocked OWNER TO {ROLE};
ALTER TABLE blocked_2 OWNER TO {ROLE};
ALTER TABLE seen OWNER TO {ROLE};
ALTER VIEW seen_teams OWNER TO {ROLE};
ALTER TABLE plain OWNER TO {ROLE};
GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE};
GRANT CREATE, USAGE ON SCHEMA public TO {ROLE};
INSERT INTO teams VALUES (1, 'a');
INSERT INTO member VALUES ('clerk', 1, '');
INSERT INTO blocked VALUES (2);
INSERT INTO seen VALUES (1);
INSERT INTO by_member VALUES (1, 1, 'shown'), (2, 2, 'canary');
INSERT INTO by_blocked VALUES (1, 1, 'shown'), (2, 2, 'canary');
INSERT INTO by_view VALUES (1, 1, 'shown'), (2, 2, 'canary');
"""
RESTRICTION = Restriction(
    name="members",
    role=ROLE,
    unreviewed="allow",
    columns=[
        {"table": f"public.{table}", "column": "team", "class": "public"}
        for table in ("member", "blocked", "seen_teams")
    ],
    masks=[{"class": "*", "mask": "redact"}],
    actions=[
        "select",
        "insert",
        "update",
        "delete",
        "merge",
        "truncate",
        "copyIn",
        "session",
        "ddl.*",
    ],
    filters=[
        {
            "table": "public.by_member",
            "where": "team IN (SELECT team FROM public.member WHERE who = 'clerk')",
        },
        {"table": "public.by_blocked", "where": "NOT (team IN (SELECT team FROM public.blocked))"},
        {"table": "public.by_view", "where": "team IN (SELECT team FROM public.seen_teams)"},
    ],
    more={"guardrails": {"truncate": "allow", "unfilteredWrites": "allow"}},
)
WRITES = [
    ("by_member", "UPDATE teams SET id = 2"),
    (
        "by_member",
        "INSERT INTO member VALUES ('clerk', 1); UPDATE member SET team = 2 WHERE team = 1",
    ),
    ("by_member", "WITH w AS (UPDATE member SET team = 2 RETURNING 1) SELECT * FROM w"),
    (
        "by_member",
        "MERGE INTO member USING teams ON false WHEN NOT MATCHED THEN INSERT VALUES ('clerk', 2)",
    ),
    ("by_blocked", "DELETE FROM blocked"),
    ("by_blocked", "DELETE FROM blocked_2"),
    ("by_blocked", "TRUNCATE blocked_2"),
    ("by_view", "INSERT INTO seen VALUES (2)"),
    ("by_view", "INSERT INTO seen_teams VALUES (2)"),
]
DEFINITIONS = [
    ("by_member", "CREATE TABLE more () INHERITS (member)", "INSERT INTO more VALUES ('clerk', 2)"),
    ("by_view", "CREATE TABLE more () INHERITS (seen)", "INSERT INTO more VALUES (2)"),
    ("by_blocked", "DROP TABLE blocked_2", ""),
    ("by_blocked", "ALTER TABLE blocked DETACH PARTITION blocked_2", ""),
    ("by_view", "CREATE OR REPLACE VIEW seen_teams AS SELECT 2 AS team", ""),
]
RESTORE = """
DROP TABLE IF EXISTS more; TRUNCATE teams, member, blocked, seen;
INSERT INTO teams VALUES (1, 'a'); INSERT INTO member VALUES ('clerk', 1); INSERT INTO seen VALUES (1);
DROP TABLE IF EXISTS blocked_2; CREATE TABLE blocked_2 PARTITION OF blocked DEFAULT;
ALTER TABLE blocked_2 OWNER TO clerk; INSERT INTO blocked VALUES (2)
"""


@pytest.fixture(scope="module")
def dsns() -> Iterator[tuple[str, str]]:
    """DSNs of the administrator, and of the role through Sluice."""
    with RESTRICTION.running(SCHEMA) as (server, sluice):
        yield server.dsn(dbname="members"), sluice.dsn(user=ROLE, password="")


def _shown(dsn: str, table: str) -> set[object]:
    with psycopg.connect(dsn, autocommit=True) as session:
        return {row[0] for row in session.execute(f"SELECT title FROM {table}".encode())}


@pytest.mark.parametrize(("table", "sql"), WRITES)
def test_filtered_session_does_not_write_what_its_filters_read(
    dsns: tuple[str, str], table: str, sql: str
) -> None:
    with psycopg.connect(dsns[1], autocommit=True) as session:
        for each in sql.split("; "):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="writing to table"):
                session.execute(each.encode())
    assert _shown(dsns[1], table) == {"shown"}


@pytest.mark.parametrize(("table", "sql"), [(table, sql) for table, sql, _ in DEFINITIONS])
def test_filtered_session_does_not_define_what_its_filters_read(
    dsns: tuple[str, str], table: str, sql: str
) -> None:
    with (
        psycopg.connect(dsns[1], autocommit=True) as session,
        pytest.raises(psycopg.errors.InsufficientPrivilege) as denied,
    ):
        session.execute(sql.encode())
    assert denied.value.diag.message_detail == "A row filter of a policy reads it."
    assert _shown(dsns[1], table) == {"shown"}


def test_what_no_filter_reads_is_written_as_before(dsns: tuple[str, str]) -> None:
    with psycopg.connect(dsns[1]) as session:
        for sql in (
            "UPDATE member SET note = 'x'",
            "UPDATE teams SET label = 'x'",
            "INSERT INTO teams VALUES (9, 'z')",
            "DELETE FROM teams WHERE id = 9",
            "CREATE TABLE below () INHERITS (plain)",
            "INSERT INTO plain VALUES (1)",
            "UPDATE by_member SET title = 'shown' WHERE id = 1",
        ):
            session.execute(sql.encode())
        session.rollback()


def test_such_writes_and_definitions_by_others_show_what_was_hidden(dsns: tuple[str, str]) -> None:
    done = [*WRITES, *((table, f"{sql}; {then}") for table, sql, then in DEFINITIONS)]
    with psycopg.connect(dsns[0], autocommit=True) as admin:
        for table, sql in done:
            admin.execute(RESTORE.encode())
            if "UPDATE teams" not in sql:
                admin.execute("INSERT INTO teams VALUES (2, 'b')")
            admin.execute(sql.encode())
            assert "canary" in _shown(dsns[1], table), sql
