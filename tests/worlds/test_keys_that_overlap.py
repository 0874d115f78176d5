"""Exclusion constraints by which a masked value could be searched, not only met.

The hazard is shown on plain PostgreSQL, and its absence through Sluice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import psycopg
import pytest

from sluice_dev.postgres import installations
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


@pytest.mark.skipif(
    all(one.major != 18 for one in installations()), reason="no PostgreSQL 18 (tools/majors.sh)"
)
def test_masked_range_of_a_temporal_key_cannot_be_searched() -> None:
    restriction = dataclasses.replace(RESTRICTION, name="spans")
    schema = f"""
    CREATE ROLE {ROLE} LOGIN;
    CREATE EXTENSION btree_gist;
    CREATE TABLE spans (id int, secret int4range, PRIMARY KEY (id, secret WITHOUT OVERLAPS));
    CREATE TABLE referring (
      id int, during int4range, FOREIGN KEY (id, PERIOD during) REFERENCES spans (id, PERIOD secret));
    CREATE TABLE shown (id int, during int4range, PRIMARY KEY (id, during WITHOUT OVERLAPS));
    INSERT INTO spans VALUES (1, '[10,70)');
    GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {ROLE};
    """
    within, beyond = (f"INSERT INTO referring VALUES (1, '[20,{n})')" for n in (60, 80))
    beside, across = (f"INSERT INTO spans VALUES (1, '[{n},99)')" for n in (70, 69))
    with restriction.running(schema, major=18) as (server, sluice):
        with psycopg.connect(server.dsn(dbname="spans"), autocommit=True) as admin:
            for text in (within, beside):
                with admin.transaction(force_rollback=True):
                    admin.execute(text.encode())
            for text in (beyond, across):
                with pytest.raises(psycopg.errors.IntegrityError):
                    admin.execute(text.encode())
        with psycopg.connect(sluice.dsn(user=ROLE, password=""), autocommit=True) as asking:
            for text in (within, beyond, beside, across):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    asking.execute(text.encode())
            asking.execute("INSERT INTO shown VALUES (1, '[1,2)')")
