"""The library as a whole: strict, formatted, tested, and sealed behind its authorization policy."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

REGO = Path(__file__).resolve().parents[3] / "policy" / "rego"
AUTHORIZATION = REGO / "authz" / "system_authz.rego"

DATA = {
    "contract": 1,
    "profile": "p",
    "databases": {
        "shop/shop": {
            "state": "active",
            "enforcement": "enforce",
            "allowed": True,
            "columns": [],
            "unreviewed": "allow",
            "trusted": {"functions": [], "channels": []},
        }
    },
    "policies": [
        {
            "name": "shop/steward",
            "mode": "enforce",
            "databases": ["shop/shop"],
            "rules": [{"name": "all", "effect": "allow"}],
            "masks": [],
            "row_filters": [],
            "guardrails": {},
            "write_oracles": {},
        }
    ],
}
MANIFEST = {
    "revision": "content-hash",
    "roots": ["sluice", "sluice_data"],
    "metadata": {"contract": 1, "sequence": 12},
}
QUESTION = {
    "contract": 1,
    "identity": {
        "workload": {
            "namespace": "support",
            "service_account": "desk",
            "pod": None,
            "labels": {},
            "assurance": "asserted",
        },
        "actor": None,
    },
    "clock": {"now_ns": 1795428000000000000, "trusted": True},
    "session": {"database": "shop/shop", "role": "app", "search_path": []},
    "statement": {
        "kind": "select",
        "actions": ["select"],
        "tables": [],
        "functions": [],
        "unfiltered_write": False,
        "limit": None,
        "write_oracles": [],
    },
}


def run_opa(opa: Path, *arguments: str) -> str:
    done = subprocess.run([opa, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_library_is_strict_and_formatted(opa: Path) -> None:
    run_opa(opa, "check", "--strict", str(REGO))
    assert run_opa(opa, "fmt", "--list", str(REGO)) == ""


def test_rego_tests_pass_with_coverage(opa: Path) -> None:
    # Fails with the failing cases; the timeout is for each, on a busy machine.
    report = json.loads(run_opa(opa, "test", "--coverage", "--timeout", "60s", str(REGO)))
    assert report["coverage"] >= 95
    uncovered = {
        path: found.get("not_covered")
        for path, found in report["files"].items()
        if not path.endswith("_test.rego") and found.get("coverage", 0) < 95
    }
    assert uncovered == {}


@pytest.fixture
def sealed(start_opa: Any, opa: Path, modules: list[Path], tmp_path: Path) -> Any:
    """OPA as a sidecar runs it: a local bundle, authorization beside it."""
    content = tmp_path / "content"
    (content / "sluice").mkdir(parents=True)
    for module in modules:
        (content / "sluice" / module.name).write_text(module.read_text())
    (content / "data.json").write_text(json.dumps({"sluice_data": DATA}))
    (content / ".manifest").write_text(json.dumps(MANIFEST))
    bundle = tmp_path / "bundle.tar.gz"
    run_opa(opa, "build", "--bundle", str(content), "--output", str(bundle))
    config = tmp_path / "opa.json"
    config.write_text(json.dumps({"bundles": {"sluice": {"resource": f"file://{bundle}"}}}))
    server = start_opa(
        ["--config-file", str(config), "--authorization", "basic", str(AUTHORIZATION)],
    )
    server.wait_until_ready("/health")
    return server


ENTRY_POINTS = ["/v1/data/sluice/session/decision", "/v1/data/sluice/statement/decision"]


def wait_for_bundle(server: Any) -> None:
    for _ in range(100):
        status, body = server.request("POST", ENTRY_POINTS[0], json.dumps({"input": {}}).encode())
        if status == 200 and "result" in json.loads(body):
            return
    pytest.fail("the bundle was not activated")


def test_sealed_opa_answers_its_entry_points(sealed: Any) -> None:
    wait_for_bundle(sealed)
    for path in ENTRY_POINTS:
        answer = sealed.ask(path, QUESTION)
        assert answer["allow"] is True
        assert (answer["revision"], answer["sequence"]) == ("content-hash", 12)


REFUSED = [
    ("GET", "/v1/data"),
    ("GET", "/v1/data/sluice_data"),
    ("GET", "/v1/data/system"),
    ("PUT", "/v1/data/sluice_data"),
    ("PATCH", "/v1/data"),
    ("DELETE", "/v1/data/sluice_data"),
    ("POST", "/v1/data"),
    ("POST", "/v1/data/"),
    ("POST", "/v1/data/sluice"),
    ("POST", "/v1/data/sluice/session"),
    ("POST", "/v1/data/sluice/scope/database"),
    ("PUT", "/v1/data/sluice/session/decision"),
    ("GET", "/v1/data/sluice/session/decision"),
    ("DELETE", "/v1/data/sluice/session/decision"),
    ("POST", "/v1/data/sluice/session/decision/allow"),
    ("POST", "/v1/data/sluice/session/decision/"),
    ("POST", "/v1/data/sluice/session/decision?explain=full"),
    ("POST", "/v1/data/sluice/session/decision?metrics=true"),
    ("POST", "/v1/data/sluice%2Fsession/decision"),
    ("GET", "/v1/policies"),
    ("PUT", "/v1/policies/mine"),
    ("DELETE", "/v1/policies/sluice"),
    ("POST", "/v1/query"),
    ("GET", "/v1/query?q=data"),
    ("POST", "/v1/compile"),
    ("POST", "/v1/compile/sluice/session/decision"),
    ("POST", "/"),
    ("GET", "/"),
    ("POST", "/v0/data/sluice/session/decision"),
    ("POST", "/v0/data"),
    ("GET", "/v1/config"),
    ("GET", "/v1/status"),
    ("GET", "/metrics"),
    ("GET", "/debug/pprof/"),
    ("GET", "/health/live"),
    ("POST", "/health"),
]


def test_sealed_opa_refuses_everything_else(sealed: Any) -> None:
    wait_for_bundle(sealed)
    body = json.dumps({"input": QUESTION}).encode()
    admitted = [
        (method, path)
        for method, path in REFUSED
        if sealed.request(method, path, body)[0] not in {401, 403, 404, 405, 301}
    ]
    assert admitted == []
    assert sealed.ask(ENTRY_POINTS[0], QUESTION)["sequence"] == 12


def test_paths_that_climb_reach_only_what_they_name(sealed: Any) -> None:
    wait_for_bundle(sealed)
    for path in ("/v1/data/sluice/session/../../sluice_data", "//v1/data", "/v1//data/sluice_data"):
        status, body = sealed.request("POST", path, b"{}")
        assert status != 200, (path, body)
