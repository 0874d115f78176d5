"""The line that starts OPA in a pod is the sidecar's own, and its probes are answered."""

import contextlib
import http.client
import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from sluice_operator.admission.model import Trust
from sluice_operator.admission.opa import authorization_policy, opa_arguments
from sluice_policy import SigningKey
from sluice_proxy import opa_files

DIAGNOSTIC = "--diagnostic-addr=0.0.0.0:15282"
KEYS = [SigningKey.generate() for _ in range(2)]
TRUST = Trust("", {key.key_id: key.public_pem for key in KEYS})


def test_arguments_are_what_the_sidecar_gives_and_an_address_for_probes():
    of_the_sidecar = opa_files.opa_arguments(Path("/run/sluice"))
    plain = [a for a in opa_arguments(TRUST) if not a.startswith("--set=")]
    assert [a for a in plain[:-1] if a != DIAGNOSTIC] == of_the_sidecar[:-2]
    assert DIAGNOSTIC in plain
    assert plain[-1] == "/etc/sluice/opa/authz.rego"


def test_authorization_is_the_sidecars_own():
    lines = opa_files.authorization_policy().decode().splitlines()
    assert authorization_policy().splitlines() == [x for x in lines if x and x[0] != "#"]


@pytest.mark.parametrize("keys", [1, 2])
def test_opa_reads_from_its_arguments_what_the_sidecar_would_write(opa, tmp_path, keys):
    """OPA itself tells: its configuration from arguments is that of the sidecar's file."""
    trust = Trust("", dict(list(TRUST.keys.items())[:keys]))
    known = {name: {"algorithm": "ES256", "key": pem.rstrip()} for name, pem in trust.keys.items()}
    written = opa_files.opa_document(Path("/run/sluice"), "https://127.0.0.1:15280", trust.keys)
    written["keys"] = known
    settings = [a for a in opa_arguments(trust) if a.startswith("--set=")]
    seen = _configuration(opa, tmp_path, settings)
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert seen == _configuration(opa, tmp_path, [f"--config-file={tmp_path}/config.json"])
    assert set(seen["keys"]) == set(known)
    assert seen["bundles"]["sluice"]["signing"]["keyid"] == (next(iter(known)) if keys == 1 else "")


def _configuration(opa: Path, folder: Path, arguments: list[str]) -> dict[str, Any]:
    """Return the configuration that a real OPA says it works by."""
    path = folder / "config.sock"
    command = [str(opa), "run", "--server", f"--addr=unix://{path}", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
                client.connect(str(path))
                client.sendall(b"GET /v1/config HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(65536), b""))
                found = json.loads(answer.partition(b"\r\n\r\n")[2])["result"]
                found["labels"].pop("id")
                return found
            time.sleep(0.05)
        raise AssertionError("OPA does not answer")
    finally:
        process.kill()
        process.wait()
        path.unlink(missing_ok=True)


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
    (tmp_path / "authz.rego").write_text(authorization_policy())
    arguments = [
        a.replace("/run/sluice", str(tmp_path))
        .replace("/etc/sluice/opa", str(tmp_path))
        .replace("0.0.0.0:15282", f"127.0.0.1:{port}")
        for a in opa_arguments(TRUST)
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
