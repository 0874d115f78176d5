"""What an end-to-end story needs: a database, policies, pods, and what the database says that it received."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import yaml

from sluice_dev.cache import ROOT
from sluice_dev.kubectl import Kubectl, PodClient, until

EXAMPLE = ROOT / "examples" / "kubernetes"
SHOP = "e2e-shop"
"""Namespace of the PostgreSQL server of all stories; each has a database of its own on it."""

TEMPLATE = "shop_template"

Document = dict[str, Any]


@dataclass(frozen=True)
class Images:
    """The names that the cluster knows them by."""

    demo: str
    postgres: str


def documents(name: str, namespaces: Mapping[str, str], images: Images) -> list[Document]:
    """Return the documents of a file under examples/kubernetes, moved to other namespaces, with these images."""
    text = (EXAMPLE / name).read_text()
    for old, new in namespaces.items():
        text = re.sub(rf"\bnamespace: {old}\b", f"namespace: {new}", text)
        text = re.sub(
            rf"(kind: Namespace\nmetadata:(?: {{|\n  )name: ){old}\b", rf"\g<1>{new}", text
        )
        text = text.replace(f"shop-pg.{old}.svc", f"shop-pg.{new}.svc")
    text = text.replace("docker.io/library/postgres:16-bookworm", images.postgres)
    text = text.replace("sluice-demo:dev", images.demo)
    return [document for document in yaml.safe_load_all(text) if document]


def namespace(name: str, **labels: str) -> Document:
    """Return a Namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


class Database:
    """The PostgreSQL server of the stories."""

    def __init__(self, kubectl: Kubectl, images: Images) -> None:
        """Remember the cluster."""
        self.kubectl, self.images = kubectl, images

    def start(self) -> None:
        """Bring the server up; nothing happens when it is."""
        self.kubectl.apply(namespace(SHOP))
        schema = ROOT / "examples" / "shop" / "schema.sql"
        text = self.kubectl(
            "-n", SHOP, "create", "configmap", "shop-schema", f"--from-file={schema}", "--dry-run=client", "-o", "yaml",
        )  # fmt: skip
        self.kubectl("apply", "-f", "-", stdin=text)
        self.kubectl.apply(*documents("database.yaml", {"shop": SHOP}, self.images))
        self.kubectl.rollout(SHOP, "deployment/shop-pg")
        until(self._make_template, within_s=60, what="a database to copy from")

    def _make_template(self) -> bool:
        """Copy the shop to where nobody connects, so that it can be copied at any time."""
        made = f"SELECT 1 FROM pg_database WHERE datname = '{TEMPLATE}'"
        if not self.psql(made, "postgres"):
            self.psql(f"CREATE DATABASE {TEMPLATE} TEMPLATE shop", "postgres")
        return bool(self.psql(made, "postgres"))

    def psql(self, sql: str, dbname: str = "shop") -> list[list[str]]:
        """Run a statement as superuser inside the server's pod, round all of Sluice."""
        out = self.kubectl(
            "-n", SHOP, "exec", "-i", "deploy/shop-pg", "--", "/bin/sh", "-c",
            f"$(ls -d /usr/lib/postgresql/*/bin | tail -1)/psql -h /tmp -U postgres {dbname} -qXAt -v ON_ERROR_STOP=1",
            stdin=sql,
        )  # fmt: skip
        return [line.split("|") for line in out.splitlines()]

    def received(self, application: str, since: datetime) -> list[str]:
        """Return the statements that the server logged for an application_name."""
        when = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        log = self.kubectl(
            "-n", SHOP, "logs", "deploy/shop-pg", f"--since-time={when}", "--tail=-1"
        )
        return [line for line in log.splitlines() if f" {application} " in line and "LOG:" in line]


def container(images: Images, name: str = "app", **fields: Any) -> Document:
    """Return a container that waits to be driven."""
    return {
        "name": name,
        "image": images.demo,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "5m", "memory": "24Mi"}},
        **fields,
    }


@dataclass
class Story:
    """One story's namespace, database and resources."""

    kubectl: Kubectl
    server: Database
    name: str
    databases: list[str] = field(default_factory=list[str])
    _clients: list[PodClient] = field(default_factory=list[PodClient])
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def namespace(self) -> str:
        """Where the story's workloads are."""
        return f"e2e-{self.name}"

    @property
    def images(self) -> Images:
        """The cluster's images."""
        return self.server.images

    def open(self, *, restricted: bool = True, **labels: str) -> None:
        """Make the namespace and the story's first database, with its classification and policy."""
        pod_security = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
        self.kubectl.apply(
            namespace(self.namespace, **pod_security, **labels),
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "desk", "namespace": self.namespace}},
        )  # fmt: skip
        self.add_database(self.name)
        self.kubectl.apply(self.classification(), self.policy())
        self.ready("dcl", self.name)
        self.ready("dap", self.name)

    def add_database(self, name: str) -> None:
        """Create a database with the shop's rows, and the Secret that sidecars read its catalog with."""
        self.server.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', "postgres")
        self.server.psql(f'CREATE DATABASE "{name}" TEMPLATE {TEMPLATE}', "postgres")
        self.databases.append(name)
        host = f"shop-pg.{SHOP}.svc"
        values = {
            "user": "sluice_catalog",
            "password": "catalog-pw",
            "host": host,
            "port": "5432",
            "dbname": name,
        }
        for where in (self.namespace, SHOP):
            self.kubectl.apply(
                {
                    "apiVersion": "v1", "kind": "Secret", "type": "sluice.dev/catalog",
                    "metadata": {"name": f"{name}-catalog", "namespace": where}, "stringData": values,
                }
            )  # fmt: skip

    def classification(self, name: str | None = None, **spec: Any) -> Document:
        """Return the example's classification for a database of this story."""
        name = name or self.name
        document = documents("policies/classification.yaml", {"shop": SHOP}, self.images)[0]
        document["metadata"] = {"name": name, "namespace": SHOP}
        document["spec"]["database"]["name"] = name
        document["spec"]["database"]["catalogSecretRef"] = {"name": f"{name}-catalog"}
        document["spec"]["allowedNamespaces"] = [self.namespace]
        document["spec"].update(spec)
        return document

    def policy(self, name: str | None = None, **spec: Any) -> Document:
        """Return the example's policy of the support desk for this story's pods."""
        name = name or self.name
        document = documents("policies/support.yaml", {"shop": SHOP}, self.images)[0]
        document["metadata"] = {"name": name, "namespace": SHOP}
        database = name if name in self.databases else self.name
        document["spec"]["databases"] = {"names": [database]}
        document["spec"]["subjects"] = [{"workload": {"namespaces": [self.namespace]}}]
        document["spec"].update(spec)
        document["spec"] = {
            key: value for key, value in document["spec"].items() if value is not None
        }
        return document

    def ready(self, kind: str, name: str, *, within_s: float = 60) -> Document:
        """Wait until a resource is Ready in its present generation; return it."""

        def probe() -> Document | None:
            found = self.kubectl.get("-n", SHOP, kind, name)
            condition = _condition(found, "Ready")
            fresh = (
                found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]
            )
            return found if fresh and condition.get("status") == "True" else None

        return until(probe, within_s=within_s, what=f"{kind} {name} is Ready")

    def condition(self, kind: str, name: str, condition: str) -> Document:
        """Return a condition of a resource of the shop; empty when it has none."""
        return _condition(self.kubectl.get("-n", SHOP, kind, name), condition)

    def dsn(
        self, database: str | None = None, *, host: str = f"shop-pg.{SHOP}.svc", **more: str
    ) -> str:
        """Return the DSN that an application of the support desk has."""
        user, password = more.pop("user", "support_ro"), more.pop("password", "support-pw")
        options = "&".join(f"{k}={v}" for k, v in {"application_name": self.name, **more}.items())
        return f"postgresql://{user}:{password}@{host}:5432/{database or self.name}?{options}"

    def pod(self, name: str, *, governed: bool = True, **spec: Any) -> Document:
        """Return a pod of the desk; its containers wait to be driven."""
        labels = {"app": name} | ({"sluice.dev/inject": "true"} if governed else {})
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "labels": labels},
            "spec": self.pod_spec(**spec),
        }

    def pod_spec(self, **spec: Any) -> Document:
        """Return the spec of a pod that PodSecurity's level restricted takes."""
        return {
            "serviceAccountName": "desk",
            "terminationGracePeriodSeconds": 5,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container(self.images)],
            **spec,
        }

    def deployment(self, name: str, replicas: int, **spec: Any) -> Document:
        """Return a Deployment of governed pods."""
        labels = {"app": name, "sluice.dev/inject": "true"}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": labels}, "spec": self.pod_spec(**spec)},
            },
        }

    def start(self, pod: Document, *, within_s: float = 120) -> PodClient:
        """Create the pod, wait until it is ready, return a client inside it."""
        name = pod["metadata"]["name"]
        self.kubectl.apply(pod)
        self.wait_ready(name, within_s=within_s)
        return self.client(name)

    def wait_ready(self, name: str, *, within_s: float = 120) -> None:
        """Wait until a pod is ready."""
        self.kubectl(
            "-n", self.namespace, "wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={int(within_s)}s",
            timeout_s=within_s + 10,
        )  # fmt: skip

    def client(self, pod: str, *, dsn: str | None = None, container: str = "app") -> PodClient:
        """Return a client inside a running pod."""
        client = PodClient(
            self.kubectl, self.namespace, pod, dsn or self.dsn(), container=container
        )
        self._clients.append(client)
        return client

    def restarts(self, pod: str) -> int:
        """Return how often containers of a pod were started again."""
        status = self.kubectl.get("-n", self.namespace, "pod", pod)["status"]
        every = status.get("containerStatuses", []) + status.get("initContainerStatuses", [])
        return sum(int(one["restartCount"]) for one in every)

    def received(self) -> list[str]:
        """Return what the server logged of this story's statements."""
        time.sleep(0.3)  # The kubelet reads the server's output a little later.
        return self.server.received(self.name, self.begun)

    def close(self) -> None:
        """Remove everything; namespaces go in the background."""
        for client in self._clients:
            client.hang_up()
        for client in self._clients:
            with contextlib.suppress(Exception):
                client.close()
        for kind in ("dap", "dcl"):
            names = [o["metadata"]["name"] for o in self.kubectl.get("-n", SHOP, kind)["items"]]
            mine = [
                n
                for n in names
                if n == self.name or n.startswith(f"{self.name}-") or n in self.databases
            ]
            if mine:
                self.kubectl.run("-n", SHOP, "delete", kind, *mine, "--ignore-not-found")
        self.kubectl.run(
            "delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found"
        )
        for name in self.databases:
            self.kubectl.run(
                "-n", SHOP, "delete", "secret", f"{name}-catalog", "--ignore-not-found"
            )


def _condition(resource: Mapping[str, Any], kind: str) -> Document:
    conditions: list[Document] = resource.get("status", {}).get("conditions", [])
    nothing: Document = {}
    return next((c for c in conditions if c["type"] == kind), nothing)


MASKED = "SELECT id, email, ssn FROM users WHERE id <= 2 ORDER BY id"
"""The statement most stories look with: two rows, an e-mail and an SSN each."""


def raw(server: Database) -> list[list[str]]:
    """Return what the database itself has for MASKED."""
    return server.psql(MASKED)


def unmasked(rows: list[list[Any]], truth: list[list[str]]) -> str:
    """Return what is wrong with the rows of MASKED as the support desk must see them; empty when nothing is."""
    if [row[0] for row in rows] != [int(row[0]) for row in truth]:
        return f"other rows: {rows}"
    for shown, real in zip(rows, truth, strict=True):
        if shown[1] == real[1] or "@" not in shown[1]:
            return f"not a masked e-mail: {shown}"
        if shown[2] == real[2] or not shown[2].strip().endswith(real[2].strip()[-4:]):
            return f"not a masked SSN: {shown}"
    return ""
