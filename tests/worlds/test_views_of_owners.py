"""Views that reach hidden values without naming them: by functions, operators, casts, sequences and catalogs.

Each is shown on plain PostgreSQL, where the answer hangs on the hidden value, and gone through the whole product.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from sluice_dev.restricted import Restriction

ROLE = "reader"
SCHEMA = f"""
CREATE ROLE {ROLE} LOGIN;
CREATE EXTENSION pg_trgm;
CREATE TABLE pay (id serial PRIMARY KEY, tenant int NOT NULL, secret int);
CREATE TABLE goods (id int PRIMARY KEY, name text);
INSERT INTO goods VALUES (1, 'chair'), (2, 'table');
CREATE FUNCTION highest() RETURNS int LANGUAGE sql STABLE AS 'SELECT max(secret) FROM pay';
CREATE FUNCTION above(int, int) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT $1 < max(secret) + 0 * $2 FROM pay';
CREATE FUNCTION many() RETURNS SETOF int LANGUAGE sql STABLE AS 'SELECT generate_series(1, max(secret)) FROM pay';
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE OPERATOR <<< (LEFTARG = int, RIGHTARG = int, FUNCTION = above);
CREATE TYPE shade AS ENUM ('light', 'dark');
CREATE FUNCTION lit(shade) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT max(secret) > 50 FROM pay';
CREATE CAST (shade AS boolean) WITH FUNCTION lit(shade) AS IMPLICIT;
CREATE TABLE walls (id int, shade shade);
INSERT INTO walls VALUES (1, 'light');
CREATE VIEW by_function AS SELECT id FROM goods WHERE highest() > 50;
CREATE VIEW by_operator AS SELECT id FROM goods WHERE 50 OPERATOR(public.<<<) id;
CREATE VIEW by_cast AS SELECT id FROM walls WHERE shade;
CREATE VIEW by_set AS SELECT 1 AS one FROM many();
CREATE VIEW by_order AS SELECT id FROM goods ORDER BY id * (highest() - 50);
CREATE VIEW by_group AS SELECT count(*) AS n FROM goods GROUP BY id > highest() / 50;
CREATE VIEW by_text AS SELECT id FROM goods
  WHERE query_to_xml('SELECT secret FROM public.pay', true, true, '')::text LIKE '%80%';
CREATE VIEW by_size AS SELECT id FROM goods WHERE pg_relation_size('pay') > 100000;
CREATE VIEW over_it AS SELECT id FROM by_function;
CREATE VIEW numbers AS SELECT last_value FROM pay_id_seq;
CREATE VIEW statistics AS SELECT 1 AS one FROM pg_statistic WHERE starelid = 'pay'::regclass;
CREATE VIEW locks AS SELECT locktype FROM pg_locks WHERE mode = 'SIReadLock';
CREATE VIEW estimates AS SELECT relname, reltuples FROM pg_class WHERE relname = 'pay';
CREATE VIEW trusted AS SELECT id FROM goods WHERE twice(id) > 2;
CREATE VIEW shown AS SELECT id, name AS n FROM goods WHERE name LIKE 'c%';
CREATE VIEW like_chair AS SELECT id FROM goods WHERE similarity(name, 'chair') > 0.5 AND name % 'chair';
CREATE VIEW of_session AS SELECT id FROM goods
  WHERE id = current_setting('app.id', true)::int OR current_user = '{ROLE}' OR session_user = '{ROLE}';
CREATE VIEW tables AS SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE};
"""
RESTRICTION = Restriction(
    name="views",
    role=ROLE,
    unreviewed="allow",
    columns=[{"table": "public.*", "column": "secret", "class": "pii"}],
    masks=[{"class": "pii", "mask": "redact"}],
    actions=["select", "session"],
    filters=[
        {"table": "public.pay", "where": "tenant = 1"},
        {"table": "public.trusted", "exempt": True},
    ],
)
HIDDEN = """
TRUNCATE pay RESTART IDENTITY;
INSERT INTO pay (tenant, secret) SELECT 2, {0} FROM generate_series(1, {0} * {0});
ANALYZE pay; DELETE FROM pg_statistic WHERE starelid = 'pay'::regclass AND {0} = 20
"""
"""What is hidden: 20 in one world, 80 in the other."""


@pytest.fixture(scope="module")
def dsns() -> Iterator[tuple[str, str]]:
    """DSNs straight to the server, as its administrator, and through Sluice."""
    with RESTRICTION.running(SCHEMA) as (server, sluice):
        yield server.dsn(dbname="views"), sluice.dsn(user=ROLE, password="")


def worlds(dsns: tuple[str, str], sql: str, *, through: bool) -> list[object]:
    """Return the rows or the SQLSTATE in both worlds."""
    found: list[object] = []
    for secret in (20, 80):
        with psycopg.connect(dsns[0], autocommit=True) as admin:
            admin.execute(HIDDEN.format(secret).encode())
        with psycopg.connect(dsns[1 if through else 0]) as asking:
            asking.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            try:
                if not through:
                    asking.execute(f"SET ROLE {ROLE}".encode())
                    asking.execute(b"SET LOCAL enable_seqscan = off")
                    asking.execute(b"SET LOCAL enable_bitmapscan = off")
                asking.execute(b"SELECT count(*) FROM pay WHERE id = 5000")
                found.append(asking.execute(sql.encode()).fetchall())
            except psycopg.Error as error:
                found.append(error.sqlstate)
    return found


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM by_function",
        "SELECT id FROM by_operator",
        "SELECT id FROM by_cast",
        "SELECT count(*) FROM by_set",
        "SELECT id FROM by_order",
        "SELECT n FROM by_group",
        "SELECT id FROM by_text",
        "SELECT id FROM by_size",
        "SELECT id FROM over_it",
        "SELECT last_value FROM numbers",
        "SELECT count(*) FROM statistics",
        "SELECT locktype FROM locks ORDER BY 1",
    ],
)
def test_view_that_reaches_what_is_hidden_is_refused(dsns: tuple[str, str], sql: str) -> None:
    plain = worlds(dsns, sql, through=False)
    assert plain[0] != plain[1], plain
    assert worlds(dsns, sql, through=True) == ["42501", "42501"]


def test_view_of_a_catalog_shows_no_more_than_the_catalog(dsns: tuple[str, str]) -> None:
    sql = "SELECT relname, reltuples FROM estimates"
    assert worlds(dsns, sql, through=False) == [[("pay", 400.0)], [("pay", 6400.0)]]
    assert worlds(dsns, sql, through=True) == [[("pay", None)]] * 2


@pytest.mark.parametrize("view", ["trusted", "shown", "like_chair", "of_session", "tables"])
def test_view_that_reaches_nothing_hidden_still_works(dsns: tuple[str, str], view: str) -> None:
    sql = f"SELECT * FROM {view} v ORDER BY v"
    assert worlds(dsns, sql, through=True) == worlds(dsns, sql, through=False)
