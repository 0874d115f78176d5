"""A real OPA: found, checked, guarded, fed, asked, killed and back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from sluice_proxy.bundles import BundleClient, BundleServer
from sluice_proxy.decide import Decider, UnixOpaClient, Workload
from sluice_proxy.decisions import Level
from sluice_proxy.opa import (
    OpaConfig,
    OpaError,
    OpaProcess,
    check_version,
    find_opa,
)
from sluice_proxy.opa_files import authorization_policy
from sluice_proxy.reports import ClientError, SqlState

WORKLOAD = Workload(
    namespace="support", service_account="desk", pod=None, labels={}, assurance="asserted"
)
REPOSITORY = Path(__file__).parents[2]


class Quiet:
    def decision(self, kind: str, seconds: float, outcome: str) -> None:
        pass


class Queue:
    def __init__(self) -> None:
        self.bundles: asyncio.Queue[bytes] = asyncio.Queue()

    async def next(self, after_sequence: int | None) -> bytes:
        del after_sequence
        return await self.bundles.get()


@dataclass
class Stack:
    bundles: BundleClient
    queue: Queue
    opa: OpaProcess
    decider: Decider
    socket: Path

    async def publish(self, raw: bytes) -> float:
        """Return the seconds until it is in force."""
        counted = self.bundles.counts.activated
        began = time.perf_counter()
        self.queue.bundles.put_nowait(raw)
        async with asyncio.timeout(10):
            while self.bundles.counts.activated == counted:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        return time.perf_counter() - began

    async def request(self, method: str, path: str, body: object = None) -> int:
        connector = aiohttp.UnixConnector(path=str(self.socket))
        async with (
            aiohttp.ClientSession(connector=connector) as http,
            http.request(method, f"http://opa{path}", json=body) as answer,
        ):
            return answer.status


@contextlib.asynccontextmanager
async def running(making, program: Path, directory: Path) -> AsyncIterator[Stack]:
    queue = Queue()
    bundles = BundleClient(
        directory=directory, profile=making.profile, keys=making.signer.keys, source=queue
    )
    server = BundleServer(bundles, directory)
    await server.start()
    config = OpaConfig(program=program, directory=directory, server=server, keys=making.signer.keys)
    opa = OpaProcess(config)
    opa.prepare()
    tasks = [asyncio.create_task(bundles.run()), asyncio.create_task(opa.run())]
    try:
        async with UnixOpaClient(config.socket_path) as client:
            decider = Decider(client, bundles, WORKLOAD, Quiet())
            yield Stack(bundles, queue, opa, decider, config.socket_path)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.stop()


@pytest.fixture
async def stack(making, opa, short_directory) -> AsyncIterator[Stack]:
    async with running(making, opa, short_directory) as one:
        yield one


def level(making, name: str):
    return making.session(level=name)


async def ask(stack: Stack):
    return await stack.decider.session(database="shop/shop", role="app")


async def test_published_bundle_is_in_force_within_moments(making, stack):
    await stack.publish(making.signer.bundle(1))
    decision = await ask(stack)
    assert (decision.level, decision.sequence) == (Level.OPEN, 1)
    times = []
    for sequence, name in ((2, "guarded"), (3, "restricted"), (4, "open")):
        times.append(
            await stack.publish(making.signer.bundle(sequence, session=level(making, name)))
        )
        decision = await ask(stack)
        assert (decision.level.name.lower(), decision.sequence) == (name, sequence)
    # By long poll: a poll that failed to wait would take a second or two.
    assert min(times) < 0.5


async def test_signing_again_is_in_force_under_the_same_revision(making, stack):
    await stack.publish(making.signer.bundle(1))
    before = stack.bundles.in_force
    await stack.publish(making.signer.bundle(2))
    after = stack.bundles.in_force
    assert before is not None
    assert after is not None
    assert (after.revision, after.sequence) == (before.revision, 2)


async def test_puts_over_the_socket_change_nothing(making, stack):
    await stack.publish(making.signer.bundle(1, session=level(making, "restricted")))
    manifest = {"revision": "x", "roots": [""]}
    attempts = [
        ("PUT", "/v1/data/system/bundles/sluice/manifest/roots", [""]),
        ("PUT", "/v1/data/sluice_data", {"session": making.session()}),
        ("PUT", "/v1/data/system/bundles/decoy", {"manifest": manifest}),
        ("PUT", "/v1/policies/evil", "package evil"),
        ("PATCH", "/v1/data/sluice_data/session", [{"op": "remove", "path": "/level"}]),
        ("DELETE", "/v1/policies/authz.rego", None),
        ("GET", "/v1/data/sluice_data", None),
        ("GET", "/v1/policies", None),
        ("GET", "/v1/config", None),
        ("GET", "/metrics", None),
        ("POST", "/v1/query", {"query": "data.sluice_data = x"}),
        ("POST", "/v1/compile", {"query": "data.sluice_data = x"}),
        ("POST", "/v1/data/sluice_data", {"input": {}}),
        ("POST", "/v1/data/sluice/session/decision?explain=full", {"input": {}}),
        ("POST", "/", {"input": {}}),
    ]
    for method, path, body in attempts:
        assert await stack.request(method, path, body) in {401, 404, 405}, (method, path)
    assert (await ask(stack)).level == Level.RESTRICTED
    assert await stack.request("GET", "/health") == 200


async def test_socket_and_files_are_ours_alone(making, stack, short_directory):
    await stack.publish(making.signer.bundle(1))
    for name in ("opa.sock", "token", "config.json"):
        mode = stat.S_IMODE((short_directory / name).stat().st_mode)
        assert mode & 0o077 == 0, name


async def test_decisions_of_a_killed_opa_come_back(making, stack):
    await stack.publish(making.signer.bundle(1, session=level(making, "guarded")))
    assert stack.opa.pid is not None
    os.kill(stack.opa.pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while stack.opa.restarts == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while True:
            with contextlib.suppress(ClientError):
                decision = await ask(stack)
                break
    assert decision.level == Level.GUARDED


async def test_decision_without_opa_is_refused_in_time(making, stack):
    await stack.publish(making.signer.bundle(1))
    stack.decider._client._path = Path("/nowhere")
    await stack.decider._client.close_connection()
    await stack.decider._client._init_session()
    began = time.perf_counter()
    with pytest.raises(ClientError) as refused:
        await ask(stack)
    assert refused.value.report.sqlstate == SqlState.CANNOT_CONNECT_NOW
    assert time.perf_counter() - began < 2


async def test_opa_that_does_not_answer_is_given_up_in_time(making, stack):
    """It takes the connection and says nothing, as one that gets no processor time does."""
    await stack.publish(making.signer.bundle(1))
    await ask(stack)
    assert stack.opa.pid is not None
    os.kill(stack.opa.pid, signal.SIGSTOP)
    try:
        # A thread of it that runs on another processor stops a moment later.
        threads = list(Path(f"/proc/{stack.opa.pid}/task").iterdir())  # noqa: ASYNC240
        while not all("State:\tT" in (one / "status").read_text() for one in threads):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for _ in range(2):
            began = time.perf_counter()
            with pytest.raises(ClientError) as refused:
                async with asyncio.timeout(10):
                    await ask(stack)
            assert "did not answer within 1 s" in str(refused.value.report.detail)
            assert time.perf_counter() - began < 3
    finally:
        os.kill(stack.opa.pid, signal.SIGCONT)


async def test_stopped_opa_leaves_no_process(making, opa, short_directory):
    async with running(making, opa, short_directory) as stack:
        await stack.publish(making.signer.bundle(1))
        pid = stack.opa.pid
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_decision_that_breaks_the_contract_is_refused(making, stack):
    await stack.publish(making.signer.bundle(1, session={"level": "open"}))
    with pytest.raises(ClientError) as refused:
        await ask(stack)
    assert refused.value.report.sqlstate == SqlState.CANNOT_CONNECT_NOW


async def test_statement_decision_of_another_revision_is_refused(making, stack):
    await stack.publish(making.signer.bundle(1))
    with pytest.raises(ClientError, match="policy changed"):
        await stack.decider.statement(
            database="shop/shop",
            role="app",
            search_path=("public",),
            statement={},
            revision="older",
        )


async def test_version_of_the_real_one_is_accepted(opa):
    assert (await check_version(opa)).startswith("1.")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'Version: 1.21.2'", "too old; install 1.21.3"),
        ("echo 'Version: 0.70.0'", "too old"),
        ("echo hello", "not Open Policy Agent"),
    ],
)
async def test_wrong_version_is_named(tmp_path, script, reason):
    program = tmp_path / "opa"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(OpaError, match=reason):
        await check_version(program)


def test_missing_opa_is_named():
    with pytest.raises(OpaError, match=r"install Open Policy Agent 1.21.3 or newer"):
        find_opa(None, {"PATH": "/nowhere"})
    with pytest.raises(OpaError, match="/nowhere/opa is not there"):
        find_opa("/nowhere/opa", {})


def test_authorization_policy_is_the_library_s():
    library = REPOSITORY / "policy/rego/authz/system_authz.rego"
    assert authorization_policy() == library.read_bytes()
