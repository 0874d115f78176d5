"""The chart renders what a cluster takes, refuses values it does not know, and grants no more than it says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice_dev.cache import ROOT
from sluice_dev.cluster import programs

CHART = ROOT / "helm" / "sluice"
VALUES = [None, *sorted((Path(__file__).parent / "values").glob("*.yaml"))]
NAMESPACE = "sluice-system"


def _helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(programs.ensure(programs.HELM)), *arguments], capture_output=True, text=True
    )


def _render(values: Path | None, *more: str) -> list[dict[str, Any]]:
    files = ["-f", str(values)] if values else []
    done = _helm(
        "template", "sluice", str(CHART), "-n", NAMESPACE, "--kube-version", "1.34.4", *files, *more
    )
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def _named(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    return next(d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name)


def _pod_specs(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every pod that the chart brings, its test too."""
    return [
        d["spec"]["template"]["spec"] if d["kind"] == "Deployment" else d["spec"]
        for d in documents
        if d["kind"] in {"Deployment", "Pod"}
    ]


def _name(path: Path | None) -> str:
    return path.stem if path else "defaults"


@pytest.fixture(scope="module", params=VALUES, ids=_name)
def rendered(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return _render(request.param)


@pytest.mark.parametrize("values", VALUES, ids=_name)
def test_lint_finds_nothing(values: Path | None):
    files = ["-f", str(values)] if values else []
    done = _helm("lint", str(CHART), "--strict", *files)
    assert done.returncode == 0, done.stdout + done.stderr


def test_definitions_are_those_of_the_models():
    for manifest in (ROOT / "crds" / "manifests").glob("*.yaml"):
        copy = CHART / "files" / "crds" / manifest.name
        assert copy.read_text() == manifest.read_text(), f"cp {manifest} {copy}"
        wanted = yaml.safe_load(manifest.read_text())
        made = _named(_render(None), "CustomResourceDefinition", wanted["metadata"]["name"])
        assert made["spec"] == wanted["spec"]
        assert made["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_policy_age_reaches_the_controller_down_to_seconds():
    documents = _render(None, "--set", "policies.ageSecondsMax=8")
    (container,) = _named(documents, "Deployment", "sluice-controller")["spec"]["template"]["spec"][
        "containers"
    ]
    given = {one["name"]: one.get("value") for one in container["env"]}
    assert given["SLUICE_POLICY_AGE_SECONDS_MAX"] == "8"
    # As the controller itself: an age that it does not take is refused here already.
    refused = _helm("template", "sluice", str(CHART), "--set", "policies.ageSecondsMax=7")
    assert "ageSecondsMax" in refused.stderr


def test_definitions_and_guards_are_kept_by_value_only():
    small = _render(Path(__file__).parent / "values" / "small.yaml")
    for document in small:
        assert "helm.sh/resource-policy" not in document["metadata"].get("annotations", {})


@pytest.mark.parametrize(
    "wrong",
    [
        "controler.replicas=3",
        "admission.replicas=0",
        "logLevel=loud",
        "images.proxy.digest=latest",
        "certificates.mode=none",
        "certificates.mode=cert-manager",
        "sidecar.spoolBytesMax=many",
        "networkPolicy.apiServerPorts[0]=70000",
        "guards.enabled=perhaps",
    ],
)
def test_wrong_values_are_refused(wrong: str):
    done = _helm("template", "sluice", str(CHART), "--kube-version", "1.34.4", "--set", wrong)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr, done.stderr


def _undocumented(schema: dict[str, Any], path: str = "") -> list[str]:
    found: list[str] = []
    for name, child in schema.get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        if not child.get("description"):
            found.append(here)
        if child.get("properties") and child.get("additionalProperties") is not False:
            found.append(f"{here} takes anything")
        found += _undocumented(child, here)
    return found


def _unknown(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> list[str]:
    found: list[str] = []
    for name, value in values.items():
        child = schema.get("properties", {}).get(name)
        if child is None:
            found.append(f"{path}.{name}".lstrip("."))
        elif "properties" in child:
            found += _unknown(value, child, f"{path}.{name}")
    return found


def test_every_value_is_described():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert _undocumented(schema) == []
    assert _unknown(values, schema) == []


def test_pods_fit_pod_security_restricted(rendered: list[dict[str, Any]]):
    specs = _pod_specs(rendered)
    assert len(specs) == 4
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for one in spec["containers"]:
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_images_follow_registry_and_digest():
    documents = _render(Path(__file__).parent / "values" / "production.yaml")
    admission = _named(documents, "Deployment", "sluice-admission")["spec"]["template"]["spec"]
    one = admission["containers"][0]
    assert one["image"] == f"registry.example/mirror/sluice-dev/sluice-operator@sha256:{'a' * 64}"
    environment = {e["name"]: e.get("value") for e in one["env"]}
    assert (
        environment["SLUICE_OPA_IMAGE"]
        == f"registry.example/mirror/openpolicyagent/opa@sha256:{'c' * 64}"
    )
    assert admission["imagePullSecrets"] == [{"name": "registry"}]
    guard = _named(documents, "ValidatingAdmissionPolicy", "sluice-injected")
    assert environment["SLUICE_PROXY_IMAGE"] in guard["spec"]["validations"][0]["expression"]


def test_no_secret_and_no_ca_is_in_any_template(rendered: list[dict[str, Any]]):
    assert [d for d in rendered if d["kind"] == "Secret"] == []
    assert "caBundle" not in json.dumps(rendered)


def test_webhooks_fail_closed_and_look_at_no_system_namespace(rendered: list[dict[str, Any]]):
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        for hook in _named(rendered, kind, "sluice")["webhooks"]:
            # What only warns must not stop a Deployment while Sluice is away.
            warns = hook["name"] == "templates.sluice.dev"
            assert hook["failurePolicy"] == ("Ignore" if warns else "Fail")
            assert hook["sideEffects"] == "None"
            assert hook["timeoutSeconds"] <= 5
            if hook["name"].endswith("pods.sluice.dev"):
                selector = hook["namespaceSelector"]["matchExpressions"][0]
                assert {"kube-system", NAMESPACE} <= set(selector["values"])
                assert hook["objectSelector"]["matchExpressions"][0]["key"] == "sluice.dev/inject"
            else:
                operations = {o for rule in hook["rules"] for o in rule["operations"]}
                assert operations == {"CREATE", "UPDATE"}, (
                    "a namespace must be deletable while Sluice is away"
                )


def _rules(documents: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{d['kind']} {d['metadata']['name']}", rule)
        for d in documents
        if d["kind"] in {"Role", "ClusterRole"}
        for rule in d["rules"]
    ]


def test_no_role_reads_secrets_of_the_cluster_or_takes_wildcards(rendered: list[dict[str, Any]]):
    for role, rule in _rules(rendered):
        assert "*" not in (*rule["verbs"], *rule["resources"], *rule["apiGroups"]), role
        if "secrets" in rule["resources"]:
            assert role.startswith("Role "), f"{role} reads Secrets cluster-wide"
            assert rule.get("resourceNames") or rule["verbs"] == ["create"], role
        for dangerous in ("pods/exec", "serviceaccounts/token", "roles", "clusterroles", "nodes"):
            assert dangerous not in rule["resources"], role
        assert not {"impersonate", "bind", "escalate"} & set(rule["verbs"]), role


def test_people_get_nothing_by_aggregation(rendered: list[dict[str, Any]]):
    for document in rendered:
        for label in document["metadata"].get("labels", {}):
            assert not label.startswith("rbac.authorization.k8s.io/aggregate-to-"), document[
                "metadata"
            ]


def test_every_object_has_the_usual_labels(rendered: list[dict[str, Any]]):
    for document in rendered:
        labels = document["metadata"]["labels"]
        for name in ("name", "instance", "managed-by", "part-of", "version"):
            assert labels[f"app.kubernetes.io/{name}"], document["metadata"]["name"]
        assert labels["helm.sh/chart"].startswith("sluice-")


def test_disruption_budgets_are_for_more_than_one_replica():
    small = _render(Path(__file__).parent / "values" / "small.yaml")
    assert [d for d in small if d["kind"] == "PodDisruptionBudget"] == []
    assert len([d for d in _render(None) if d["kind"] == "PodDisruptionBudget"]) == 3


def test_notes_say_what_to_do_next():
    done = _helm("install", "sluice", str(CHART), "-n", NAMESPACE, "--dry-run=client")
    # Without a cluster helm renders no notes; the template itself is what counts then.
    text = (CHART / "templates" / "NOTES.txt").read_text() if done.returncode else done.stdout
    for word in (
        "helm test",
        "sluice.dev/inject",
        "kubectl apply",
        "FailedCreate",
        "StatementDenied",
    ):
        assert word in text


def test_what_cert_manager_issues_is_read_by_the_controller_only():
    documents = _render(
        None, "--set", "certificates.mode=cert-manager,certificates.certManager.issuerRef.name=ca"
    )
    issued = {d["spec"]["secretName"] for d in documents if d["kind"] == "Certificate"}
    assert issued == {"sluice-admission-issued", "sluice-bundles-issued"}
    readers = {
        (d["metadata"]["name"], tuple(rule["verbs"]))
        for d in documents
        if d["kind"] in {"Role", "ClusterRole"}
        for rule in d["rules"]
        if issued & set(rule.get("resourceNames", ()))
    }
    assert readers == {("sluice-controller", ("get",))}
    webhooks = [d for d in documents if d["kind"].endswith("WebhookConfiguration")]
    assert webhooks
    assert all("annotations" not in d["metadata"] for d in webhooks)
