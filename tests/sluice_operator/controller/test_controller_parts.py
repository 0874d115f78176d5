"""Controller, bundle service, sidecar and OPA as processes, on a real API server: what joins them holds."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sluice_dev.children import free_port
from sluice_dev.operators import OperatorProcess
from sluice_operator.admission import names
from sluice_operator.admission.model import Trust
from sluice_operator.admission.opa import authorization_policy, opa_arguments
from sluice_operator.certificates.authority import Authority
from sluice_operator.kube.client import path_of


class Sidecar:
    """The containers of one governed pod, as processes."""

    def __init__(self, opa: Path, folder: Path, environment: dict[str, str], port: int) -> None:
        self._opa = opa
        self._root = folder
        self._environment = environment
        self._port = port
        self._running: list[subprocess.Popen[bytes]] = []

    def _command(self, word: str) -> list[str]:
        options = ["--root", str(self._root), "--bundle-port", str(self._port)]
        health = ["--health", f"127.0.0.1:{free_port()}"]
        return [sys.executable, "-m", "sluice_proxy.sidecar", word, *options, *health]

    def start(self, size_limit: int) -> None:
        """Start all of it, on an OPA that takes no file of a bundle that is larger."""
        for name in ("run/sluice", "var/lib/sluice/state", "var/lib/sluice/spool", "dev"):
            (self._root / name).mkdir(parents=True, exist_ok=True)
        run = self._root / "run" / "sluice"
        (run / "authz.rego").write_text(authorization_policy())
        arguments = [
            a.replace(names.RUN_PATH, str(run))
            .replace(names.OPA_PATH, str(run))
            .replace(f":{names.BUNDLE_PORT}", f":{self._port}")
            for a in opa_arguments(Trust(**json.loads(self._environment["SLUICE_TRUST"])))
            if not a.startswith("--diagnostic-addr")
        ]
        arguments.insert(-1, f"--set=bundles.sluice.size_limit_bytes={size_limit}")
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        self._running.append(
            subprocess.Popen([self._opa, *arguments], stderr=subprocess.DEVNULL, **quiet)
        )
        with (self._root / "log").open("wb") as log:
            self._running.append(
                subprocess.Popen(
                    self._command("run"), env=self._environment, stderr=log, stdout=log
                )
            )

    def stop(self) -> None:
        for process in reversed(self._running):
            process.send_signal(signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Unix sockets have short names."""
    folder = Path(tempfile.mkdtemp(prefix="sluice-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def begin_sidecar(opa: Path, short_folder: Path) -> Iterator[Callable[..., Sidecar]]:
    made: list[Sidecar] = []

    def begin(environment: dict[str, str], size_limit: int) -> Sidecar:
        sidecar = Sidecar(opa, short_folder, environment, free_port())
        made.append(sidecar)
        sidecar.start(size_limit)
        return sidecar

    yield begin
    for sidecar in made:
        sidecar.stop()


@pytest.fixture
def begin_bundles(cluster: Any, tmp_path: Path) -> Iterator[Callable[[], int]]:
    """A function that starts the bundle service and returns its port."""
    with contextlib.ExitStack() as running:

        def begin() -> int:
            service = OperatorProcess(
                "bundles",
                kubeconfig=cluster.api.kubeconfig,
                namespace=cluster.namespace,
                name="bundles-0",
                log=tmp_path / "bundles.log",
                SLUICE_LEAVE_SECONDS="0",
            )
            service.start()
            running.callback(service.stop)
            return service.port

        yield begin


async def certified(cluster: Any) -> str:
    """Make the two Secrets that cert-manager would; return the authority."""
    now = datetime.now(UTC)
    authority = Authority.create(now, timedelta(days=1))
    for service in ("admission", "bundles"):
        base = f"sluice-{service}.{cluster.namespace}"
        names = [base, f"{base}.svc", f"{base}.svc.cluster.local", "127.0.0.1"]
        chain, key = authority.issue(names, now, timedelta(hours=1))
        data = {"tls.crt": chain, "tls.key": key, "ca.crt": authority.pem}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"sluice-{service}-issued"},
            "type": "kubernetes.io/tls",
            "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
        }
        await cluster.kube.create(path_of("v1", "secrets", cluster.namespace), body)
    return authority.pem.decode()


async def environment_of(cluster: Any, pod: str, port: int, folder: Path) -> dict[str, str]:
    """What the webhook and the kubelet give to a sidecar."""
    uid = (await cluster.kube.get(path_of("v1", "pods", cluster.home, pod)))["metadata"]["uid"]
    reference = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid}
    spec = {"audiences": ["sluice"], "expirationSeconds": 3600, "boundObjectRef": reference}
    path = f"{path_of('v1', 'serviceaccounts', cluster.home, 'default')}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    token = folder / "var/run/secrets/sluice/token"
    token.parent.mkdir(parents=True)
    token.write_text((await cluster.kube.create(path, request))["status"]["token"])
    trust = await cluster.trust()
    database = {
        "name": f"{cluster.home}/shop",
        "database": "shop",
        "upstream": ["127.0.0.1", 5432],
        "listen": f"127.0.0.32:{free_port()}",
        "tls": "disable",
        "catalog": None,
        "secret": None,
    }
    return {
        "PATH": os.environ["PATH"],
        "SLUICE_BUNDLES_URL": f"https://127.0.0.1:{port}",
        "SLUICE_TRUST": json.dumps(
            {"ca_pem": trust["ca.pem"], "keys": json.loads(trust["keys.json"])}
        ),
        "SLUICE_DATABASES": json.dumps([database]),
        "SLUICE_POD_NAME": pod,
        "SLUICE_POD_NAMESPACE": cluster.home,
        "SLUICE_POD_UID": uid,
        "SLUICE_DRAIN_SECONDS": "1",
        "SLUICE_SPOOL_BYTES_MAX": str(8 << 20),
    }


async def test_real_opa_that_refuses_content_gets_back_what_worked(
    *, cluster, start, begin_bundles, begin_sidecar, short_folder
):
    """All parts as they are: what this OPA cannot take is a file larger than it was told to read."""
    await certified(cluster)
    start(SLUICE_CERTIFICATES="cert-manager")
    await cluster.apply(cluster.classification(), cluster.policy())
    profile = await cluster.pod("web-1")
    good = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    environment = await environment_of(cluster, "web-1", begin_bundles(), short_folder)
    begin_sidecar(environment, 100_000)
    await cluster.condition(cluster.policy(), "Enforced", "True", "InForce")

    columns = cluster.classification()["spec"]["columns"]
    many = [{"table": "public.wide", "column": f"c{n}", "class": "pii.name"} for n in range(2500)]
    large = cluster.classification(columns=[*columns, *many])
    await cluster.apply(large)
    bad = await cluster.bundle_with(profile, lambda b: b.revision != good.revision)
    assert len(bad.files["data.json"]) > 100_000
    told = await cluster.condition(large, "Compiled", "False", "ActivationFailed")
    assert f"for example in {cluster.home}/web-1" in told["message"]
    assert "size" in told["message"]
    again = await cluster.bundle_with(profile, lambda b: b.revision == good.revision)
    assert again.sequence > bad.sequence

    async def current() -> bool | None:
        sidecars = (await cluster.read(large))["status"]["sidecars"]
        return True if sidecars == {"expected": 1, "current": 1, "stale": 0} else None

    await cluster.until(current, 40, "the sidecar under what worked")
    await cluster.apply(cluster.classification(columns=columns[:1]))
    await cluster.condition(large, "Compiled", "True")
    await cluster.condition(cluster.policy(), "Enforced", "True", "InForce")
