"""Exclusion constraints by which a masked value could be searched, not only met.

The hazard is shown on plain PostgreSQL, and its absence through Sluice.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from sluice_dev.restricted import Restriction

ROLE = "booker"
SCHEMA = f"""
CREATE ROLE {ROLE} LOGIN;
CREATE EXTENSION btree_gist;
CREATE TABLE bands (id int PRIMARY KEY, secret int4range, EXCLUDE USING gist (secret WITH &&));
CREATE TABLE apart (id int PRIMARY KEY, secret int, EXCLUDE USING gist (secret WITH =));
CREATE TABLE rooms (room int, during int4range, secret text, EXCLUDE USING gist (room WITH =, during WITH &&));
INSERT INTO bands VALUES (1, '[70,71)');
INSERT INTO apart VALUES (1, 70);
INSERT INTO rooms VALUES (1, '[1,5)', 'who');
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {ROLE};
"""
RESTRICTION = Restriction(
    name="overlaps",
    role=ROLE,
    unreviewed="allow",
    columns=[{"table": "public.*", "column": "secret", "class": "pii"}],
    masks=[{"class": "pii", "mask": "redact"}],
    actions=["select", "insert", "update", "copyIn", "session"],
)


@pytest.fixture(scope="module")
def dsns() -> Iterator[tuple[str, str]]:
    """DSNs straight to the server, as its administrator, and through Sluice."""
    with RESTRICTION.running(SCHEMA) as (server, sluice):
        yield server.dsn(dbname="overlaps"), sluice.dsn(user=ROLE, password="")


def collides(admin: psycopg.Connection[tuple[object, ...]], low: int, high: int) -> bool:
    """Say whether a range meets the hidden one."""
    try:
        with admin.transaction(force_rollback=True):
            admin.execute("INSERT INTO bands VALUES (2, int4range(%s, %s))", (low, high))
    except psycopg.errors.ExclusionViolation:
        return True
    return False


def test_masked_range_cannot_be_searched_by_what_it_overlaps(dsns: tuple[str, str]) -> None:
    with psycopg.connect(dsns[0]) as admin:
        low, high = 0, 128
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if collides(admin, low, middle) else (middle, high)
        assert low == 70
    with psycopg.connect(dsns[1], autocommit=True) as asking:
        for text in (
            "INSERT INTO bands VALUES (2, '[0,64)')",
            "INSERT INTO bands VALUES (2, '[0,64)') ON CONFLICT DO NOTHING",
            "UPDATE bands SET secret = '[0,64)' WHERE id = 3",
            "COPY bands (id, secret) FROM STDIN",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                asking.execute(text.encode())


def test_keys_of_equal_values_and_of_what_is_shown_still_work(dsns: tuple[str, str]) -> None:
    with psycopg.connect(dsns[1], autocommit=True) as asking:
        asking.execute("INSERT INTO apart VALUES (2, 71)")
        asking.execute("INSERT INTO bands (id) VALUES (2)")
        asking.execute("INSERT INTO rooms VALUES (1, '[5,9)', 'me')")
        with pytest.raises(psycopg.errors.ExclusionViolation):
            asking.execute("INSERT INTO rooms VALUES (1, '[2,3)', 'me')")
