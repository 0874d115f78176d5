"""The one-node cluster runs what a real one runs, and leaves nothing behind, however its commands end.

It needs root and a minute or two, so it runs when asked: ``SLUICE_CLUSTER_TESTS=1 pytest tests/sluice_dev``.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice_dev.cache import opa
from sluice_dev.cluster import archives, pki, processes
from sluice_dev.cluster.errors import ClusterError
from sluice_dev.cluster.local import LocalCluster

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("SLUICE_CLUSTER_TESTS") or os.geteuid() != 0,
        reason="a whole cluster: needs root and SLUICE_CLUSTER_TESTS=1",
    ),
    pytest.mark.timeout(600),
]

STATE = Path("/var/tmp/sluice-cluster-tests")
IMAGE = "localhost/sluice/test-opa:1"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
POLICY = """package system
main := {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {
  "uid": input.request.uid, "allowed": false, "status": {"message": "asked of the pod"}}}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    one = LocalCluster("test-one", STATE / "one")
    one.up()
    archive = STATE / "one" / "opa.tar"
    one.load(archives.single_file_image(archive, IMAGE, opa(), user="1000:1000"))
    yield one
    one.down()


def apply(cluster: LocalCluster, *objects: dict[str, Any]) -> None:
    path = cluster.directory / "test.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    cluster.kubectl("apply", "-f", str(path))


def service(name: str, port: int) -> dict[str, Any]:
    spec = {"selector": {"app": name}, "ports": [{"port": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def opa_container(name: str, *arguments: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": IMAGE, "args": arguments, "securityContext": RESTRICTED, **more}


def everything_of(folder: Path) -> list[str]:
    """What must be gone after ``down``: processes, mounts, links, containers' cgroups."""
    pids = [pid for pid in processes.matching(str(folder)) if str(pid) != os.environ.get("PID")]
    found = [f"process {pid} {processes.program_of(pid)}" for pid in pids]
    found += [
        line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line
    ]
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=False).stdout
    found += [line for line in rules.splitlines() if "KUBE-" in line]
    return found + ([str(folder)] if folder.exists() else [])


def test_a_job_with_a_native_sidecar_completes_and_its_log_is_read(cluster: LocalCluster):
    probe = {
        "httpGet": {"path": "/health", "port": 8181},
        "periodSeconds": 1,
        "failureThreshold": 90,
    }
    sidecar = opa_container(
        "sidecar", "run", "--server", "--addr=:8181", restartPolicy="Always", startupProbe=probe
    )
    query = 'http.send({"method": "get", "url": "http://127.0.0.1:8181/health"}).status_code'
    application = opa_container("app", "eval", "--format=raw", query)
    template = {
        "spec": {"restartPolicy": "Never", "initContainers": [sidecar], "containers": [application]}
    }
    spec = {"backoffLimit": 0, "template": template}
    apply(
        cluster,
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": spec},
    )
    cluster.kubectl("wait", "--for=condition=Complete", "job/job", "--timeout=120s")
    assert cluster.kubectl("logs", "job/job", "-c", "app").stdout.strip() == "200"


def test_a_pod_resolves_and_reaches_services_and_takes_exec(cluster: LocalCluster):
    labels = {"name": "web", "labels": {"app": "web"}}
    web = opa_container("web", "run", "--server", "--addr=:8181")
    apply(
        cluster,
        {"apiVersion": "v1", "kind": "Pod", "metadata": labels, "spec": {"containers": [web]}},
        service("web", 8181),
    )
    cluster.kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=120s")
    targets = {
        "http://web.default.svc.cluster.local:8181/health": 200,
        "http://web.default:8181/health": 200,
        "https://kubernetes.default.svc/version": 200,
    }
    for url, status in targets.items():
        asked = f'http.send({{"method": "get", "url": "{url}", "tls_insecure_skip_verify": true}}).status_code'
        deadline = time.monotonic() + 30  # A Service's rules follow its pod's readiness.
        while True:
            done = cluster.kubectl("exec", "web", "--", "/opa", "eval", "--format=raw", asked)
            if done.stdout.strip() == str(status):
                break
            assert time.monotonic() < deadline, (url, done.stdout)
            time.sleep(0.5)
    address = cluster.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}").stdout
    opened = subprocess.run(
        [sys.executable, "-c", f"import urllib.request as u; print(u.urlopen('http://{address}:8181/health').status)"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert opened.stdout.strip() == "200", "the machine itself reaches Services"


def test_the_api_server_calls_a_webhook_in_a_pod(cluster: LocalCluster, tmp_path: Path):
    name = "hook.default.svc"
    authority = pki.Authority.at(tmp_path, "ca")
    pair = authority.issue(tmp_path, "hook", name=name, addresses=[name])
    files = {
        "tls.crt": pair.certificate.read_text(),
        "tls.key": pair.key.read_text(),
        "policy.rego": POLICY,
    }
    arguments = ["--tls-cert-file=/etc/hook/tls.crt", "--tls-private-key-file=/etc/hook/tls.key"]
    hook = opa_container(
        "hook", "run", "--server", "--addr=:8443", *arguments, "/etc/hook/policy.rego",
        volumeMounts=[{"name": "hook", "mountPath": "/etc/hook"}],
    )  # fmt: skip
    spec = {"containers": [hook], "volumes": [{"name": "hook", "secret": {"secretName": "hook"}}]}
    bundle = base64.b64encode(authority.files.certificate.read_bytes()).decode()
    client = {
        "service": {"name": "hook", "namespace": "default", "port": 8443, "path": "/"},
        "caBundle": bundle,
    }
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "resources": ["configmaps"],
        "operations": ["CREATE"],
    }
    webhook = {
        "name": "hook.sluice.dev", "clientConfig": client, "rules": [rule], "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "objectSelector": {"matchLabels": {"hooked": "yes"}},
    }  # fmt: skip
    apply(
        cluster,
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hook"}, "stringData": files},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hook", "labels": {"app": "hook"}}, "spec": spec},
        service("hook", 8443),
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "hook"}, "webhooks": [webhook],
        },
    )  # fmt: skip
    cluster.kubectl("wait", "--for=condition=Ready", "pod/hook", "--timeout=120s")
    refused = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "x", "labels": {"hooked": "yes"}},
    }
    deadline = time.monotonic() + 60
    while True:
        with pytest.raises(ClusterError) as error:
            apply(cluster, refused)
        if "asked of the pod" in str(error.value):
            return
        assert time.monotonic() < deadline, error.value
        time.sleep(0.5)


def test_up_again_changes_nothing_and_brings_back_what_was_killed(cluster: LocalCluster):
    pid_files = sorted((cluster.directory / "run").glob("*.pid"))
    before = {path.name: path.read_text() for path in pid_files}
    cluster.up()
    assert {path.name: path.read_text() for path in pid_files} == before
    kubelet = int(before["kubelet.pid"].split()[0])
    processes.end(kubelet, signal.SIGKILL)
    assert cluster.status()["kubelet"] == "does not run"
    assert cluster.status()["ready"] == "no"
    cluster.up()
    assert cluster.status()["ready"] == "yes"


def test_commands_killed_half_way_leave_what_up_completes_and_down_removes():
    folder = STATE / "one-two"  # The other cluster's folder begins alike: it must not notice.
    program = f"from sluice_dev.cluster.local import *; LocalCluster('test-two', Path({str(folder)!r})).up()"
    for seconds in (0.4, 1.5, 4.0):
        with subprocess.Popen([sys.executable, "-c", program]) as process:
            time.sleep(seconds)
            process.kill()
    two = LocalCluster("test-two", folder)
    try:
        two.up()
        assert two.status()["ready"] == "yes"
        commands = [path.name for path in (folder / "run").glob("*.pid")]
        assert len(commands) == 9
        assert len([pid for pid in processes.matching(str(folder)) if "kubelet" in line(pid)]) == 2
        with subprocess.Popen(
            [sys.executable, "-c", program.replace(".up()", ".down()")]
        ) as process:
            time.sleep(0.5)
            process.kill()
    finally:
        LocalCluster("test-two", folder).down()
    if (STATE / "one").exists():
        assert LocalCluster("test-one", STATE / "one").status()["ready"] == "yes"
    assert [one for one in everything_of(folder) if "KUBE-" not in one] == []
    assert not any("KUBE-" in one for one in everything_of(folder)), (
        "the machine's own rules are untouched"
    )


def line(pid: int) -> str:
    """Program and its first argument: nsenter and the program it waits for both name the folder."""
    try:
        return " ".join(Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:8])
    except OSError:
        return ""


def test_the_node_whose_first_process_was_killed_comes_back(cluster: LocalCluster):
    holder = int((cluster.directory / "run" / "node.pid").read_text().split()[0])
    processes.end(holder, signal.SIGKILL)
    assert cluster.status()["ready"] == "no"
    cluster.up()
    assert cluster.status()["ready"] == "yes"
    found = json.loads(cluster.kubectl("get", "namespaces", "-o", "json").stdout)
    assert found["items"], "what was stored is still there"
