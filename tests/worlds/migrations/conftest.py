"""A database before which a migration tool's role works under a policy of some of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from sluice_dev.restricted import Restriction

ROLE = "migrator"
SCHEMA = f"""
CREATE TABLE public.users (id int PRIMARY KEY, email text, name text DEFAULT 'x');
INSERT INTO public.users VALUES (1, 'canary@one.example', 'a'), (2, 'canary@two.example', 'b');
CREATE TABLE public.notes (id int PRIMARY KEY, note text);
CREATE FUNCTION public.steal() RETURNS text LANGUAGE sql AS $$ SELECT email FROM public.users LIMIT 1 $$;
CREATE ROLE {ROLE} LOGIN;
GRANT CREATE, USAGE ON SCHEMA public TO {ROLE};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE};
"""


RESTRICTION = Restriction(
    name="mig",
    role=ROLE,
    unreviewed="allow",
    columns=[
        {"table": "public.users", "column": "email", "class": "pii.email"},
        {"table": "public.*", "column": "secret", "class": "pii.email"},
    ],
    masks=[{"class": "pii.email", "mask": "redact"}],
    actions=[
        *("select", "insert", "update", "delete", "merge", "copyIn", "copyOut"),
        *("ddl.create", "ddl.alter", "ddl.drop", "session"),
    ],
)


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[str, str]]:
    """DSNs straight to the server, as its administrator, and through Sluice."""
    with RESTRICTION.running(SCHEMA) as (server, sluice):
        yield server.dsn(dbname="mig"), sluice.dsn(user=ROLE, password="")


@pytest.fixture
def admin(both: tuple[str, str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(both[0], autocommit=True) as connection:
        yield connection


@pytest.fixture
def session(both: tuple[str, str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(both[1], autocommit=True) as connection:
        yield connection
        connection.execute("ROLLBACK")


def last(session: psycopg.Connection[Any], sql: str) -> list[Any]:
    """Return the rows of a message's last statement."""
    cursor = session.execute(sql.encode())
    while cursor.nextset():
        pass
    return cursor.fetchall()


@pytest.fixture(name="last")
def last_rows() -> Callable[[psycopg.Connection[Any], str], list[Any]]:
    """Run a message; return the rows of its last statement."""
    return last
