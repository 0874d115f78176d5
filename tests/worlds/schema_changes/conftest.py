"""A database of which a policy speaks in part, and a role that changes its schema."""

from __future__ import annotations

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
CREATE INDEX parts_at ON ONLY parts (at);
CREATE TABLE keyed (id int PRIMARY KEY, held_id int REFERENCES held, at date);
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
