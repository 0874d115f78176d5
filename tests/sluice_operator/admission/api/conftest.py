"""The webhooks on a real API server: the process with the chart's own rights, called as the chart configures it."""

import base64
import copy
import json
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from sluice_dev.cache import ROOT
from sluice_dev.cluster import ApiServer, ApiServerError, programs
from sluice_dev.operators import OperatorProcess
from sluice_operator.certificates.authority import Authority

SYSTEM = "sluice-system"
PROXY_IMAGE, OPA_IMAGE = "example/proxy:1", "example/opa:1"
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


SAFE = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


class Api:
    """The API server as a user of kubectl meets it, and what is given to it."""

    SYSTEM = SYSTEM
    OURS: ClassVar = ["sluice-opa", "sluice-proxy"]
    SAFE = SAFE

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.kubectl = server.kubectl
        self.apply = server.apply
        self.get = server.get
        self.create_namespace = server.create_namespace

    @classmethod
    def plain(cls, name: str, namespace: str, **spec: Any) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": "desk"}},
            "spec": {
                "containers": [{"name": "app", "image": "desk:1", "securityContext": cls.SAFE}],
                **spec,
            },
        }

    @classmethod
    def governed(cls, name: str, namespace: str = "support", **spec: Any) -> dict[str, Any]:
        pod = cls.plain(name, namespace, **spec)
        pod["metadata"]["labels"]["sluice.dev/inject"] = "true"
        return pod

    @classmethod
    def classification(
        cls, name: str, namespace: str, hosts: list[str], allowed: list[str] | None = None
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

    @classmethod
    def workload(cls, kind: str, pod: dict[str, Any]) -> dict[str, Any]:
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

    @classmethod
    def trust(cls, name: str = "CA ONE") -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "sluice-trust", "namespace": cls.SYSTEM},
            "data": {"ca.pem": name, "keys.json": json.dumps({"k1": "KEY"})},
        }

    def create(self, value: dict[str, Any], *options: str) -> str:
        return self.kubectl("create", "-f", "-", *options, stdin=json.dumps(value))

    def refused(self, value: dict[str, Any], *options: str) -> str:
        """What kubectl says of a refusal; empty when there is none."""
        try:
            self.create(value, *options, "--dry-run=server")
        except ApiServerError as error:
            return str(error)
        return ""

    def accepted(self, value: dict[str, Any]) -> bool:
        return not self.refused(value)

    def stored(self, value: dict[str, Any]) -> dict[str, Any]:
        metadata = value["metadata"]
        self.create(value)
        return self.get("pod", metadata["name"], "-n", metadata["namespace"])

    def patched(self, pod: str, patch: Any, *options: str) -> str:
        """What kubectl says when a pod's change is refused; empty when it is not."""
        try:
            self.kubectl("patch", "pod", pod, "-n", "support", "-p", json.dumps(patch), *options)
        except ApiServerError as error:
            return str(error)
        return ""

    def warnings(self, value: dict[str, Any]) -> str:
        """What kubectl warns of."""
        command = [
            *programs.kubectl_command(),
            f"--kubeconfig={self.server.kubeconfig}",
            *("create", "--dry-run=server", "-f", "-"),
        ]
        text = json.dumps(value)
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        return done.stderr


class Admission(OperatorProcess):
    """The process as it runs, and how to make it run."""

    def __init__(self, api: Api, authority: Authority, log: Path) -> None:
        self.api, self.authority = api, authority
        super().__init__(
            "admission",
            kubeconfig=api.server.service_account_kubeconfig(SYSTEM, "sluice-admission"),
            namespace=SYSTEM,
            name="sluice-admission-0",
            log=log,
            SLUICE_PROXY_IMAGE=PROXY_IMAGE,
            SLUICE_OPA_IMAGE=OPA_IMAGE,
            SLUICE_LEAVE_SECONDS="0",
        )

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


@pytest.fixture(scope="package")
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
    with ApiServer() as server:
        api = Api(server)
        api.create_namespace(api.SYSTEM)
        for name in ("shop", "billing", "evil"):
            api.create_namespace(name)
        api.create_namespace("support", RESTRICTED)
        api.create_namespace("strict", {"sluice.dev/govern": "required"})
        api.create_namespace("outside", {"sluice.dev/may-claim-external": "true"})
        api.apply([d for d in documents if d["kind"] in kinds])
        authority = Authority.create(datetime.now(UTC), timedelta(days=1))
        log = tmp_path_factory.mktemp("admission") / "log"
        one = Admission(api, authority, log)
        try:
            one.start()
            one.until(lambda: one.get("/readyz")[0] == 503, "not ready without a certificate")
            one.certificate()
            one.until(lambda: one.ready, "ready")
            one.configure(webhooks)
            one.until(lambda: "starting" in api.refused(api.governed("early", "shop")), "webhook")
            api.apply([api.trust(), api.classification("shop", "shop", ["shop-pg"], ["support"])])
            one.until(lambda: api.accepted(api.governed("ready", "shop")), "first pod")
            yield one
        finally:
            one.kill()


@pytest.fixture
def api(admission: Admission) -> Api:
    return admission.api
