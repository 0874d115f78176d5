"""Views that show a key and not what the row filter reads: a hidden row's key must not be had by another row.

The hazard is shown on plain PostgreSQL with the condition that such a view gets, and its absence through Sluice.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from sluice_dev.restricted import Restriction

ROLE = "clerk"
TABLES = ("plain", "deferred", "lazy", "parent", "child", "stored", "halves")
SCHEMA = f"""
CREATE ROLE {ROLE} LOGIN;
CREATE TABLE plain (id int PRIMARY KEY, tenant int NOT NULL, note text);
CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, tenant int NOT NULL, note text);
CREATE TABLE lazy (id int PRIMARY KEY DEFERRABLE, tenant int NOT NULL, note text);
CREATE TABLE parent (id int PRIMARY KEY, tenant int NOT NULL, note text);
CREATE TABLE child () INHERITS (parent);
CREATE TABLE stored (id int PRIMARY KEY, tenant int NOT NULL, note text);
CREATE TABLE halves (id int PRIMARY KEY, tenant int NOT NULL, note text) PARTITION BY RANGE (id);
CREATE TABLE halves_1 PARTITION OF halves FOR VALUES FROM (0) TO (100);
CREATE VIEW of_plain AS SELECT id, note FROM plain;
CREATE VIEW of_deferred AS SELECT id, note FROM deferred;
CREATE VIEW of_lazy AS SELECT id, note FROM lazy;
CREATE VIEW of_parent AS SELECT id, note FROM parent;
CREATE VIEW of_halves AS SELECT id, note FROM halves;
CREATE VIEW whole_parent AS SELECT id, tenant, note FROM parent;
INSERT INTO plain VALUES (1, 1, 'shown'), (7, 2, 'hidden');
INSERT INTO deferred SELECT * FROM plain;
INSERT INTO lazy SELECT * FROM plain;
INSERT INTO parent SELECT * FROM plain;
INSERT INTO stored SELECT * FROM plain;
INSERT INTO halves SELECT * FROM plain;
CREATE MATERIALIZED VIEW of_stored AS SELECT id, note FROM stored;
DELETE FROM stored WHERE id = 7;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {ROLE};
"""
RESTRICTION = Restriction(
    name="keys",
    role=ROLE,
    unreviewed="allow",
    columns=[{"table": "public.*", "column": "secret", "class": "pii"}],
    masks=[{"class": "pii", "mask": "redact"}],
    actions=["select", "insert", "session"],
    filters=[
        {"table": f"public.{table}", "where": "tenant = 1"} for table in (*TABLES, "halves_1")
    ],
)


@pytest.fixture(scope="module")
def dsns() -> Iterator[tuple[str, str]]:
    """DSNs straight to the server, as its administrator, and through Sluice."""
    with RESTRICTION.running(SCHEMA) as (server, sluice):
        yield server.dsn(dbname="keys"), sluice.dsn(user=ROLE, password="")


@pytest.mark.parametrize(
    ("view", "table", "insert"),
    [
        ("of_deferred", "deferred", "INSERT INTO deferred VALUES (7, 1, 'mine')"),
        (
            "of_lazy",
            "lazy",
            "SET CONSTRAINTS ALL DEFERRED; INSERT INTO lazy VALUES (7, 1, 'mine')",
        ),
        ("of_parent", "parent", "INSERT INTO child VALUES (7, 1, 'mine')"),
        ("of_stored", "stored", "INSERT INTO stored VALUES (7, 1, 'mine')"),
    ],
)
def test_row_that_takes_the_key_of_a_hidden_one_does_not_show_it(
    dsns: tuple[str, str], view: str, table: str, insert: str
) -> None:
    asked = f"SELECT note FROM {view}"
    by_key = f"{asked} v WHERE EXISTS (SELECT FROM {table} b WHERE b.id = v.id AND b.tenant = 1)"
    with psycopg.connect(dsns[0]) as admin:
        for text in insert.split("; "):
            admin.execute(text.encode())
        assert ("hidden",) in admin.execute(by_key.encode()).fetchall()
        admin.rollback()
    with psycopg.connect(dsns[1]) as asking:
        for text in insert.split("; "):
            asking.execute(text.encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=view):
            asking.execute(asked.encode())
        asking.rollback()


@pytest.mark.parametrize("view", ["of_plain", "of_halves", "whole_parent"])
def test_view_is_filtered_by_a_key_that_no_two_rows_share_or_by_what_it_shows(
    dsns: tuple[str, str], view: str
) -> None:
    with psycopg.connect(dsns[1]) as asking:
        assert asking.execute(f"SELECT note FROM {view}".encode()).fetchall() == [("shown",)]
