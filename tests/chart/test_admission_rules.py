"""What the chart brings holds on a real API server: every object is taken, and the guards refuse what they must."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice_dev.cache import ROOT
from sluice_dev.cluster import ApiServer, ApiServerError, programs

CHART = ROOT / "helm" / "sluice"
SYSTEM = "sluice-system"
PROXY, OPA = "example/proxy:1", "example/opa:1"
IMAGES = [
    "--set", "images.proxy.repository=example/proxy", "--set-string", "images.proxy.tag=1",
    "--set", "images.opa.repository=example/opa", "--set-string", "images.opa.tag=1",
]  # fmt: skip


def _render(*more: str) -> list[dict[str, Any]]:
    command = [str(programs.ensure(programs.HELM)), "template", "sluice", str(CHART), "-n", SYSTEM]
    done = subprocess.run(
        [*command, "--kube-version", "1.34.4", *more], capture_output=True, text=True, check=True
    )
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def _pod(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "work"},
        "spec": {"containers": [{"name": "app", "image": "app"}], **spec},
    }


def _governed(name: str, **changes: str) -> dict[str, Any]:
    """A pod as admission makes it, as far as the guards look."""
    proxy = changes.get("proxy", PROXY)
    init = [
        {"name": "sluice-opa", "image": OPA, "restartPolicy": "Always"},
        {"name": "sluice-proxy", "image": proxy, "restartPolicy": "Always"},
    ]
    pod = _pod(name, initContainers=init)
    pod["metadata"]["labels"] = {"sluice.dev/inject": "true"}
    pod["metadata"]["annotations"] = {
        "sluice.dev/injected": "1",
        "sluice.dev/profile": "work/default/0",
    }
    return pod


@pytest.fixture(scope="module")
def api() -> Generator[ApiServer]:
    """An API server with the guards in force."""
    with ApiServer() as server:
        server.create_namespace(SYSTEM)
        server.create_namespace("work")
        server.create_namespace("strict", {"sluice.dev/govern": "required"})
        server.apply(
            [d for d in _render(*IMAGES) if d["kind"].startswith("ValidatingAdmissionPolicy")]
        )
        deadline = time.monotonic() + 30
        while not _refusal(
            server, _pod("early") | {"metadata": {"name": "early", "namespace": "strict"}}
        ):
            assert time.monotonic() < deadline, "the guards do not come into force"
            time.sleep(0.2)
        time.sleep(1)
        yield server


def _refusal(api: ApiServer, document: dict[str, Any], *arguments: str) -> str:
    try:
        api.kubectl(
            *(arguments or ("create", "--dry-run=server", "-f", "-")), stdin=json.dumps(document)
        )
    except ApiServerError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "values", sorted((Path(__file__).parent / "values").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_object_is_taken_by_the_api_server(api: ApiServer, values: Path):
    foreign = ("monitoring.coreos.com/v1", "cert-manager.io/v1")
    documents = [d for d in _render("-f", str(values)) if d["apiVersion"] not in foreign]
    api.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(documents))


def test_labelled_pod_without_its_sidecar_is_refused(api: ApiServer):
    bare = _pod("bare")
    bare["metadata"]["labels"] = {"sluice.dev/inject": "true"}
    assert "Sluice installed and healthy" in _refusal(api, bare)
    assert "Sluice installed and healthy" in _refusal(
        api, _governed("swapped", proxy="evil/proxy:1")
    )
    assert _refusal(api, _governed("sound")) == ""


def test_sidecar_that_would_not_stay_is_refused(api: ApiServer):
    pod = _governed("brief")
    pod["spec"]["initContainers"][1].pop("restartPolicy")
    assert "Sluice installed and healthy" in _refusal(api, pod)
    pod = _governed("reordered")
    pod["spec"]["initContainers"].reverse()
    assert "Sluice installed and healthy" in _refusal(api, pod)


def test_pods_that_did_not_ask_are_left_alone(api: ApiServer):
    assert _refusal(api, _pod("plain")) == ""
    plain = _pod("annotated")
    plain["metadata"]["annotations"] = {"sluice.dev/audit-log": "stdout"}
    assert _refusal(api, plain) == ""


@pytest.mark.parametrize("annotation", ["injected", "profile", "identity", "databases", "digest"])
def test_unlabelled_pod_cannot_carry_what_sluice_writes(api: ApiServer, annotation: str):
    pod = _pod("claimer")
    pod["metadata"]["annotations"] = {f"sluice.dev/{annotation}": "x"}
    assert "only Sluice writes" in _refusal(api, pod)


def test_unlabelled_pod_cannot_carry_our_containers(api: ApiServer):
    assert "named like those of Sluice" in _refusal(
        api, _pod("fake", containers=[{"name": "sluice-proxy", "image": "evil"}])
    )


def test_required_namespace_refuses_unlabelled_pods(api: ApiServer):
    pod = _pod("free")
    pod["metadata"]["namespace"] = "strict"
    assert "sluice.dev/govern=required" in _refusal(api, pod)
    pod = _governed("governed")
    pod["metadata"]["namespace"] = "strict"
    assert _refusal(api, pod) == ""


@pytest.mark.parametrize(
    ("patch", "refused"),
    [
        ({"labels": {"sluice.dev/inject": None}}, "labels under sluice.dev/"),
        ({"labels": {"sluice.dev/inject": "false"}}, "labels under sluice.dev/"),
        ({"labels": {"sluice.dev/other": "x"}}, "labels under sluice.dev/"),
        ({"annotations": {"sluice.dev/profile": "work/admin/1"}}, "annotations under sluice.dev/"),
        ({"annotations": {"sluice.dev/profile": None}}, "annotations under sluice.dev/"),
        ({"labels": {"team": "a"}, "annotations": {"note": "b"}}, ""),
    ],
)
@pytest.mark.parametrize("subresource", [None, "status"])
def test_marks_of_a_live_pod_are_fixed(
    api: ApiServer, patch: dict[str, Any], refused: str, subresource: str | None
):
    api.kubectl("apply", "-f", "-", stdin=json.dumps(_governed("live")))
    command = [
        "-n",
        "work",
        "patch",
        "pod",
        "live",
        "--type=merge",
        "-p",
        json.dumps({"metadata": patch}),
    ]
    if subresource:
        command.append(f"--subresource={subresource}")
    answer = _refusal(api, {}, *command)
    assert (refused in answer) if refused else (answer == "")


def _debug(**fields: Any) -> str:
    return json.dumps(
        {"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox", **fields}]}}
    )


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"targetContainerName": "sluice-proxy"}, True),
        ({"name": "sluice-debug"}, True),
        ({"securityContext": {"runAsUser": 16021}}, True),
        ({"volumeMounts": [{"name": "sluice-run", "mountPath": "/x"}]}, True),
        ({"targetContainerName": "app"}, False),
    ],
)
def test_ephemeral_container_stays_away_from_ours(
    api: ApiServer, fields: dict[str, Any], refused: bool
):
    pod = _governed("debugged")
    pod["spec"]["volumes"] = [{"name": "sluice-run", "emptyDir": {}}]
    api.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    answer = _refusal(
        api, {}, "-n", "work", "patch", "pod", "debugged", "--subresource=ephemeralcontainers",
        "--dry-run=server", "-p", _debug(**fields),
    )  # fmt: skip
    assert ("sluice-*" in answer) == refused, answer


@pytest.mark.parametrize("container", ["sluice-proxy", "sluice-opa", "app"])
def test_nobody_enters_our_containers(api: ApiServer, container: str):
    api.kubectl("apply", "-f", "-", stdin=json.dumps(_governed("entered")))
    answer = _refusal(api, {}, "-n", "work", "exec", "entered", "-c", container, "--", "ls")
    assert answer, "there is no node: it cannot succeed"
    assert ("cannot be entered" in answer) == (container != "app"), answer


def test_bundle_service_writes_its_reports_only(api: ApiServer):
    api.apply(
        [d for d in _render(*IMAGES) if d["kind"] in {"ServiceAccount", "Role", "RoleBinding"}]
    )
    service = api.service_account_kubeconfig(SYSTEM, "sluice-bundles")

    def write(name: str) -> str:
        document = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": SYSTEM},
        }
        try:
            api.kubectl("create", "-f", "-", stdin=json.dumps(document), kubeconfig=service)
        except ApiServerError as error:
            return str(error)
        return ""

    assert write("sluice-report-a") == ""
    assert "may write only" in write("sluice-trust")
    api.kubectl("-n", SYSTEM, "create", "configmap", "sluice-bundle-x")
    with pytest.raises(ApiServerError, match="may write only"):
        api.kubectl("-n", SYSTEM, "delete", "configmap", "sluice-bundle-x", kubeconfig=service)
    api.kubectl("-n", SYSTEM, "delete", "configmap", "sluice-report-a", kubeconfig=service)
