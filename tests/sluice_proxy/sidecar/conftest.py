"""A pod's folders and environment, an OPA started as a kubelet would, and the real bundle service over TLS.

Only who vouches for tokens is scripted here; ``tests/sluice_operator/bundles`` has a real API server for that.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from sluice_operator.admission import names
from sluice_operator.admission.model import Trust
from sluice_operator.admission.opa import authorization_policy, opa_arguments
from sluice_operator.bundle_names import bundle_name
from sluice_operator.bundles.callers import Callers
from sluice_operator.bundles.reports import Reports
from sluice_operator.bundles.service import BundleService
from sluice_operator.bundles.shelf import Shelf
from sluice_operator.certificates import authority as certificates
from sluice_operator.kube.bundle_store import ObjectMeta, Reviewed, StoredBundle
from sluice_operator.serving import LiveCertificate, ended, make_server, started
from sluice_proxy.sidecar.environment import Environment, Layout
from sluice_proxy.sidecar.process import PodSidecar

SETTLED_S = 0.1
NAMESPACE, ACCOUNT, POD, UID = "support", "desk", "desk-0", "0a0a-uid"
LABELS = {"team": "support"}
DIGEST = hashlib.sha256(json.dumps(LABELS, sort_keys=True).encode()).hexdigest()[:12]
PROFILE = f"{NAMESPACE}/{ACCOUNT}/{DIGEST}"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Authority:
    """A certificate authority, and leaves signed by it."""

    def __init__(self) -> None:
        self._authority = certificates.Authority.create(datetime.now(UTC), timedelta(days=1))

    @property
    def pem(self) -> str:
        return self._authority.pem.decode()

    def leaf(self) -> dict[str, bytes]:
        names = ["127.0.0.1", "localhost"]
        chain, key = self._authority.issue(names, datetime.now(UTC), timedelta(hours=1))
        return {"tls.crt": chain, "tls.key": key}


def projected_token(*, pod: str = POD, uid: str = UID, seconds: float = 3600, **more: Any) -> str:
    claims = {
        "exp": int(time.time() + seconds),
        "aud": ["sluice"],
        "kubernetes.io": {
            "namespace": NAMESPACE,
            "pod": {"name": pod, "uid": uid},
            "serviceaccount": {"name": ACCOUNT},
        },
    } | more
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"header.{body}.signature"


@dataclass
class Cluster:
    """Who vouches for tokens and holds the bundles, scripted."""

    tokens: dict[str, Reviewed] = field(default_factory=dict)
    pods: dict[tuple[str, str], ObjectMeta] = field(default_factory=dict)
    bundles: dict[str, StoredBundle] = field(default_factory=dict)
    reviews: int = 0

    async def review(self, token: str, audience: str) -> Reviewed | None:
        assert audience == "sluice"
        self.reviews += 1
        return self.tokens.get(token)

    async def pod(self, namespace: str, name: str, uid: str) -> ObjectMeta | None:
        meta = self.pods.get((namespace, name))
        return meta if meta is not None and meta.uid == uid else None

    async def bundle(self, name: str) -> StoredBundle | None:
        return self.bundles.get(name)

    def add_pod(self, *, pod: str = POD, uid: str = UID, profile: str = PROFILE) -> None:
        annotations = {
            "sluice.dev/injected": "0.1.0",
            "sluice.dev/profile": profile,
            "sluice.dev/identity": json.dumps({"serviceAccount": ACCOUNT, "labels": LABELS}),
        }
        self.pods[NAMESPACE, pod] = ObjectMeta(NAMESPACE, pod, uid, annotations)

    def add_token(self, token: str, *, pod: str = POD, uid: str = UID) -> str:
        self.tokens[token] = Reviewed(NAMESPACE, ACCOUNT, pod, uid)
        return token


class Operator:
    """The bundle service's own parts over TLS, without the API server behind them."""

    profile = PROFILE

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.authority = Authority()
        self.certificate = LiveCertificate()
        self.certificate.take(self.authority.leaf())
        self.port = free_port()
        self.reports = Reports()
        self.begin()

    def begin(self) -> None:
        self.callers = Callers(self.cluster)
        self.shelf = Shelf(self.cluster.bundle)
        self.service = BundleService(self.callers, self.shelf, self.reports)
        for stored in self.cluster.bundles.values():
            self.shelf.put(stored.meta)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = make_server(
            self.service.application(),
            host="127.0.0.1",
            port=self.port,
            certificate=self.certificate,
        )
        self._task = await started(self._server)

    async def stop(self) -> None:
        self.service.ending = True
        self.shelf.end()
        await ended(self._server, self._task)
        await self.shelf.stop()

    def publish(self, raw: bytes, sequence: int, *, profile: str = PROFILE) -> None:
        annotations = {
            "sluice.dev/profile": profile,
            "sluice.dev/sequence": str(sequence),
            "sluice.dev/revision": hashlib.sha256(raw).hexdigest(),
        }
        name = bundle_name(profile)
        meta = ObjectMeta("sluice-system", name, f"cm-{profile}", annotations)
        self.cluster.bundles[name] = StoredBundle(meta, raw)
        self.shelf.put(meta)


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    one = Operator()
    one.cluster.add_pod()
    await one.start()
    yield one
    with contextlib.suppress(Exception):
        await one.stop()


@dataclass
class Pod:
    """One governed pod in folders: what the kubelet mounts, what it starts, what the webhook wrote."""

    layout: Layout
    variables: dict[str, str]
    opa_program: Path
    bundle_port: int = field(default_factory=free_port)
    health_port: int = field(default_factory=free_port)
    listen: str = ""
    opa: subprocess.Popen[bytes] | None = None
    sidecar: PodSidecar | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[int] | None = None

    @property
    def environment(self) -> Environment:
        return Environment.read(self.variables)

    def prepare(self) -> None:
        from sluice_proxy.sidecar.preparation import prepare  # noqa: PLC0415

        prepare(self.environment, self.layout)

    def opa_arguments(self, guard: str) -> list[str]:
        """Return what the webhook writes, for this pod's folders and ports."""
        policy = self.layout.place(names.OPA_PATH) / names.AUTHORIZATION_FILE
        policy.parent.mkdir(parents=True, exist_ok=True)
        policy.write_text(guard)
        trust = self.environment.trust
        return [
            argument.replace(names.RUN_PATH, str(self.layout.run))
            .replace(f":{names.BUNDLE_PORT}", f":{self.bundle_port}")
            .replace(names.OPA_PATH, str(policy.parent))
            for argument in opa_arguments(Trust(trust.ca_pem, trust.keys))
            if not argument.startswith("--diagnostic-addr")
        ]

    def start_opa(self, guard: str = authorization_policy()) -> None:
        self.opa = subprocess.Popen(
            [self.opa_program, *self.opa_arguments(guard)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill_opa(self) -> None:
        assert self.opa is not None
        self.opa.kill()
        self.opa.wait()

    def start_proxy(self, listener: socket.socket | None = None) -> None:
        self.ended = asyncio.Event()
        self.sidecar = PodSidecar(
            self.environment,
            self.layout,
            health=("127.0.0.1", self.health_port),
            bundle_port=self.bundle_port,
            listener=listener,
        )
        self.task = asyncio.create_task(self.sidecar.run(self.ended))

    async def stop_proxy(self) -> int:
        assert self.task is not None
        self.ended.set()
        return await self.task

    async def start(self) -> None:
        self.prepare()
        self.start_opa()
        self.start_proxy()
        await self.ready()

    async def health(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.health_port}/readyz"
        async with aiohttp.ClientSession() as http:
            try:
                async with http.get(url) as answer:
                    return await answer.json()
            except aiohttp.ClientError:
                return {"ready": False, "reasons": {"health": "not listening"}}

    async def ready(self, seconds: float = 15) -> None:
        document: dict[str, Any] = {}
        try:
            async with asyncio.timeout(seconds):
                while not (document := await self.health())["ready"]:
                    assert self.task is not None
                    if self.task.done():
                        await self.task
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not ready: {document}") from None

    async def in_force(self, sequence: int, seconds: float = 10) -> float:
        """Return the seconds until the data plane works under that sequence."""
        began = time.perf_counter()
        async with asyncio.timeout(seconds):
            while True:
                running = None if self.sidecar is None else self.sidecar.sidecar
                bundle = None if running is None else running.in_force
                if bundle is not None and bundle.sequence >= sequence:
                    return time.perf_counter() - began
                await asyncio.sleep(0.001)

    async def connect(self, dsn: str, **parameters: Any) -> psycopg.AsyncConnection[Any]:
        host, _, port = self.listen.rpartition(":")
        info: dict[str, Any] = dict(psycopg.conninfo.conninfo_to_dict(dsn))
        info |= {"host": host, "port": port, "sslmode": "disable"} | parameters
        return await psycopg.AsyncConnection.connect(**info, autocommit=True)


@pytest.fixture
def signed(making: Any) -> Callable[..., bytes]:
    """A function that makes a signed bundle of this pod's profile."""

    def sign(sequence: int, *, metadata: dict[str, Any] | None = None, **more: Any) -> bytes:
        given = {"profile": PROFILE} | (metadata or {})
        return making.signer.bundle(sequence, metadata=given, **more)

    return sign


@pytest.fixture
def token() -> Callable[..., str]:
    return projected_token


@pytest.fixture
def another_authority() -> Authority:
    return Authority()


@pytest.fixture
def directory(short_directory: Path) -> Path:
    return short_directory


def catalog_secret(directory: Path, dsn: str, **changes: str) -> None:
    info = psycopg.conninfo.conninfo_to_dict(dsn)
    directory.mkdir(parents=True, exist_ok=True)
    values = {
        "user": str(info["user"]),
        "password": str(info.get("password") or "none"),
        "host": "127.0.0.1",
        "port": str(info["port"]),
    } | changes
    for name, value in values.items():
        (directory / name).write_text(value)


@pytest.fixture
async def make_pod(
    making: Any, opa: Path, directory: Path, operator: Operator
) -> AsyncIterator[Callable[..., Pod]]:
    pods: list[Pod] = []

    def make(dsn: str, *, catalog: bool = True, extra: list[dict[str, Any]] | None = None) -> Pod:
        info = psycopg.conninfo.conninfo_to_dict(dsn)
        layout = Layout(directory)
        for path in (layout.run, layout.state, layout.spool, layout.token.parent):
            path.mkdir(parents=True, exist_ok=True)
        layout.token.write_text(operator.cluster.add_token(projected_token()))
        listen = f"127.0.0.32:{free_port()}"
        entry = {
            "name": "shop/shop",
            "database": info["dbname"],
            "upstream": ["127.0.0.1", int(info["port"])],
            "listen": listen,
            "tls": "disable",
            "catalog": "/etc/sluice/catalog/0" if catalog else None,
            "secret": "shop-catalog-reader" if catalog else None,
        }
        if catalog:
            catalog_secret(layout.place("/etc/sluice/catalog/0"), dsn)
        more = [one | {"listen": one.get("listen", listen)} for one in extra or []]
        variables = {
            "SLUICE_BUNDLES_URL": operator.url,
            "SLUICE_TRUST": json.dumps(
                {"ca_pem": operator.authority.pem, "keys": making.signer.keys}
            ),
            "SLUICE_DATABASES": json.dumps([entry, *more]),
            "SLUICE_POD_NAME": POD,
            "SLUICE_POD_NAMESPACE": NAMESPACE,
            "SLUICE_POD_UID": UID,
            "SLUICE_DRAIN_SECONDS": "1",
            "SLUICE_SPOOL_BYTES_MAX": str(8 << 20),
        }
        pod = Pod(layout, variables, opa, listen=listen)
        pods.append(pod)
        return pod

    yield make
    for pod in pods:
        if pod.opa is not None and pod.opa.poll() is None:
            os.kill(pod.opa.pid, signal.SIGTERM)
            pod.opa.wait()
    # What OPA left half-way through a handshake no server knows of; the loop closes it when it sees the end.
    await asyncio.sleep(SETTLED_S)


@pytest.fixture
async def run_pod(make_pod: Callable[..., Pod]) -> AsyncIterator[Callable[..., Any]]:
    """A function that makes a pod and starts all of it."""
    pods: list[Pod] = []

    async def run(*args: Any, **more: Any) -> Pod:
        pod = make_pod(*args, **more)
        pods.append(pod)
        await pod.start()
        return pod

    yield run
    for pod in pods:
        if pod.task is not None and not pod.task.done():
            await pod.stop_proxy()
