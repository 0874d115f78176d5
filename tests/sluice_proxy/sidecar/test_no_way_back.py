"""What a sidecar makes of bundles that it must not follow: replicas that lag, keys that it never knew."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

SCHEMA = """\
CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL);
INSERT INTO users VALUES (1, 'ann@example.com');
"""
COLUMNS = [
    {"table": "public.users", "column": "email", "class": "pii.email"},
    {"table": "public.users", "column": "*", "class": "public"},
]
REDACTED, MASKED = "***", "a***@example.com"
CONNECTION_S = 0.3
LAG_S = 5.0


@pytest.fixture
def database(new_database) -> str:
    return new_database(SCHEMA)


@pytest.fixture
def restricted(making):
    def session(mask: str):
        return making.session(
            level="restricted",
            classification={"columns": COLUMNS, "unreviewed": "mask"},
            masks={"pii.email": {"kind": mask}, "unreviewed": {"kind": "redact"}},
        )

    return session


async def value(client: Any) -> str:
    cursor = await client.execute("SELECT email FROM users WHERE id = 1")
    return (await cursor.fetchone())[0]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()


@contextlib.asynccontextmanager
async def by_turns(*ports: int) -> AsyncIterator[int]:
    """A Service over several replicas: every connection goes to the next one, and none lasts long."""
    turn = 0

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal turn
        turn += 1
        back, there = await asyncio.open_connection("127.0.0.1", ports[turn % len(ports)])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECTION_S):
                await asyncio.gather(_pump(reader, there), _pump(back, writer))
        for one in (there, writer):
            one.close()
            with contextlib.suppress(OSError):
                await one.wait_closed()

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def revisions(spool: Path) -> list[str]:
    """The revision of every execution, in the order of the audit."""
    lines = [
        line for path in sorted(spool.glob("*.jsonl")) for line in path.read_text().splitlines()
    ]
    records = [json.loads(line.partition(" ")[2]) for line in lines]
    return [record["revision"] for record in records if record["kind"] == "begin"]


# The replica that goes away leaves its half of a poll open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_replica_that_is_seconds_behind_leads_nobody_back(
    *, operator, make_pod, signed, restricted, database
):
    slow = type(operator)()
    slow.certificate.take(operator.authority.leaf())
    slow.cluster = dataclasses.replace(operator.cluster, bundles={})
    slow.begin()
    await slow.start()
    first, second = signed(1, session=restricted("redact")), signed(2, session=restricted("email"))
    for replica in (operator, slow):
        replica.publish(first, 1)
    pod = make_pod(database)
    async with by_turns(operator.port, slow.port) as port:
        pod.variables["SLUICE_BUNDLES_URL"] = f"https://127.0.0.1:{port}"
        await pod.start()
        async with await pod.connect(database) as client:
            assert await value(client) == REDACTED
            operator.publish(second, 2)
            await pod.in_force(2)
            loop = asyncio.get_running_loop()
            ends, told = loop.time() + LAG_S, False
            while loop.time() < ends:
                assert await value(client) == MASKED
                weak = pod.sidecar.sidecar.degraded().get("bundle service", "")
                told = told or "serves sequence 1, and 2 has been seen here" in weak
                await asyncio.sleep(0.02)
            assert told, "the replica that is behind was asked"
            slow.publish(second, 2)
            slow.publish(signed(3, session=restricted("redact")), 3)
            await pod.in_force(3)
            assert await value(client) == REDACTED
        await pod.stop_proxy()
    await slow.stop()
    seen = revisions(pod.layout.spool)
    changes = [one for one, before in zip(seen, [None, *seen], strict=False) if one != before]
    # The third content is the first one's again: redact, email, redact, and nothing between.
    assert len(changes) == 3
    assert changes[0] == changes[2] != changes[1]


async def test_next_key_is_followed_and_one_that_was_never_known_is_told(
    *, operator, make_pod, signed, restricted, making, database
):
    """Running pods outlive one rotation of the signing key. After the second they say that they are to be restarted."""
    upcoming = making.Signer("k2")
    unknown = making.Signer("k3")
    pod = make_pod(database)
    trust = json.loads(pod.variables["SLUICE_TRUST"])
    trust["keys"] |= upcoming.keys
    pod.variables["SLUICE_TRUST"] = json.dumps(trust)
    profile = {"profile": operator.profile}
    operator.publish(signed(1, session=restricted("redact")), 1)
    await pod.start()
    async with await pod.connect(database) as client:
        assert await value(client) == REDACTED
        rotated = upcoming.bundle(2, session=restricted("email"), metadata=profile)
        operator.publish(rotated, 2)
        await pod.in_force(2)
        assert await value(client) == MASKED
        operator.publish(unknown.bundle(3, session=restricted("redact"), metadata=profile), 3)
        problems: list[dict[str, Any]] = []
        async with asyncio.timeout(20):
            while not problems:
                problems = operator.reports.document()["problems"]
                await asyncio.sleep(0.1)
        assert problems[0]["database"] == ""
        assert "signed by the key 'k3', which is not trusted here" in problems[0]["message"]
        assert "start the pod anew" in problems[0]["message"]
        assert await value(client) == MASKED
    await pod.stop_proxy()


async def test_sidecar_that_refuses_what_was_only_signed_anew_does_not_count_as_current(
    *, operator, make_pod, signed, restricted, making, database
):
    """Its policy is the present one still; it would not follow the next change."""
    upcoming, unknown = making.Signer("k2"), making.Signer("k3")
    pod = make_pod(database)
    trust = json.loads(pod.variables["SLUICE_TRUST"])
    trust["keys"] |= upcoming.keys
    pod.variables["SLUICE_TRUST"] = json.dumps(trust)
    same: dict[str, Any] = {
        "session": restricted("redact"),
        "metadata": {"profile": operator.profile},
    }

    async def counted() -> dict[str, int]:
        await asyncio.sleep(0.1)
        return operator.reports.document()["profiles"].get(operator.profile, {})

    operator.publish(signed(1, session=restricted("redact")), 1)
    await pod.start()
    async with asyncio.timeout(30):
        while await counted() != {"1": 1}:
            pass
        operator.publish(unknown.bundle(2, **same), 2)
        while await counted() != {"0": 1}:
            pass
        assert "start the pod anew" in operator.reports.document()["problems"][0]["message"]
        # Signed by a key that it knows, it is taken again.
        operator.publish(upcoming.bundle(3, **same), 3)
        while await counted() != {"3": 1}:
            pass
    assert operator.reports.document()["problems"] == []
    await pod.stop_proxy()
