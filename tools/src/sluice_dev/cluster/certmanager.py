"""cert-manager on a cluster of ours: its controller and its definitions, built from its own Go module.

Not its webhook, which would only refuse lives under an hour, and not its cainjector, which Sluice does not need.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from sluice_dev.cluster import archives, programs

NAMESPACE = "cert-manager"
_MODULE = "github.com/cert-manager/cert-manager"
_IMAGE = "localhost/sluice/cert-manager:dev"
_NAME = {"name": "cert-manager"}
_LABELS = {"app.kubernetes.io/name": "cert-manager"}
_CONTROLLERS = "*,-orders,-challenges,-ingress-shim,-certificaterequests-issuer-acme"
"""Those of ACME need the world outside."""


def objects() -> list[dict[str, Any]]:
    """Return all that is to be applied, definitions first."""
    return [*_definitions(), *_rights(), _deployment()]


def put(load: Callable[[Path], None], apply: Callable[[str], None]) -> None:
    """Put it on a cluster, or bring it to this version.

    Args:
        load: Puts an image archive on the cluster's nodes.
        apply: Applies documents as JSON.
    """
    program = programs.ensure(programs.CERT_MANAGER)
    with tempfile.TemporaryDirectory(prefix="sluice-cert-manager-") as folder:
        load(archives.single_file_image(Path(folder) / "cert-manager.tar", _IMAGE, program))
    apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects()}))


def _definitions() -> list[dict[str, Any]]:
    folder = programs.module_folder(programs.CERT_MANAGER, _MODULE) / "deploy" / "crds"
    found: list[dict[str, Any]] = []
    for file in sorted(folder.glob("crd-*.yaml")):
        document = yaml.safe_load(file.read_text())
        document["metadata"].pop("labels", None)  # Templates of its chart.
        found.append(document)
    return found


def _rights() -> list[dict[str, Any]]:
    rules = [
        {"apiGroups": ["cert-manager.io", "acme.cert-manager.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
    ]  # fmt: skip
    rbac = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**_NAME, "namespace": NAMESPACE}},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": _NAME, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": _NAME,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", **_NAME},
            "subjects": [{"kind": "ServiceAccount", **_NAME, "namespace": NAMESPACE}],
        },
    ]  # fmt: skip


def _deployment() -> dict[str, Any]:
    arguments = [
        f"--cluster-resource-namespace={NAMESPACE}",
        f"--controllers={_CONTROLLERS}",
        "--leader-elect=false",
    ]
    container = {
        "name": "controller",
        "image": _IMAGE,
        "imagePullPolicy": "Never",
        "args": arguments,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**_NAME, "namespace": NAMESPACE, "labels": _LABELS},
        "spec": {
            "selector": {"matchLabels": _LABELS},
            "template": {
                "metadata": {"labels": _LABELS},
                "spec": {"serviceAccountName": "cert-manager", "containers": [container]},
            },
        },
    }
