"""A sidecar as it runs in a pod: the bundle service over TLS, a real OPA that others start, a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json

import psycopg
import pytest

SCHEMA = """\
CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL);
INSERT INTO users VALUES (1, 'ann@example.com');
"""
COLUMNS = [
    {"table": "public.users", "column": "email", "class": "pii.email"},
    {"table": "public.users", "column": "*", "class": "public"},
]
EMAIL = "SELECT email FROM users WHERE id = 1"
RAW, REDACTED, MASKED = "ann@example.com", "***", "a***@example.com"


@pytest.fixture
def database(new_database) -> str:
    return new_database(SCHEMA)


@pytest.fixture
def restricted(making):
    """A function that describes a restricted session with one mask of e-mail addresses."""

    def session(mask: str = "redact"):
        return making.session(
            level="restricted",
            classification={"columns": COLUMNS, "unreviewed": "mask"},
            masks={"pii.email": {"kind": mask}, "unreviewed": {"kind": "redact"}},
        )

    return session


async def value(connection, sql: str = EMAIL):
    cursor = await connection.execute(sql)
    row = await cursor.fetchone()
    assert row is not None
    return row[0]


async def until(condition, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_policy_change_is_in_force_on_the_same_connection_within_a_second(
    operator, run_pod, signed, restricted, database
):
    operator.publish(signed(1, session=restricted()), 1)
    pod = await run_pod(database)
    async with await pod.connect(database) as client:
        assert await value(client) == REDACTED
        operator.publish(signed(2, session=restricted("email")), 2)
        assert await pod.in_force(2) < 1.0
        assert await value(client) == MASKED
    assert operator.cluster.reviews == 1
