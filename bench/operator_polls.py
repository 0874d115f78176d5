"""One bundle service before 1,000 real long polls: a policy change until each is answered, and a rolling restart.

The API server, the tokens, the TLS connections and the service's process are real; only the sidecars are nothing but
their polls. A change is timed from the moment the API server has taken it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from sluice_dev import cache
from sluice_dev.cluster import ApiServer
from sluice_dev.operators import OperatorProcess
from sluice_operator.bundle_names import bundle_name
from sluice_operator.certificates.authority import Authority
from sluice_operator.kube.client import Kube, path_of
from sluice_policy import Profile, SigningKey, bundle, compile_profile, load_directory

POLLS, CHANGES = 1000, 20
HOME, TENANT, ACCOUNT = "sluice-system", "support", "desk"
LABELS = {"team": "support"}
PROFILE = Profile(TENANT, ACCOUNT, LABELS)
AT_ONCE = 32


@dataclass
class Poller:
    """One sidecar's long poll, going from replica to replica as a Service sends it."""

    token: str
    urls: list[str]
    http: aiohttp.ClientSession
    answers: dict[int, float] = field(default_factory=dict[int, float])
    """Sequence → when its bundle had come in whole."""

    async def run(self) -> None:
        """Poll until cancelled."""
        etag: str | None = None
        while True:
            headers = {"Authorization": f"Bearer {self.token}", "Prefer": "wait=50"}
            if etag is not None:
                headers["If-None-Match"] = etag
            try:
                async with self.http.get(f"{self.urls[0]}/v1/bundle", headers=headers) as answer:
                    await answer.read()
                    if answer.status == 200:
                        etag = answer.headers["ETag"]
                        sequence = int(etag.strip('"').partition("-")[0])
                        self.answers[sequence] = time.perf_counter()
                    elif answer.status != 304:
                        answer.raise_for_status()
                    if answer.headers.get("Connection") == "close":
                        self.urls = self.urls[1:] + self.urls[:1]
            except (aiohttp.ClientError, OSError):
                self.urls = self.urls[1:] + self.urls[:1]
                await asyncio.sleep(0.2)


class Installation:
    """The namespace of the release without its other processes."""

    def __init__(self, kube: Kube, server: ApiServer) -> None:
        self._kube = kube
        self._server = server
        now = datetime.now(UTC)
        authority = Authority.create(now, timedelta(days=1))
        self.authority = authority.pem
        self._certificate, self._key = authority.issue(["127.0.0.1"], now, timedelta(hours=2))
        loaded = load_directory(cache.ROOT / "examples" / "shop")
        self._compiled = compile_profile(loaded.resources, PROFILE)
        self._signing = SigningKey.generate()
        self.bundle_bytes = 0

    async def prepare(self) -> None:
        """Make namespaces, accounts and the serving certificate."""
        encoded = {
            "tls.crt": base64.b64encode(self._certificate).decode(),
            "tls.key": base64.b64encode(self._key).decode(),
        }
        account = {"kind": "ServiceAccount", "name": "sluice-bundles", "namespace": HOME}
        self._server.create_namespace(HOME)
        self._server.create_namespace(TENANT)
        group = "rbac.authorization.k8s.io"
        self._server.apply(
            [
                _object("ServiceAccount", "sluice-bundles", HOME),
                _object("ServiceAccount", ACCOUNT, TENANT),
                _object("Secret", "sluice-bundles-tls", HOME, data=encoded),
                # The chart's own rights are tested elsewhere.
                {
                    "apiVersion": f"{group}/v1",
                    "kind": "ClusterRoleBinding",
                    "metadata": {"name": "sluice-bundles"},
                    "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
                    "subjects": [account],
                },
            ]
        )

    async def token(self, number: int) -> str:
        """Create a governed pod; return its projected token."""
        identity = json.dumps({"serviceAccount": ACCOUNT, "labels": LABELS})
        pod = _object("Pod", f"desk-{number}", TENANT)
        pod["metadata"] |= {
            "labels": {"sluice.dev/inject": "true", **LABELS},
            "annotations": {
                "sluice.dev/injected": "bench",
                "sluice.dev/profile": PROFILE.id,
                "sluice.dev/identity": identity,
            },
        }
        containers = [{"name": "app", "image": "registry.invalid/app"}]
        pod["spec"] = {"serviceAccountName": ACCOUNT, "containers": containers}
        made = await self._kube.create(path_of("v1", "pods", TENANT), pod)
        bound = {"kind": "Pod", "apiVersion": "v1", "name": f"desk-{number}"}
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": ["sluice"],
                "boundObjectRef": {**bound, "uid": made["metadata"]["uid"]},
            },
        }
        path = f"{path_of('v1', 'serviceaccounts', TENANT, ACCOUNT)}/token"
        return (await self._kube.create(path, request))["status"]["token"]

    async def publish(self, sequence: int) -> float:
        """Store a bundle as the controller does; return the moment when the API server had taken it."""
        raw = bundle(
            self._compiled,
            sequence=sequence,
            issued_at=datetime.now(UTC),
            profile_id=PROFILE.id,
            max_policy_age_s=86400,
            key=self._signing,
        )
        self.bundle_bytes = len(raw)
        name = bundle_name(PROFILE.id)
        body = _object("ConfigMap", name, HOME)
        body["metadata"] |= {
            "labels": {"sluice.dev/kind": "bundle"},
            "annotations": {
                "sluice.dev/profile": PROFILE.id,
                "sluice.dev/sequence": str(sequence),
                "sluice.dev/revision": hashlib.sha256(raw).hexdigest(),
            },
        }
        body["binaryData"] = {"bundle.tar.gz": base64.b64encode(raw).decode()}
        await self._kube.apply(path_of("v1", "configmaps", HOME, name), body)
        return time.perf_counter()


def _object(kind: str, name: str, namespace: str, **more: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, **more}


class Replica(OperatorProcess):
    """One process of the bundle service."""

    @property
    def url(self) -> str:
        """Of the service."""
        return f"https://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def replica(kubeconfig: str, name: str) -> AsyncGenerator[Replica]:
    """Start one; it is ended with the context."""
    with tempfile.TemporaryDirectory(prefix="sluice-polls-") as folder:
        one = Replica(
            "bundles",
            kubeconfig=kubeconfig,
            namespace=HOME,
            name=name,
            log=Path(folder, f"{name}.log"),
            SLUICE_LOG_LEVEL="error",
        )
        one.start()
        try:
            async with asyncio.timeout(60):
                while not await asyncio.to_thread(lambda: one.ready):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            yield one
        finally:
            await asyncio.to_thread(one.stop)


async def _all_answered(pollers: Iterable[Poller], sequence: int, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not all(sequence in poller.answers for poller in pollers):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _in_batches(calls: Iterable[Awaitable[str]]) -> list[str]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(call: Awaitable[str]) -> str:
        async with gate:
            return await call

    return list(await asyncio.gather(*(one(call) for call in calls)))


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return p50, p99 and the largest, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {
        "p50": round(cuts[49] * 1000, 1),
        "p99": round(cuts[98] * 1000, 1),
        "max": round(max(seconds) * 1000, 1),
    }


def _since(pollers: list[Poller], sequence: int, begun: float) -> list[float]:
    return [max(0.0, poller.answers[sequence] - begun) for poller in pollers]


async def _measure(server: ApiServer, kube: Kube, polls: int, changes: int) -> dict[str, Any]:
    home = Installation(kube, server)
    await home.prepare()
    kubeconfig = str(server.service_account_kubeconfig(HOME, "sluice-bundles"))
    tokens = await _in_batches(home.token(number) for number in range(polls))
    context = ssl.create_default_context(cadata=home.authority.decode())
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(replica(kubeconfig, "first"))
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=connector, timeout=timeout)
        )
        pollers = [Poller(token, [first.url], http) for token in tokens]
        tasks = [asyncio.create_task(poller.run()) for poller in pollers]
        stack.callback(lambda: [task.cancel() for task in tasks])
        await home.publish(1)
        await _all_answered(pollers, 1)
        took: list[float] = []
        for sequence in range(2, changes + 2):
            await _all_waiting(first, polls)
            begun = await home.publish(sequence)
            await _all_answered(pollers, sequence)
            took += _since(pollers, sequence, begun)
        measured = await asyncio.to_thread(first.metrics)
        second = await stack.enter_async_context(replica(kubeconfig, "second"))
        restart = await _restart(first, second, pollers, home, changes + 2)
    return {
        "polls_change_ms": {"polls": polls, "changes": changes, **percentiles(took)},
        "polls_rolling_restart_ms": percentiles(restart),
        "polls_token_reviews": {
            "tokens": polls,
            "reviews": measured["sluice_bundles_token_reviews_total"],
        },
        "polls_replica": {
            "resident_mib": round(measured["process_resident_memory_bytes"] / 2**20, 1),
            "cpu_s": round(measured["process_cpu_seconds_total"], 1),
            "bundle_bytes": home.bundle_bytes,
        },
    }


async def _all_waiting(one: Replica, polls: int) -> None:
    async with asyncio.timeout(60):
        while (await asyncio.to_thread(one.metrics))["sluice_bundles_polls"] < polls:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _restart(
    first: Replica, second: Replica, pollers: list[Poller], home: Installation, sequence: int
) -> list[float]:
    """Replace the replica by another one, and change the policy in the middle of it."""
    for poller in pollers:
        poller.urls = [first.url, second.url]
    ended = asyncio.create_task(asyncio.to_thread(first.stop))
    await asyncio.sleep(2.1)  # It has begun to answer its polls.
    begun = await home.publish(sequence)
    await _all_answered(pollers, sequence)
    await ended
    return _since(pollers, sequence, begun)


def operator_polls(polls: int = POLLS, changes: int = CHANGES) -> dict[str, Any]:
    """Measure all of it; the results of a record."""

    async def measure(server: ApiServer) -> dict[str, Any]:
        async with Kube.connect(str(server.kubeconfig)) as kube:
            return await _measure(server, kube, polls, changes)

    with ApiServer() as server:
        return asyncio.run(measure(server))


if __name__ == "__main__":
    print(json.dumps(operator_polls(int((sys.argv[1:] or [POLLS])[0])), indent=1))
