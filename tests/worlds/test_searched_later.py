"""Schemas that search_path names and that come to be searched only later.

What they hold must not be called by a name that meant PostgreSQL's own when the session was asked for its path.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest

from sluice_dev.restricted import Restriction

ROLE = "caller"
CANARY = "canary@one.example"
_READS = f"AS 'SELECT ''{CANARY}''::text'"
_SCHEMAS = ("own", "granted", "lent")
SCHEMA = f"""
CREATE ROLE {ROLE} LOGIN;
CREATE ROLE lender;
CREATE TABLE users (id int PRIMARY KEY, email varchar);
CREATE SCHEMA own AUTHORIZATION {ROLE};
CREATE SCHEMA granted;
CREATE SCHEMA lent;
{"".join(f"CREATE FUNCTION {each}.upper(varchar) RETURNS text LANGUAGE sql {_READS};" for each in _SCHEMAS)}
REVOKE ALL ON SCHEMA own FROM {ROLE};
GRANT USAGE ON SCHEMA lent TO lender;
GRANT SELECT ON users TO {ROLE};
"""
LATER = f"""
CREATE SCHEMA later;
GRANT USAGE ON SCHEMA later TO {ROLE};
CREATE FUNCTION later.upper(varchar) RETURNS text LANGUAGE sql {_READS};
"""
RESTRICTION = Restriction(
    name="later",
    role=ROLE,
    unreviewed="allow",
    columns=[{"table": "public.users", "column": "email", "class": "pii"}],
    masks=[{"class": "pii", "mask": "redact"}],
    actions=["select", "session", "ddl.grant"],
)
_CATALOG_S = 2.5
ASKED = "SELECT upper('x'::varchar)"


@pytest.fixture
def dsns() -> Iterator[tuple[str, str, str]]:
    """DSNs of the administrator, of the role straight to the server, and of the role through Sluice."""
    with RESTRICTION.running(SCHEMA) as (server, sluice):
        yield (
            server.dsn(dbname="later"),
            server.dsn(user=ROLE, password="", dbname="later", sslmode="disable"),
            sluice.dsn(user=ROLE, password=""),
        )


def _shown(session: psycopg.Connection) -> str:
    try:
        (value,) = session.execute(ASKED.encode()).fetchone() or ("",)
    except psycopg.errors.InsufficientPrivilege as denied:
        return str(denied.sqlstate)
    return str(value)


def test_function_of_a_schema_that_is_searched_later_is_not_called(
    dsns: tuple[str, str, str],
) -> None:
    own = f"GRANT USAGE ON SCHEMA own TO {ROLE}"
    given = [
        ("granted", f"GRANT USAGE ON SCHEMA granted TO {ROLE}"),
        ("lent", f"GRANT lender TO {ROLE}"),
        ("later", LATER),
    ]
    with psycopg.connect(dsns[0], autocommit=True) as admin:
        for schema, change in [("own", own), *given]:
            with (
                psycopg.connect(dsns[1], autocommit=True) as direct,
                psycopg.connect(dsns[2], autocommit=True) as session,
            ):
                for each in (direct, session):
                    each.execute(f"SET search_path = {schema}, public".encode())
                assert _shown(direct) == "X"
                assert _shown(session) in ("X", "42501")
                (session if change == own else admin).execute(change.encode())
                direct.execute(f"SET search_path = public, {schema}".encode())
                assert _shown(direct) == CANARY  # The hazard.
                if schema == "later":
                    time.sleep(_CATALOG_S)  # What is new is known as soon as the catalog was read.
                assert _shown(session) == "42501"


def test_own_grant_of_a_schema_that_would_be_searched_stands_alone_in_its_message(
    dsns: tuple[str, str, str],
) -> None:
    with psycopg.connect(dsns[2], autocommit=True) as session:
        session.execute("SET search_path = own, public")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="one that changes"):
            session.execute(f"GRANT USAGE ON SCHEMA own TO {ROLE}; SELECT 1".encode())
        session.execute("SET search_path = public")
        session.execute(f"GRANT USAGE ON SCHEMA own TO {ROLE}; SELECT 1".encode())
