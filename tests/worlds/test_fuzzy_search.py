"""gin_fuzzy_search_limit: what a GIN index finds is cut before the row filter is applied.

Two tables differ only in hidden rows; the hazard is that the setting shows a row of the one and not of the other.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from sluice_dev.restricted import Restriction

ROLE = "searcher"
SCHEMA = f"""
CREATE ROLE {ROLE} LOGIN;
CREATE EXTENSION btree_gin;
CREATE TABLE few (id int PRIMARY KEY, tenant int NOT NULL, word int);
INSERT INTO few VALUES (1, 1, 7), (2, 2, 7);
INSERT INTO few SELECT g, 2, g FROM generate_series(100, 60000) g;
CREATE TABLE many (LIKE few INCLUDING ALL);
INSERT INTO many VALUES (1, 1, 7);
INSERT INTO many SELECT g, 2, 7 FROM generate_series(2, 30000) g;
INSERT INTO many SELECT g, 2, g FROM generate_series(30001, 60000) g;
CREATE INDEX ON few USING gin (word) WITH (fastupdate = off);
CREATE INDEX ON many USING gin (word) WITH (fastupdate = off);
ANALYZE;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE};
"""
RESTRICTION = Restriction(
    name="fuzzy",
    role=ROLE,
    unreviewed="allow",
    columns=[{"table": "public.*", "column": "secret", "class": "pii"}],
    masks=[{"class": "pii", "mask": "redact"}],
    actions=["select", "session"],
    filters=[{"table": f"public.{table}", "where": "tenant = 1"} for table in ("few", "many")],
)
LIMITED = "SET gin_fuzzy_search_limit = 5"


@pytest.fixture(scope="module")
def dsns() -> Iterator[tuple[str, str]]:
    """DSNs straight to the server, as its administrator, and through Sluice."""
    with RESTRICTION.running(SCHEMA) as (server, sluice):
        yield server.dsn(dbname="fuzzy"), sluice.dsn(user=ROLE, password="")


def _shown(session: psycopg.Connection, where: str) -> list[int]:
    counted: list[int] = []
    for table in ("few", "many"):
        asked = f"SELECT count(*) FROM {table} WHERE word = 7{where}"
        (count,) = session.execute(asked.encode()).fetchone() or (None,)
        counted.append(int(count or 0))
    return counted


def test_limit_tells_of_hidden_rows_and_cannot_be_set(dsns: tuple[str, str]) -> None:
    with psycopg.connect(dsns[0], autocommit=True) as admin:
        admin.execute("SET enable_seqscan = off")
        admin.execute(LIMITED)
        assert _shown(admin, " AND tenant = 1") == [1, 0]  # The hazard.
    with psycopg.connect(dsns[1], autocommit=True) as session:
        session.execute("SET enable_seqscan = off")
        set_by_call = "SELECT set_config('gin_fuzzy_search_limit', '5', false)"
        for statement in (LIMITED, set_by_call, LIMITED.replace("5", "'5'")):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="gin_fuzzy"):
                session.execute(statement.encode())
        session.execute("SET gin_fuzzy_search_limit = 0")
        assert _shown(session, "") == [1, 1]
    with pytest.raises(psycopg.OperationalError, match="gin_fuzzy"):
        psycopg.connect(dsns[1], options="-c gin_fuzzy_search_limit=5")
