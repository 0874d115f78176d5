"""How a pod starts, whatever comes first and whatever is away."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import psycopg
import pytest

from sluice_proxy.loopback import listen
from sluice_proxy.sidecar import process

SCHEMA = """\
CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL);
INSERT INTO users VALUES (1, 'ann@example.com');
"""


@pytest.fixture
def database(new_database) -> str:
    return new_database(SCHEMA)


async def until(condition, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_pod_without_a_bundle_waits_and_says_so(operator, make_pod, signed, database):
    pod = make_pod(database)
    pod.prepare()
    pod.start_opa()
    pod.start_proxy()
    await until(lambda: pod.sidecar.sidecar is not None)
    await asyncio.sleep(0.5)
    document = await pod.health()
    assert document["reasons"]["bundle"] == "no bundle yet"
    with pytest.raises(psycopg.OperationalError):
        await pod.connect(database)
    assert not pod.layout.started.exists()
    operator.publish(signed(1), 1)
    await pod.ready()
    await until(pod.layout.started.exists)
    assert await pod.stop_proxy() == 0


async def test_proxy_that_starts_before_opa_waits_and_counts_no_restart(
    operator, make_pod, signed, database
):
    operator.publish(signed(1), 1)
    pod = make_pod(database)
    pod.prepare()
    pod.start_proxy()
    await until(lambda: pod.sidecar.sidecar is not None)
    running = pod.sidecar.sidecar
    await until(lambda: running.not_ready().get("opa") == "OPA's socket is not there")
    pod.start_opa()
    await pod.ready()

    def restarts() -> float:
        return next(value for name, _, value in running.counters() if name == "opa_restarts")

    assert restarts() == 0
    pod.kill_opa()
    await until(lambda: restarts() == 1)
    assert await pod.stop_proxy() == 0


async def test_opa_that_is_started_before_everything_finds_what_it_needs(
    operator, make_pod, signed, database
):
    """As in a pod: its certificate and token come with the proxy, which comes later."""
    operator.publish(signed(1), 1)
    pod = make_pod(database)
    pod.start_opa()
    await asyncio.sleep(0.5)
    assert not (pod.layout.run / "ca.pem").exists()
    pod.prepare()
    pod.start_proxy()
    await pod.ready()
    kept = (pod.layout.run / "token").read_text()
    assert await pod.stop_proxy() == 0
    pod.prepare()
    assert (pod.layout.run / "token").read_text() == kept
    pod.start_proxy()
    await pod.ready()
    assert await pod.stop_proxy() == 0


async def test_opa_whose_api_is_open_is_not_worked_with(operator, make_pod, signed, database):
    operator.publish(signed(1), 1)
    pod = make_pod(database)
    pod.start_opa("package system.authz\n\ndefault allow := true\n")
    pod.prepare()
    pod.start_proxy()
    await until(lambda: pod.sidecar.sidecar is not None)
    await until(lambda: "must refuse" in pod.sidecar.missing())
    await asyncio.sleep(0.3)
    assert "must refuse" in (await pod.health())["reasons"]["opa"]
    assert not pod.layout.started.exists()
    pod.kill_opa()
    pod.start_opa()
    await pod.ready()
    assert await pod.stop_proxy() == 0


async def test_opa_waits_for_the_operator_briefly_and_is_refused_then(
    operator, make_pod, signed, database, monkeypatch
):
    monkeypatch.setattr(process, "KEPT_AFTER_S", 0.3)
    await operator.stop()
    pod = make_pod(database)
    pod.prepare()
    listener = listen(pod.bundle_port)
    pod.start_opa()
    pod.start_proxy(listener)

    def refused() -> bool:
        with contextlib.suppress(ConnectionRefusedError), socket.socket() as client:
            client.connect(("127.0.0.1", pod.bundle_port))
            return False
        return True

    assert not refused()
    await until(refused)
    operator.begin()
    operator.publish(signed(1), 1)
    await operator.start()
    await pod.ready()
    assert not refused()
    assert await pod.stop_proxy() == 0
    assert refused()
