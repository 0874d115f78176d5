"""The API server that tests stand on does what a cluster's does, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sluice_dev.cluster import ApiServer, ApiServerError


def review(server: ApiServer, token: str, audience: str) -> dict[str, object]:
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [audience]},
    }
    answer = server.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(asked))
    return json.loads(answer)["status"]


def test_version_is_the_pinned_one(api_server: ApiServer):
    assert json.loads(api_server.kubectl("version", "-o", "json"))["serverVersion"]["minor"] == "34"


def test_service_account_tokens_are_issued_for_an_audience_and_a_pod(api_server: ApiServer):
    api_server.create_namespace("tokens")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "namespace": "tokens"},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    }
    api_server.apply([pod])
    token = api_server.token("tokens", "default", audience="sluice", pod="one")
    good = review(api_server, token, "sluice")
    assert good["authenticated"] is True
    assert "system:serviceaccount:tokens:default" in json.dumps(good)
    assert '"one"' in json.dumps(good)
    assert review(api_server, token, "other").get("authenticated") is None
    api_server.kubectl("delete", "pod", "one", "-n", "tokens", "--grace-period=0", "--force")
    deadline = time.monotonic() + 30
    while review(api_server, token, "sluice").get("authenticated"):
        assert time.monotonic() < deadline, "a deleted pod's token is still good"
        time.sleep(0.5)


def test_a_user_without_roles_is_refused(api_server: ApiServer):
    nobody = api_server.user_kubeconfig("nobody")
    with pytest.raises(ApiServerError, match='User "nobody" cannot list'):
        api_server.kubectl("get", "secrets", kubeconfig=nobody)


def test_objects_outlive_a_halt_of_the_api_server():
    with ApiServer() as server:
        server.create_namespace("kept")
        server.halt()
        with pytest.raises(ApiServerError):
            server.kubectl("get", "namespace", "kept", "--request-timeout=2s")
        server.resume()
        assert server.get("namespace", "kept")["metadata"]["name"] == "kept"


def test_nothing_is_left_when_its_program_is_killed(tmp_path: Path):
    program = (
        "import sys, time; from sluice_dev.cluster import ApiServer; server = ApiServer();"
        "print(*[one.pid for one in server._running.values()], flush=True); time.sleep(100)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        process.kill()
    assert len(pids) == 2
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/cmdline").exists() and _alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
