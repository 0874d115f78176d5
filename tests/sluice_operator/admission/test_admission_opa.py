"""The line that starts OPA in a pod is the sidecar's own, and its probes are answered."""

import http.client
import socket
import subprocess
import time
from pathlib import Path

import pytest

from sluice_operator.admission.containers import OPA_ARGUMENTS
from sluice_proxy.opa_files import authorization_policy, opa_arguments

DIAGNOSTIC = "--diagnostic-addr=0.0.0.0:15282"


def test_arguments_are_what_the_sidecar_gives_and_an_address_for_probes():
    of_the_sidecar = opa_arguments(Path("/run/sluice"))
    assert [a for a in OPA_ARGUMENTS if a != DIAGNOSTIC] == of_the_sidecar
    assert DIAGNOSTIC in OPA_ARGUMENTS


def answer(url: str, method: str = "GET", body: bytes | None = None) -> int:
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=5)
    try:
        connection.request(method, f"/{path}", body)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture
def diagnostic_url(opa, tmp_path):
    """A real OPA with the arguments of the pod, in another folder and on another port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "authz.rego").write_bytes(authorization_policy())
    (tmp_path / "config.json").write_text("{}")
    arguments = [
        a.replace("/run/sluice", str(tmp_path)).replace("0.0.0.0:15282", f"127.0.0.1:{port}")
        for a in OPA_ARGUMENTS
    ]
    process = subprocess.Popen([str(opa), *arguments], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                answer(f"http://127.0.0.1:{port}/health")
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_probe_is_answered_where_nothing_else_is(diagnostic_url):
    assert answer(f"{diagnostic_url}/health") == 200
    for path in ("/v1/data", "/v1/policies", "/metrics", "/v1/config", "/debug/pprof"):
        assert answer(f"{diagnostic_url}{path}") in (401, 404), path
    put = answer(f"{diagnostic_url}/v1/data/x", "PUT", b"{}")
    assert put in (401, 404)
