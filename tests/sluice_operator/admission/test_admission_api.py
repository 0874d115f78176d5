"""The webhooks on a real API server: the process with the chart's own rights, called as the chart configures it."""

import base64
import copy
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice_dev.cache import ROOT
from sluice_dev.children import free_port
from sluice_dev.cluster import ApiServer, ApiServerError, programs
from sluice_operator.certificates.authority import Authority

SYSTEM = "sluice-system"
PROXY_IMAGE, OPA_IMAGE = "example/proxy:1", "example/opa:1"
OURS = ["sluice-init", "sluice-opa", "sluice-proxy"]
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def rendered() -> list[dict[str, Any]]:
    command = [
        str(programs.ensure(programs.HELM)),
        *("template", "sluice", str(ROOT / "helm" / "sluice"), "-n", SYSTEM),
        *("--kube-version", "1.34.4", "--include-crds"),
        *("--set", "images.proxy.repository=example/proxy", "--set-string", "images.proxy.tag=1"),
        *("--set", "images.opa.repository=example/opa", "--set-string", "images.opa.tag=1"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def secret(name: str, kind: str, data: dict[str, bytes]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": {"name": name, "namespace": SYSTEM},
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


def trust(name: str = "CA ONE") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "sluice-trust", "namespace": SYSTEM},
        "data": {"ca.pem": name, "keys.json": json.dumps({"k1": "KEY"})},
    }


@dataclass
class Admission:
    """The process as it runs, and how to make it run."""

    api: ApiServer
    authority: Authority
    port: int
    health: int
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        kubeconfig = self.api.service_account_kubeconfig(SYSTEM, "sluice-admission")
        environment = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(kubeconfig),
            "SLUICE_NAMESPACE": SYSTEM,
            "SLUICE_POD_NAME": "sluice-admission-0",
            "SLUICE_PROXY_IMAGE": PROXY_IMAGE,
            "SLUICE_OPA_IMAGE": OPA_IMAGE,
            "SLUICE_LISTEN": f"127.0.0.1:{self.port}",
            "SLUICE_HEALTH": f"127.0.0.1:{self.health}",
            "SLUICE_LEAVE_SECONDS": "0",
        }
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sluice_operator", "admission"],
                env=environment,
                stdout=output,
                stderr=output,
            )

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.health}{path}", timeout=5
            ) as found:
                return found.status, found.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def until(self, right: Any, what: str) -> None:
        deadline = time.monotonic() + 40
        while not right():
            log = self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, f"{what}: {self.get('/readyz')}\n{log}"
            time.sleep(0.05)

    def certificate(self) -> None:
        now = datetime.now(UTC)
        chain, key = self.authority.issue(["127.0.0.1"], now, timedelta(hours=1))
        data = {"tls.crt": chain, "tls.key": key, "ca.crt": self.authority.pem}
        self.api.apply([secret("sluice-admission-tls", "kubernetes.io/tls", data)])

    def configure(self, documents: list[dict[str, Any]]) -> None:
        """The chart's webhook configurations, with an address instead of the Service."""
        bundle = base64.b64encode(self.authority.pem).decode()
        for document in copy.deepcopy(documents):
            for webhook in document["webhooks"]:
                path = webhook["clientConfig"].pop("service")["path"]
                url = f"https://127.0.0.1:{self.port}{path}"
                webhook["clientConfig"] = {"url": url, "caBundle": bundle}
            self.api.apply([document])


@pytest.fixture(scope="module")
def admission(tmp_path_factory) -> Iterator[Admission]:
    """The API server with the chart's objects, and the process in front of it."""
    documents = rendered()
    kinds = {
        "CustomResourceDefinition",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }
    webhooks = [d for d in documents if d["kind"].endswith("WebhookConfiguration")]
    with ApiServer() as api:
        api.create_namespace(SYSTEM)
        for name in ("shop", "billing", "evil"):
            api.create_namespace(name)
        api.create_namespace("support", RESTRICTED)
        api.create_namespace("strict", {"sluice.dev/govern": "required"})
        api.create_namespace("outside", {"sluice.dev/may-claim-external": "true"})
        api.apply([d for d in documents if d["kind"] in kinds])
        authority = Authority.create(datetime.now(UTC), timedelta(days=1))
        log = tmp_path_factory.mktemp("admission") / "log"
        one = Admission(api, authority, free_port(), free_port(), log)
        try:
            one.start()
            one.until(lambda: one.get("/readyz")[0] == 503, "not ready without a certificate")
            one.certificate()
            one.until(lambda: one.get("/readyz")[0] == 200, "ready")
            one.configure(webhooks)
            one.until(lambda: "starting" in refused(api, governed("early", "shop")), "webhook")
            api.apply([trust(), classification("shop", "shop", ["shop-pg"], ["support"])])
            one.until(lambda: accepted(api, governed("ready", "shop")), "first pod")
            yield one
        finally:
            if one.process is not None:
                one.process.kill()
                one.process.wait()


@pytest.fixture
def api(admission) -> ApiServer:
    return admission.api


SAFE = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def plain(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "desk"}},
        "spec": {
            "containers": [{"name": "app", "image": "desk:1", "securityContext": SAFE}],
            **spec,
        },
    }


def governed(name: str, namespace: str = "support", **spec: Any) -> dict[str, Any]:
    pod = plain(name, namespace, **spec)
    pod["metadata"]["labels"]["sluice.dev/inject"] = "true"
    return pod


def classification(
    name: str, namespace: str, hosts: list[str], allowed: list[str] | None = None
) -> dict[str, Any]:
    spec: dict[str, Any] = {"database": {"hosts": hosts, "name": "shop"}}
    if allowed:
        spec["allowedNamespaces"] = allowed
    return {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "DataClassification",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def create(api: ApiServer, value: dict[str, Any], *options: str) -> str:
    return api.kubectl("create", "-f", "-", *options, stdin=json.dumps(value))


def refused(api: ApiServer, value: dict[str, Any], *options: str) -> str:
    """What kubectl says of a refusal; empty when there is none."""
    try:
        create(api, value, *options, "--dry-run=server")
    except ApiServerError as error:
        return str(error)
    return ""


def accepted(api: ApiServer, value: dict[str, Any]) -> bool:
    return not refused(api, value)


def stored(api: ApiServer, value: dict[str, Any]) -> dict[str, Any]:
    metadata = value["metadata"]
    create(api, value)
    return api.get("pod", metadata["name"], "-n", metadata["namespace"])


def patched(api: ApiServer, pod: str, patch: Any, *options: str) -> str:
    """What kubectl says when a pod's change is refused; empty when it is not."""
    try:
        api.kubectl("patch", "pod", pod, "-n", "support", "-p", json.dumps(patch), *options)
    except ApiServerError as error:
        return str(error)
    return ""


def test_pod_of_a_restricted_namespace_is_injected(api):
    """PodSecurity `restricted` takes it, and the validating webhook what the API server made of it."""
    pod = stored(
        api,
        governed(
            "desk", initContainers=[{"name": "migrate", "image": "m", "securityContext": SAFE}]
        ),
    )
    found = [c["name"] for c in pod["spec"]["initContainers"]]
    assert found == [*OURS, "migrate"]
    aliases = {name for a in pod["spec"]["hostAliases"] for name in a["hostnames"]}
    assert aliases == {"shop-pg.shop", "shop-pg.shop.svc", "shop-pg.shop.svc.cluster.local"}
    assert pod["metadata"]["annotations"]["sluice.dev/profile"].startswith("support/default/")


def test_stored_pod_copied_into_a_new_one_is_injected_afresh(api):
    """`kubectl get -o yaml | kubectl create`, with everything that the API server filled in."""
    pod = stored(api, governed("original"))
    copied = {k: pod[k] for k in ("apiVersion", "kind", "spec")}
    metadata = pod["metadata"]
    copied["metadata"] = {k: metadata[k] for k in ("labels", "annotations", "namespace")}
    copied["metadata"]["name"] = "copied"
    again = stored(api, copied)
    assert [c["name"] for c in again["spec"]["initContainers"]] == OURS
    assert again["metadata"]["annotations"] == metadata["annotations"]


def test_limit_range_is_no_tampering_and_the_api_token_is_the_applications(api):
    """Built-in plugins change our containers after us."""
    api.create_namespace("limited")
    limits = [{"type": "Container", "default": {"cpu": "1", "ephemeral-storage": "1Gi"}}]
    api.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "LimitRange",
                "metadata": {"name": "l", "namespace": "limited"},
                "spec": {"limits": limits},
            }
        ]
    )
    pod = stored(api, governed("desk", "limited"))
    proxy = pod["spec"]["initContainers"][2]
    assert proxy["resources"]["limits"]["cpu"] == "1"
    assert "kube-api-access" in json.dumps(pod["spec"]["containers"])
    assert "kube-api-access" not in json.dumps(pod["spec"]["initContainers"])


def test_plain_pod_is_left_alone(api):
    pod = stored(api, plain("plain", "support"))
    assert "initContainers" not in pod["spec"]


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"hostNetwork": True}, "spec.hostNetwork is true"),
        ({"hostPID": True}, "spec.hostPID is true"),
        ({"shareProcessNamespace": True}, "spec.shareProcessNamespace is true"),
        ({"securityContext": {"runAsUser": 16021}}, "runAsUser 16021"),
    ],
)
def test_kubectl_shows_why_a_pod_is_refused(api, spec, why):
    message = refused(api, governed("bad", "shop", **spec))
    assert 'admission webhook "pods.sluice.dev" denied the request' in message
    assert why in message


def test_seven_hostile_pods_are_refused(api):
    fake = {"name": "sluice-proxy", "image": "evil", "restartPolicy": "Always"}
    message = refused(api, governed("h1", "shop", initContainers=[fake]))
    assert "not what Sluice writes" in message
    for volume in (
        "sluice-run",
        "sluice-state",
        "sluice-spool",
        "sluice-token",
        "sluice-catalog-0",
    ):
        pod = governed("h2", "shop")
        pod["spec"]["containers"][0]["volumeMounts"] = [{"name": volume, "mountPath": "/x"}]
        assert f"mounts {volume}" in refused(api, pod)
    good = stored(api, governed("hostile"))
    reordered = copy.deepcopy(good)
    reordered["spec"]["initContainers"].reverse()
    reordered["metadata"] = {
        "name": "h3",
        "namespace": "support",
        "labels": good["metadata"]["labels"],
        "annotations": good["metadata"]["annotations"],
    }
    assert "not what Sluice writes" in refused(api, reordered)
    image = {"spec": {"initContainers": [{"name": "sluice-proxy", "image": "evil"}]}}
    assert "the container sluice-proxy must not change (image)" in patched(api, "hostile", image)
    tiny = {"resources": {"limits": {"memory": "1M"}, "requests": {"memory": "1M", "cpu": "1m"}}}
    size = {"spec": {"initContainers": [{"name": "sluice-proxy", **tiny}]}}
    assert "must not change" in patched(api, "hostile", size, "--subresource=resize")
    debug = {
        "spec": {
            "ephemeralContainers": [
                {"name": "d", "image": "busybox", "targetContainerName": "sluice-proxy"}
            ]
        }
    }
    message = patched(api, "hostile", debug, "--subresource=ephemeralcontainers")
    assert "sluice-proxy" in message


def test_later_webhook_that_strips_our_environment_is_found_out(api, admission, tmp_path):
    """A mutating webhook of somebody else, after ours, whose change comes back to us."""
    with thief(admission, tmp_path, "strip") as configuration:
        api.apply([configuration])
        try:
            pod = governed("stripped", "evil")
            admission.until(lambda: refused(api, pod) != "", "the other webhook")
            assert "not what Sluice writes (container sluice-init: env" in refused(api, pod)
        finally:
            api.kubectl("delete", "mutatingwebhookconfiguration", "thief")


def test_later_webhook_that_adds_its_own_leaves_ours_in_front(api, admission, tmp_path):
    """As a mesh does it: a label and an init container in front; we are asked again and follow."""
    with thief(admission, tmp_path, "add") as configuration:
        api.apply([configuration])
        try:
            pod = governed("meshed", "evil")

            def meshed() -> str:
                return create(api, pod, "--dry-run=server", "-o", "json")

            admission.until(lambda: '"mesh"' in meshed(), "the other webhook")
            found = json.loads(meshed())
        finally:
            api.kubectl("delete", "mutatingwebhookconfiguration", "thief")
    assert [c["name"] for c in found["spec"]["initContainers"]] == [*OURS, "mesh"]
    identity = json.loads(found["metadata"]["annotations"]["sluice.dev/identity"])
    assert identity["labels"]["mesh"] == "on"


THIEF = """
import base64, json, ssl, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        containers = review["request"]["object"]["spec"].get("initContainers", [])
        if sys.argv[3] == "strip":
            patch = [{"op": "remove", "path": f"/spec/initContainers/{n}/env"}
                     for n, c in enumerate(containers) if c["name"].startswith("sluice-") and "env" in c]
        elif containers and not any(c["name"] == "mesh" for c in containers):
            patch = [{"op": "add", "path": "/metadata/labels/mesh", "value": "on"},
                     {"op": "add", "path": "/spec/initContainers/0", "value": {"name": "mesh", "image": "m"}}]
        else:
            patch = []
        answer = {"uid": review["request"]["uid"], "allowed": True, "patchType": "JSONPatch",
                  "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
        body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                           "response": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2])
server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


class thief:  # noqa: N801
    """The other webhook while it is entered."""

    def __init__(self, admission: Admission, folder: Path, what: str) -> None:
        now = datetime.now(UTC)
        chain, key = admission.authority.issue(["127.0.0.1"], now, timedelta(hours=1))
        pair = folder / "pair.pem"
        pair.write_bytes(key + b"\n" + chain)
        self.port = free_port()
        self.command = [sys.executable, "-c", THIEF, str(self.port), str(pair), what]
        self.bundle = base64.b64encode(admission.authority.pem).decode()

    def __enter__(self) -> dict[str, Any]:
        self.process = subprocess.Popen(self.command)
        webhook = {
            "name": "thief.example.com",
            "clientConfig": {"url": f"https://127.0.0.1:{self.port}/", "caBundle": self.bundle},
            "rules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "resources": ["pods"],
                    "operations": ["CREATE"],
                }
            ],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "evil"}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "failurePolicy": "Ignore",
        }
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "thief"},
            "webhooks": [webhook],
        }

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def test_application_of_a_governed_pod_may_change(api):
    stored(api, governed("living"))
    image = {"spec": {"containers": [{"name": "app", "image": "desk:2"}]}}
    assert patched(api, "living", image) == ""
    assert patched(api, "living", {"metadata": {"labels": {"tier": "gold"}}}) == ""
    label = patched(api, "living", {"metadata": {"labels": {"sluice.dev/inject": "false"}}})
    assert "sluice.dev/" in label
    profile = {"metadata": {"annotations": {"sluice.dev/profile": "support/other/0"}}}
    assert "sluice.dev/" in patched(api, "living", profile)


def test_label_after_creation_is_refused(api):
    stored(api, plain("late", "support"))
    message = patched(api, "late", {"metadata": {"labels": {"sluice.dev/inject": "true"}}})
    assert "sluice.dev/" in message


def test_unlabelled_pod_where_governing_is_required_is_refused(api):
    message = refused(api, plain("free", "strict"))
    assert "sluice.dev/inject" in message
    assert accepted(api, governed("bound", "strict"))


def test_wrong_policy_is_refused_with_the_path(api):
    policy = {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "DatabaseAccessPolicy",
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"rowFilters": [{"table": "public.orders", "where": "1=1) OR ("}]},
    }
    message = refused(api, policy)
    assert 'admission webhook "resources.sluice.dev" denied the request' in message
    assert "spec.rowFilters[0].where: not an SQL expression" in message


def test_second_claim_is_refused_and_names_the_owner(api):
    thief_of_shop = classification("mine", "outside", ["shop-pg.shop.svc"])
    message = refused(api, thief_of_shop)
    assert "belongs to DataClassification shop/shop" in message


def test_host_of_another_namespace_needs_the_label(api):
    message = refused(api, classification("mine", "evil", ["other-pg.billing.svc"]))
    assert "is no Service of the namespace evil" in message
    assert accepted(api, classification("mine", "outside", ["other-pg.billing.svc"]))


def warnings(api: ApiServer, value: dict[str, Any]) -> str:
    """What kubectl warns of."""
    command = [
        *programs.kubectl_command(),
        f"--kubeconfig={api.kubeconfig}",
        *("create", "--dry-run=server", "-f", "-"),
    ]
    text = json.dumps(value)
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return done.stderr


def test_warnings_reach_whoever_applies(api):
    told = warnings(api, classification("open", "billing", ["pg"]))
    assert "Warning: spec.database.catalogSecretRef is not set" in told


def workload(kind: str, pod: dict[str, Any]) -> dict[str, Any]:
    template = {"metadata": {"labels": pod["metadata"]["labels"]}, "spec": pod["spec"]}
    version = "apps/v1" if kind == "Deployment" else "batch/v1"
    spec: dict[str, Any] = {"template": template}
    if kind == "Deployment":
        spec["selector"] = {"matchLabels": {"app": "desk"}}
    else:
        template["spec"]["restartPolicy"] = "Never"
    if kind == "CronJob":
        spec = {"schedule": "@daily", "jobTemplate": {"spec": spec}}
    metadata = {"name": "w", "namespace": pod["metadata"]["namespace"]}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("kind", ["Deployment", "Job", "CronJob"])
def test_workload_whose_pods_will_be_refused_is_warned_of(api, kind):
    told = warnings(api, workload(kind, governed("x", "shop", hostNetwork=True)))
    assert f"Warning: pods of this {kind} will be refused: " in told
    assert "spec.hostNetwork is true" in told
    assert "Sluice" not in warnings(api, workload(kind, plain("x", "shop", hostNetwork=True)))
    assert "refused" not in warnings(api, workload(kind, governed("x", "shop")))


def test_label_in_the_wrong_place_is_warned_of(api):
    value = workload("Deployment", plain("x", "shop"))
    value["metadata"]["labels"] = {"sluice.dev/inject": "true"}
    assert "is on the Deployment and not on its pod template" in warnings(api, value)


def test_status_and_deletion_are_never_blocked(api, admission):
    create(api, classification("gone", "billing", ["gone-pg"]))
    admission.stop()
    try:
        api.kubectl(
            *("patch", "dcl", "gone", "-n", "billing", "--subresource=status", "--type=merge"),
            *("-p", json.dumps({"status": {"observedGeneration": 1}})),
        )
        api.kubectl("label", "dcl", "gone", "-n", "billing", "env=test")
        assert "failed calling webhook" in refused(api, governed("away", "shop"))
        assert patched(api, "desk", {"metadata": {"finalizers": None}}) == ""
        api.kubectl("delete", "dcl", "gone", "-n", "billing")
    finally:
        admission.start()
        admission.until(lambda: admission.get("/readyz")[0] == 200, "ready again")
    admission.until(lambda: accepted(api, governed("back", "shop")), "pods again")


def test_certificate_is_taken_up_without_a_restart(api, admission):
    assert admission.process is not None
    first = admission.process.pid
    count = admission.log.read_text().count("certificate in use")
    admission.certificate()
    admission.until(
        lambda: admission.log.read_text().count("certificate in use") > count, "new certificate"
    )
    assert accepted(api, governed("renewed", "shop"))
    assert admission.process.pid == first


def test_new_trust_is_in_the_next_pod(api, admission):
    api.apply([trust("CA TWO")])

    def current() -> bool:
        text = create(api, governed("trusting", "shop"), "--dry-run=server", "-o", "json")
        return "CA TWO" in text

    admission.until(current, "new trust")


def test_process_may_read_what_it_must_and_nothing_else(api):
    kubeconfig = api.service_account_kubeconfig(SYSTEM, "sluice-admission")

    def may(*what: str) -> bool:
        try:
            api.kubectl("auth", "can-i", *what, kubeconfig=kubeconfig)
        except ApiServerError:
            return False
        return True

    assert may("get", "secrets/sluice-admission-tls", "-n", SYSTEM)
    assert not may("get", "secrets/sluice-signing", "-n", SYSTEM)
    assert not may("list", "secrets", "-A")
    assert not may("create", "configmaps", "-n", SYSTEM)
    assert not may("get", "pods", "-A")


def posted(admission: Admission, path: str, body: bytes) -> int:
    context = ssl.create_default_context(cadata=admission.authority.pem.decode())
    connection = http.client.HTTPSConnection("127.0.0.1", admission.port, context=context)
    try:
        connection.request("POST", path, body)
        return connection.getresponse().status
    except (ConnectionError, ssl.SSLError):
        return 413  # It hung up before it had read all of it.
    finally:
        connection.close()


def test_what_no_api_server_sends_is_turned_away(admission):
    assert posted(admission, "/mutate/pods", b"{}") == 400
    assert posted(admission, "/mutate/pods", b"[" * 100_000) == 400
    assert posted(admission, "/validate/resources", b" " * (9 << 20)) == 413
    assert posted(admission, "/elsewhere", b"{}") == 404


def test_metrics_count_reviews_and_their_time(api, admission):
    assert refused(api, governed("counted", "shop", hostPID=True))
    assert accepted(api, governed("counted", "shop"))
    status, text = admission.get("/metrics")
    assert status == 200
    assert 'sluice_admission_reviews_total{answer="refused",webhook="mutate-pods"}' in text
    assert 'sluice_admission_seconds_count{webhook="validate-pods"}' in text
