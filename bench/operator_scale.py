"""The controller before 10,000 governed pods that are already there: until it is steady, its memory, and a change.

The API server, OPA and the controller's process are real; the pods are objects that nothing runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from sluice_dev import cache
from sluice_dev.cluster import ApiServer
from sluice_dev.operators import OperatorProcess
from sluice_operator.bundle_names import bundle_name
from sluice_operator.kube.client import Kube, path_of
from sluice_policy import Profile

PODS, NAMESPACES, WORKLOADS, CHANGES = 10_000, 50, 4, 30
"""Workloads are of each namespace: 200 profiles of 50 pods."""
HOME, EMPTY = "sluice-system", "sluice-empty"
API = "sluice.dev/v1alpha1"
AT_ONCE = 16
CRDS = cache.ROOT / "crds" / "manifests"


def _namespace(number: int) -> str:
    return f"team-{number}"


def _profile(number: int, workload: int) -> Profile:
    return Profile(_namespace(number), "default", {"app": f"app-{workload}"})


def _classification(number: int) -> dict[str, Any]:
    columns = [
        {"table": f"public.t{index}", "column": "email", "class": "pii.email"}
        for index in range(20)
    ]
    spec = {"database": {"hosts": [f"pg.{_namespace(number)}.svc"], "name": "app"}}
    return _resource("DataClassification", number, "app", {**spec, "columns": columns})


def _policy(number: int, name: str, mask: str = "redact") -> dict[str, Any]:
    spec = {
        "subjects": [{"workload": {"namespaces": [_namespace(number)]}}],
        "rules": [{"name": "all", "effect": "allow"}],
        "masks": [{"class": "pii.email", "mask": mask}],
        "rowFilters": [{"table": "public.t1", "where": "region = 'eu'"}],
    }
    return _resource("DatabaseAccessPolicy", number, name, spec)


def _resource(kind: str, number: int, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": _namespace(number)}
    return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}


def _pod(number: int, workload: int, index: int, databases: str) -> dict[str, Any]:
    profile = _profile(number, workload)
    identity = {"serviceAccount": "default", "labels": dict(profile.labels)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"app-{workload}-{index}",
            "labels": {**profile.labels, "sluice.dev/inject": "true"},
            "annotations": {
                "sluice.dev/injected": "bench",
                "sluice.dev/profile": profile.id,
                "sluice.dev/identity": json.dumps(identity, sort_keys=True),
                "sluice.dev/databases": databases,
            },
        },
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    }


async def _fill(kube: Kube) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def make(path: str, body: dict[str, Any]) -> None:
        async with gate:
            await kube.create(path, body)

    names = [HOME, *(_namespace(number) for number in range(NAMESPACES))]
    for name in names:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await make(path_of("v1", "namespaces"), body)
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await make(path_of("v1", "serviceaccounts", name), account)
    resources = [
        make(path_of(API, plural, _namespace(number)), body)
        for number in range(NAMESPACES)
        for plural, body in (
            ("dataclassifications", _classification(number)),
            *(("databaseaccesspolicies", _policy(number, f"p{index}")) for index in range(4)),
        )
    ]
    await asyncio.gather(*resources)
    databases = json.dumps({f"{_namespace(number)}/app": 1 for number in range(NAMESPACES)})
    each = PODS // NAMESPACES // WORKLOADS
    pods = [
        make(path_of("v1", "pods", _namespace(number)), _pod(number, workload, index, databases))
        for number in range(NAMESPACES)
        for workload in range(WORKLOADS)
        for index in range(each)
    ]
    await asyncio.gather(*pods)


class _Controller(OperatorProcess):
    """The controller's process."""

    def __init__(self, api: ApiServer, folder: str, home: str = HOME) -> None:
        super().__init__(
            "controller",
            kubeconfig=api.kubeconfig,
            namespace=home,
            name="bench",
            log=Path(folder, f"{time.monotonic_ns()}.log"),
            SLUICE_OPA=str(cache.opa()),
        )
        self.begun = time.perf_counter()
        self.start()

    async def steady(self) -> float:
        """Wait for the log to say so; return after how many seconds it did."""
        while '"event": "steady"' not in self.log.read_text():
            if self.exit_code is not None:
                raise SystemExit(f"the controller ended:\n{self.log.read_text()[-3000:]}")
            await asyncio.sleep(0.05)
        return time.perf_counter() - self.begun

    def memory_mb(self, field: str = "VmRSS") -> float:
        """Its own resident memory; OPA's is apart."""
        return _memory_mb(self.pid, field)

    def opa_mb(self) -> float:
        """Resident memory of its OPA."""
        children_file = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return sum(_memory_mb(int(pid)) for pid in children_file.read_text().split())

    def metric(self, name: str) -> float:
        """Sum of one of its metrics over all labels."""
        return sum(value for known, value in self.metrics().items() if known.startswith(name))


def _memory_mb(pid: int, field: str = "VmRSS") -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def _changes(kube: Kube) -> list[float]:
    """Seconds from the API server's answer to an edit until the bundle's ConfigMap is written."""
    profile = _profile(0, 0)
    path = path_of("v1", "configmaps", HOME, bundle_name(profile.id))
    policy = path_of(API, "databaseaccesspolicies", _namespace(0), "p0")
    seconds: list[float] = []
    for index in range(CHANGES):
        revision = (await kube.get(path))["metadata"]["annotations"]["sluice.dev/revision"]
        await kube.apply(policy, _policy(0, "p0", ("hash", "redact")[index % 2]), manager="bench")
        begun = time.perf_counter()
        while True:
            metadata = (await kube.get(path))["metadata"]
            if metadata["annotations"]["sluice.dev/revision"] != revision:
                break
            await asyncio.sleep(0.005)
        seconds.append(time.perf_counter() - begun)
        await asyncio.sleep(0.5)
    return seconds


async def _measure(api: ApiServer) -> dict[str, Any]:
    for manifest in sorted(CRDS.glob("*.yaml")):
        api.apply(manifest)
    api.kubectl("wait", "--for=condition=Established", "crd", "--all")
    async with Kube.connect(str(api.kubeconfig)) as kube:
        with tempfile.TemporaryDirectory(prefix="sluice-scale-") as folder:
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": EMPTY}}
            await kube.create(path_of("v1", "namespaces"), body)
            idle = _Controller(api, folder, EMPTY)
            with _ending(idle):
                await idle.steady()
                await asyncio.sleep(3)
                idle_mb, idle_opa_mb = idle.memory_mb(), idle.opa_mb()
            return await _full(api, kube, folder, idle_mb, idle_opa_mb)


@contextlib.contextmanager
def _ending(controller: _Controller) -> Generator[None]:
    """End a controller with the context."""
    try:
        yield
    finally:
        controller.stop(within_s=30)


async def _full(
    api: ApiServer, kube: Kube, folder: str, idle_mb: float, idle_opa_mb: float
) -> dict[str, Any]:
    begun = time.perf_counter()
    await _fill(kube)
    print(f"{PODS} pods made in {time.perf_counter() - begun:.0f} s", flush=True)
    controller = _Controller(api, folder)
    with _ending(controller):
        first_s = await controller.steady()
        first_peak_mb = controller.memory_mb("VmHWM")
        published = controller.metric("sluice_controller_bundles_published_total")
        seconds = sorted(await _changes(kube))
        full_mb, full_opa_mb = controller.memory_mb(), controller.opa_mb()
    again = _Controller(api, folder)
    with _ending(again):
        again_s = await again.steady()
    return {
        "pods": PODS,
        "profiles": NAMESPACES * WORKLOADS,
        "policies": NAMESPACES * 4,
        "idle_mb": round(idle_mb, 1),
        "idle_opa_mb": round(idle_opa_mb, 1),
        "steady_s": round(first_s, 2),
        "bundles_published": int(published),
        "peak_mb": round(first_peak_mb, 1),
        "memory_mb": round(full_mb, 1),
        "opa_mb": round(full_opa_mb, 1),
        "restart_steady_s": round(again_s, 2),
        "change_to_bundle_ms": {
            "p50": round(statistics.median(seconds) * 1000),
            "p90": round(seconds[int(len(seconds) * 0.9)] * 1000),
            "max": round(seconds[-1] * 1000),
        },
    }


def measure() -> dict[str, Any]:
    """Run it all, on an API server of its own."""
    with ApiServer() as api:
        return asyncio.run(_measure(api))


def show(result: dict[str, Any]) -> None:
    """Print it as a table."""
    change = result["change_to_bundle_ms"]
    rows = [
        ("start until steady, everything to publish", f"{result['steady_s']:.2f} s", "30 s"),
        ("start until steady, nothing to publish", f"{result['restart_steady_s']:.2f} s", ""),
        ("memory, idle and empty", f"{result['idle_mb']} MB", "150 MB"),
        ("memory, full", f"{result['memory_mb']} MB", "300 MB"),
        ("memory, at its peak", f"{result['peak_mb']} MB", "300 MB"),
        ("its OPA, idle", f"{result['idle_opa_mb']} MB", ""),
        ("its OPA, full", f"{result['opa_mb']} MB", ""),
        ("edit until its bundle is written, p50", f"{change['p50']} ms", "200 ms"),
        ("edit until its bundle is written, p90", f"{change['p90']} ms", ""),
    ]
    pods, profiles, policies = result["pods"], result["profiles"], result["policies"]
    print(f"\n{pods} governed pods, {profiles} profiles, {policies} policies")
    for what, value, gate in rows:
        print(f"  {what:44}{value:>12}   {gate}")


if __name__ == "__main__":
    show(measure())
