"""Foreign keys between tables that a policy filters and tables that it does not speak of, through the whole product."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from sluice_dev.restricted import Restriction

ROLE = "keyless"
SCHEMA = f"""
CREATE ROLE {ROLE} LOGIN;
CREATE TABLE team (id int PRIMARY KEY, label text);
CREATE TABLE member (id int PRIMARY KEY, tenant int NOT NULL, team int REFERENCES team, secret int UNIQUE);
CREATE TABLE fan (id int PRIMARY KEY, label text, member int REFERENCES member, number int REFERENCES member (secret));
CREATE TABLE alone (id int PRIMARY KEY);
CREATE TABLE beside (id int PRIMARY KEY REFERENCES alone);
INSERT INTO team VALUES (1), (2); INSERT INTO member VALUES (1, 1, NULL, 10), (2, 2, 2, 20); INSERT INTO fan VALUES (1);
GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}; GRANT CREATE ON SCHEMA public TO {ROLE};
ALTER TABLE team OWNER TO {ROLE}; ALTER TABLE fan OWNER TO {ROLE};
"""
RESTRICTION = Restriction(
    name="referring",
    role=ROLE,
    unreviewed="allow",
    columns=[{"table": "public.member", "column": "secret", "class": "pii"}],
    masks=[{"class": "pii", "mask": "redact"}],
    actions=["select", "insert", "update", "delete", "truncate", "session", "ddl.alter"],
    filters=[{"table": "public.member", "where": "tenant = 1"}],
    more={"writeOracles": {"keys": "deny"}, "guardrails": {"truncate": "allow"}},
)


@pytest.fixture(scope="module")
def dsns() -> Iterator[tuple[str, str]]:
    """DSNs straight to the server, as its administrator, and through Sluice."""
    with RESTRICTION.running(SCHEMA) as (server, sluice):
        yield server.dsn(dbname="referring"), sluice.dsn(user=ROLE, password="")


def sqlstate(dsn: str, sql: str) -> str | None:
    """Return how it ends; nothing stays."""
    with psycopg.connect(dsn) as connection:
        try:
            connection.execute(sql.encode())
        except psycopg.Error as error:
            return error.sqlstate
        finally:
            connection.rollback()
    return None


@pytest.mark.parametrize(
    ("taken", "free"),
    [
        ("UPDATE fan SET member = 3", "UPDATE fan SET member = 2"),
        ("INSERT INTO fan VALUES (5, 'x', NULL, 21)", "INSERT INTO fan VALUES (5, 'x', NULL, 20)"),
        ("DELETE FROM team WHERE id = 2", "DELETE FROM team WHERE id = 1"),
        ("UPDATE team SET id = 5 WHERE id = 2", "UPDATE team SET id = 5 WHERE id = 1"),
        (
            "ALTER TABLE team ALTER id TYPE int USING CASE id WHEN 2 THEN 5 ELSE id END",
            "ALTER TABLE team ALTER id TYPE int USING CASE id WHEN 1 THEN 5 ELSE id END",
        ),
        (
            "ALTER TABLE fan ALTER number TYPE bigint USING 21",
            "ALTER TABLE fan ALTER number TYPE bigint USING 20",
        ),
    ],
)
def test_key_of_a_hidden_row_is_not_told_by_another_table(
    dsns: tuple[str, str], taken: str, free: str
) -> None:
    assert (sqlstate(dsns[0], taken), sqlstate(dsns[0], free)) == ("23503", None)
    assert (sqlstate(dsns[1], taken), sqlstate(dsns[1], free)) == ("42501", "42501")


def test_truncate_takes_no_hidden_row_along(dsns: tuple[str, str]) -> None:
    sql = "TRUNCATE team CASCADE"
    assert sqlstate(dsns[0], sql) is None
    assert sqlstate(dsns[1], sql) == "42501"


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO team VALUES (7, 'x')",
        "UPDATE team SET label = 'x'",
        "INSERT INTO fan (id, label) VALUES (7, 'x')",
        "UPDATE fan SET label = 'x'",
        "DELETE FROM fan",
        "TRUNCATE fan",
        "TRUNCATE alone CASCADE",
        "INSERT INTO alone VALUES (7)",
        "DELETE FROM alone",
        "ALTER TABLE team ALTER label TYPE varchar",
        "ALTER TABLE team ADD COLUMN note text",
    ],
)
def test_what_touches_no_hidden_key_works(dsns: tuple[str, str], sql: str) -> None:
    assert sqlstate(dsns[1], sql) is None
