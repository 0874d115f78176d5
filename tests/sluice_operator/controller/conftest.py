"""A real API server, real OPA, the controller as a process of its own, and a cluster's worth of objects by hand."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import io
import itertools
import json
import os
import tarfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from sluice_dev.cluster import ApiServer
from sluice_dev.operators import OperatorProcess
from sluice_operator.kube.client import MERGE, Kube, path_of
from sluice_operator.kube.errors import ApiError
from sluice_policy import Profile

API = "sluice.dev/v1alpha1"
PLURALS = {
    "DataClassification": "dataclassifications",
    "DatabaseAccessPolicy": "databaseaccesspolicies",
}
CRDS = Path(__file__).parents[3] / "crds" / "manifests"
_numbers = itertools.count(1)


async def until(
    look: Callable[[], Awaitable[Any]], timeout_s: float, what: str, seen: object = None
) -> Any:
    ends = time.monotonic() + timeout_s
    while time.monotonic() < ends:
        found = await look()
        if found is not None:
            return found
        await asyncio.sleep(0.03)
    raise AssertionError(f"not in {timeout_s} s: {what} {seen or ''}")


class Replica(OperatorProcess):
    """One controller process."""

    def __init__(self, api: ApiServer, opa: Path, namespace: str, folder: Path, more: dict) -> None:
        name = f"controller-{next(_numbers)}"
        settings = {
            "SLUICE_OPA": str(opa),
            "SLUICE_STATUS_SECONDS": "0.5",
            "SLUICE_LEASE_SECONDS": "3",
            "SLUICE_LEASE_RENEW_SECONDS": "0.5",
            **more,
        }
        super().__init__(
            "controller",
            kubeconfig=api.kubeconfig,
            namespace=namespace,
            name=name,
            log=folder / f"{name}.log",
            **settings,
        )
        self.start()

    async def is_ready(self) -> bool | None:
        return await asyncio.to_thread(lambda: self.ready) or None


class Cluster:
    """What a test does to the API server, and reads from it."""

    def __init__(self, kube: Kube, api: ApiServer, namespace: str, home: str) -> None:
        self.kube = kube
        self.api = api
        self.namespace = namespace
        """Of the release."""
        self.home = home
        """Of the resources and pods of this test."""

    until = staticmethod(until)

    async def make_namespace(self, name: str, labels: dict[str, str] | None = None) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels or {}},
        }
        await self.kube.create(path_of("v1", "namespaces"), body)
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await self.kube.create(path_of("v1", "serviceaccounts", name), account)

    def classification(self, name: str = "shop", **more: Any) -> dict[str, Any]:
        spec = {
            "database": {"hosts": [f"{name}-pg.{self.home}.svc"], "name": "shop"},
            "columns": [
                {"table": "public.users", "column": "email", "class": "pii.email"},
                {"table": "public.users", "column": "id", "class": "public"},
            ],
            **more,
        }
        return self.resource("DataClassification", name, spec)

    def policy(self, name: str = "app", **more: Any) -> dict[str, Any]:
        spec = {
            "rules": [{"name": "all", "effect": "allow"}],
            "masks": [{"class": "pii.email", "mask": "redact"}],
            **more,
        }
        return self.resource("DatabaseAccessPolicy", name, spec)

    def resource(self, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        metadata = {"name": name, "namespace": self.home}
        return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}

    def _path(self, item: dict[str, Any], *, named: bool = True) -> str:
        metadata = item["metadata"]
        return path_of(
            API, PLURALS[item["kind"]], metadata["namespace"], metadata["name"] if named else ""
        )

    async def apply(self, *items: dict[str, Any]) -> dict[str, Any]:
        stored: dict[str, Any] = {}
        for item in items:
            # As `kubectl apply`: fields that are left out go.
            stored = await self.kube.apply(self._path(item), item, manager="test")
        return stored

    async def delete(self, item: dict[str, Any]) -> None:
        await self.kube.delete(self._path(item))

    async def read(self, item: dict[str, Any]) -> dict[str, Any]:
        return await self.kube.get(self._path(item))

    async def pod(
        self, name: str, labels: dict[str, str] | None = None, databases: dict | None = None, **more
    ) -> Profile:
        """A pod as the webhook leaves it; nothing runs it."""
        profile = Profile(more.get("namespace", self.home), "default", labels or {"app": "web"})
        identity = {"serviceAccount": "default", "labels": dict(profile.labels)}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": profile.namespace,
                "labels": {**profile.labels, "sluice.dev/inject": "true"},
                "annotations": {
                    "sluice.dev/injected": "test",
                    "sluice.dev/profile": profile.id,
                    "sluice.dev/identity": json.dumps(identity, sort_keys=True),
                    "sluice.dev/databases": json.dumps(databases or {f"{self.home}/shop": 1}),
                },
            },
            "spec": {"containers": [{"name": "app", "image": "app"}]},
        }
        await self.kube.create(path_of("v1", "pods", profile.namespace), body)
        return profile

    async def delete_pod(self, name: str, namespace: str = "") -> None:
        path = path_of("v1", "pods", namespace or self.home, name)
        await self.kube.request(
            "DELETE", path, body={"kind": "DeleteOptions", "gracePeriodSeconds": 0}
        )

    async def clean(self) -> None:
        for plural in PLURALS.values():
            for item in (await self.kube.get(path_of(API, plural, self.home)))["items"]:
                await self.kube.delete(path_of(API, plural, self.home, item["metadata"]["name"]))
        for item in (await self.kube.get(path_of("v1", "pods", self.home)))["items"]:
            with contextlib.suppress(ApiError):
                await self.delete_pod(item["metadata"]["name"])

    async def bundle(self, profile: Profile) -> Bundle | None:
        name = f"sluice-bundle-{hashlib.sha256(profile.id.encode()).hexdigest()[:24]}"
        item = await self.kube.find(path_of("v1", "configmaps", self.namespace, name))
        return None if item is None else Bundle(item)

    @staticmethod
    def bundle_of(item: dict[str, Any]) -> Bundle:
        return Bundle(item)

    async def bundle_with(
        self, profile: Profile, check: Callable[[Bundle], bool], timeout_s: float = 45
    ) -> Bundle:
        async def look() -> Bundle | None:
            bundle = await self.bundle(profile)
            return bundle if bundle is not None and check(bundle) else None

        return await until(look, timeout_s, f"a bundle of {profile.id}")

    async def condition(
        self, item: dict[str, Any], kind: str, status: str, reason: str | None = None
    ) -> dict[str, Any]:
        seen: list[Any] = []

        async def look() -> dict[str, Any] | None:
            stored = await self.read(item)
            for one in (stored.get("status") or {}).get("conditions") or ():
                if one["type"] == kind:
                    seen[:] = [one]
                    fits = one["observedGeneration"] == stored["metadata"]["generation"]
                    if one["status"] == status and reason in (None, one["reason"]) and fits:
                        return one
            return None

        return await until(look, 45, f"{kind}={status}/{reason}; last seen {seen}", seen)

    async def report(
        self, replica: str, profiles: dict, problems=(), denials=(), **more: Any
    ) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        document = {
            "contract": 1,
            "at": at,
            "profiles": profiles,
            "problems": list(problems),
            "denials": list(denials),
            **more,
        }
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"sluice-report-{replica}",
                "labels": {"sluice.dev/kind": "report"},
            },
            "data": {"report.json": json.dumps(document)},
        }
        path = path_of("v1", "configmaps", self.namespace, f"sluice-report-{replica}")
        await self.kube.apply(path, body, manager="sluice-bundles")

    async def secret(self, name: str) -> dict[str, bytes]:
        item = await self.kube.get(path_of("v1", "secrets", self.namespace, name))
        return {key: base64.b64decode(value) for key, value in item["data"].items()}

    async def trust(self) -> dict[str, str]:
        path = path_of("v1", "configmaps", self.namespace, "sluice-trust")
        return (await until(lambda: self.kube.find(path), 45, "sluice-trust"))["data"]

    async def events(self, namespace: str | None = None) -> list[dict[str, Any]]:
        page = await self.kube.get(path_of("events.k8s.io/v1", "events", namespace or self.home))
        return page["items"]

    async def label(self, namespace: str, labels: dict[str, str | None]) -> None:
        body = {"metadata": {"labels": labels}}
        path = path_of("v1", "namespaces", None, namespace)
        await self.kube.request("PATCH", path, body=body, content_type=MERGE)


class Bundle:
    """A bundle as it is stored."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.name: str = item["metadata"]["name"]
        self.annotations: dict[str, str] = item["metadata"]["annotations"]
        self.raw = base64.b64decode(item["binaryData"]["bundle.tar.gz"])
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(self.raw))) as archive:
            self.files = {m.name: archive.extractfile(m).read() for m in archive.getmembers()}
        self.manifest = json.loads(self.files[".manifest"])
        self.data = json.loads(self.files["data.json"])["sluice_data"]
        self.sequence = int(self.annotations["sluice.dev/sequence"])
        self.revision = self.annotations["sluice.dev/revision"]
        self.profile = self.annotations["sluice.dev/profile"]

    def policies(self) -> list[str]:
        return [one["name"].partition("/")[2] for one in self.data["policies"]]

    def policy(self, name: str) -> dict[str, Any]:
        return next(one for one in self.data["policies"] if one["name"].endswith(f"/{name}"))

    def database(self, name: str) -> dict[str, Any]:
        return next(d for n, d in self.data["databases"].items() if n.endswith(f"/{name}"))

    def signed_by(self, keys: dict[str, str]) -> str:
        """Check the signature with these public keys; return the id of the one that signed."""
        token = json.loads(self.files[".signatures.json"])["signatures"][0]
        kid = jwt.get_unverified_header(token)["kid"]
        payload = jwt.decode(token, keys[kid], algorithms=["ES256"])
        assert {one["name"] for one in payload["files"]} == set(self.files) - {".signatures.json"}
        return kid


@pytest.fixture(scope="session")
def kubernetes(api_server: ApiServer) -> ApiServer:
    for manifest in sorted(CRDS.glob("*.yaml")):
        api_server.apply(manifest)
    api_server.kubectl(
        "wait", "--for=condition=Established", "crd", *(f"{p}.sluice.dev" for p in PLURALS.values())
    )
    return api_server


@pytest.fixture(scope="module")
def controller(
    kubernetes: ApiServer, opa: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replica]:
    """One controller for a whole module. A test that starts its own (``start``) belongs into another module."""
    namespace = f"sluice-{next(_numbers)}-{os.getpid()}"
    kubernetes.kubectl("create", "namespace", namespace)
    replica = Replica(kubernetes, opa, namespace, tmp_path_factory.mktemp("controller"), {})
    try:
        yield replica
        replica.stop()
    finally:
        replica.kill()


@pytest.fixture
async def cluster(kubernetes: ApiServer, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    shared: Replica | None = None
    if "start" not in request.fixturenames:
        shared = request.getfixturevalue("controller")
    async with Kube.connect(str(kubernetes.kubeconfig)) as kube:
        number = f"{next(_numbers)}-{os.getpid()}"
        namespace = shared.namespace if shared else f"sluice-{number}"
        made = Cluster(kube, kubernetes, namespace, f"shop-{number}")
        if not shared:
            await made.make_namespace(made.namespace)
        await made.make_namespace(made.home)
        yield made
        await made.clean()


@pytest.fixture
def start(cluster: Cluster, opa: Path, tmp_path: Path) -> Iterator[Callable[..., Replica]]:
    """A function that starts a controller."""
    running: list[Replica] = []

    def begin(**environment: str) -> Replica:
        replica = Replica(cluster.api, opa, cluster.namespace, tmp_path, environment)
        running.append(replica)
        return replica

    yield begin
    try:
        for replica in running:
            replica.stop()
    finally:
        for replica in running:
            replica.kill()
