"""The bundle service against a real API server, with the rights that the chart gives it and no more."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from sluice_dev.cluster import ApiServer
from sluice_operator.bundle_names import bundle_name
from sluice_operator.bundles.replica import BundlesSettings, Replica
from sluice_operator.certificates.authority import Authority
from sluice_operator.kube.bundle_store import BundleStore
from sluice_operator.kube.client import Kube, path_of
from sluice_operator.settings import CommonSettings
from sluice_policy import Profile

_numbers = itertools.count(1)
LABELS = {"team": "support"}
ACCOUNT = "desk"


def certificate() -> dict[str, bytes]:
    """A serving certificate of an authority of its own, as the Secret holds it."""
    now = datetime.now(UTC)
    authority = Authority.create(now, timedelta(days=1))
    chain, key = authority.issue(["127.0.0.1"], now, timedelta(hours=1))
    return {"tls.crt": chain, "tls.key": key, "ca.crt": authority.pem}


def rights(namespace: str) -> list[dict[str, Any]]:
    """The roles of the chart's ``bundles``."""
    account = {"kind": "ServiceAccount", "name": "sluice-bundles", "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    meta = {"name": "sluice-bundles", "namespace": namespace}
    cluster = {"name": f"sluice-bundles-{namespace}"}
    rules = [
        {
            "apiGroups": ["authentication.k8s.io"],
            "resources": ["tokenreviews"],
            "verbs": ["create"],
        },
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
    ]
    own = [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "verbs": ["get", "list", "watch", "create", "patch", "delete"],
        },
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": ["sluice-bundles-tls"],
            "verbs": ["get", "list", "watch"],
        },
    ]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": cluster, "rules": rules},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": own},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": cluster,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": cluster["name"]},
            "subjects": [account],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "sluice-bundles"},
            "subjects": [account],
        },
    ]


@dataclass
class Service:
    """A running replica, and the cluster around it."""

    kube: Kube
    """The administrator's."""
    namespace: str
    tenant: str
    settings: BundlesSettings
    replica: Replica
    tls: dict[str, bytes]
    http: aiohttp.ClientSession
    clock_ahead_s: float = 0.0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.replica.port}"

    @property
    def profile(self) -> str:
        return Profile(self.tenant, ACCOUNT, LABELS).id

    async def pod(self, name: str, **annotations: str | None) -> dict[str, Any]:
        """Create a governed pod; an annotation of None is left out."""
        identity = json.dumps({"serviceAccount": ACCOUNT, "labels": LABELS})
        written: dict[str, str | None] = {
            "sluice.dev/injected": "0.1.0",
            "sluice.dev/profile": self.profile,
            "sluice.dev/identity": identity,
        }
        written |= {f"sluice.dev/{key}": value for key, value in annotations.items()}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": {"sluice.dev/inject": "true", **LABELS},
                "annotations": {key: value for key, value in written.items() if value is not None},
            },
            "spec": {
                "serviceAccountName": ACCOUNT,
                "containers": [{"name": "app", "image": "registry.invalid/app"}],
            },
        }
        return await self.kube.create(path_of("v1", "pods", self.tenant), body)

    async def delete_pod(self, name: str) -> None:
        await self.kube.delete(path_of("v1", "pods", self.tenant, name))

    async def token(
        self, pod: dict[str, Any] | None, audience: str | None = "sluice", seconds: int = 3600
    ) -> str:
        """Return a projected token, as the kubelet asks for it."""
        spec: dict[str, Any] = {"expirationSeconds": seconds}
        if audience is not None:
            spec["audiences"] = [audience]
        if pod is not None:
            meta = pod["metadata"]
            spec["boundObjectRef"] = {
                "kind": "Pod",
                "apiVersion": "v1",
                "name": meta["name"],
                "uid": meta["uid"],
            }
        path = f"{path_of('v1', 'serviceaccounts', self.tenant, ACCOUNT)}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = await self.kube.create(path, body)
        return answer["status"]["token"]

    async def publish(self, content: bytes, sequence: int, profile: str | None = None) -> None:
        """Store a bundle as the controller does."""
        profile = profile or self.profile
        name = bundle_name(profile)
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "labels": {"sluice.dev/kind": "bundle"},
                "annotations": {
                    "sluice.dev/profile": profile,
                    "sluice.dev/sequence": str(sequence),
                    "sluice.dev/revision": hashlib.sha256(content).hexdigest(),
                    "sluice.dev/issued-at": datetime.now(UTC).isoformat(),
                },
            },
            "binaryData": {"bundle.tar.gz": base64.b64encode(content).decode()},
        }
        await self.kube.apply(path_of("v1", "configmaps", self.namespace, name), body)

    async def ask(
        self, path: str, token: str | None = None, method: str = "GET", **more: Any
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body of one request."""
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        url = f"{self.url}{path}"
        async with self.http.request(method, url, headers=headers, **more) as answer:
            return answer.status, answer.headers, await answer.read()

    async def poll(
        self, token: str, etag: str | None = None, seconds: int = 10
    ) -> tuple[int, Mapping[str, str], bytes]:
        headers = {"Prefer": f"wait={seconds}"}
        if etag is not None:
            headers["If-None-Match"] = etag
        return await self.ask("/v1/bundle", token, headers=headers)

    async def report(self) -> dict[str, Any]:
        """Return the report that the controller reads."""
        name = f"sluice-report-{self.settings.common.pod_name}"
        found = await self.kube.find(path_of("v1", "configmaps", self.namespace, name))
        return {} if found is None else json.loads(found["data"]["report.json"])

    async def put_certificate(self, data: dict[str, bytes]) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "sluice-bundles-tls"},
            "type": "kubernetes.io/tls",
            "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
        }
        path = path_of("v1", "secrets", self.namespace, "sluice-bundles-tls")
        await self.kube.apply(path, body)
        self.tls = data

    def trusting(self, data: dict[str, bytes]) -> aiohttp.ClientSession:
        context = ssl.create_default_context(cadata=data["ca.crt"].decode())
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        return aiohttp.ClientSession(connector=connector)


async def until(condition: Callable[[], Any], seconds: float = 10) -> Any:
    """Return what a condition (a function, or one that returns an awaitable) becomes when it is true."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)


@pytest.fixture
def eventually() -> Callable[..., Any]:
    return until


@pytest.fixture
def new_certificate() -> Callable[[], dict[str, bytes]]:
    return certificate


@dataclass(frozen=True)
class Home:
    """The namespace of the release, with the service account of ``bundles``."""

    namespace: str
    kubeconfig: str


@pytest.fixture(scope="session")
def home(api_server: ApiServer) -> Home:
    namespace = "sluice-bundles-tests"
    api_server.create_namespace(namespace)
    api_server.apply(rights(namespace))
    return Home(namespace, str(api_server.service_account_kubeconfig(namespace, "sluice-bundles")))


async def make_tenant(kube: Kube, name: str) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await kube.create(path_of("v1", "namespaces"), body)
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}}
    await kube.create(path_of("v1", "serviceaccounts", name), body)


@pytest.fixture
async def service(api_server: ApiServer, home: Home) -> AsyncIterator[Service]:
    number = next(_numbers)
    tenant, tls = f"bundles-tenant-{number}", certificate()
    common = CommonSettings(
        namespace=home.namespace,
        pod_name=f"sluice-bundles-{number}",
        kubeconfig=home.kubeconfig,
        health=("127.0.0.1", 0),
    )
    settings = BundlesSettings(common=common, address=("127.0.0.1", 0), leave_s=0.1)
    async with contextlib.AsyncExitStack() as stack:
        admin = await stack.enter_async_context(Kube.connect(str(api_server.kubeconfig)))
        own = await stack.enter_async_context(Kube.connect(home.kubeconfig))
        await make_tenant(admin, tenant)
        replica = Replica(settings, BundleStore(own, home.namespace))
        context = ssl.create_default_context(cadata=tls["ca.crt"].decode())
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        one = Service(admin, home.namespace, tenant, settings, replica, tls, http)
        replica.callers._clock = lambda: time.time() + one.clock_ahead_s
        await one.put_certificate(tls)
        async with asyncio.timeout(20):
            await replica.start()
        await until(lambda: replica.not_ready() is None)
        yield one
        if not replica._leaving:
            await replica.stop()
