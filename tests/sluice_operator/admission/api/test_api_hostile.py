"""Pods that forge or undo the injected part, by themselves and by other webhooks, on a real API server."""

import base64
import copy
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sluice_dev.children import free_port


def test_seven_hostile_pods_are_refused(api):
    fake = {"name": "sluice-proxy", "image": "evil", "restartPolicy": "Always"}
    message = api.refused(api.governed("h1", "shop", initContainers=[fake]))
    assert "not what Sluice writes" in message
    for volume in (
        "sluice-run",
        "sluice-state",
        "sluice-spool",
        "sluice-token",
        "sluice-catalog-0",
    ):
        pod = api.governed("h2", "shop")
        pod["spec"]["containers"][0]["volumeMounts"] = [{"name": volume, "mountPath": "/x"}]
        assert f"mounts {volume}" in api.refused(pod)
    good = api.stored(api.governed("hostile"))
    reordered = copy.deepcopy(good)
    reordered["spec"]["initContainers"].reverse()
    reordered["metadata"] = {
        "name": "h3",
        "namespace": "support",
        "labels": good["metadata"]["labels"],
        "annotations": good["metadata"]["annotations"],
    }
    assert "not what Sluice writes" in api.refused(reordered)
    image = {"spec": {"initContainers": [{"name": "sluice-proxy", "image": "evil"}]}}
    assert "the container sluice-proxy must not change (image)" in api.patched("hostile", image)
    tiny = {"resources": {"limits": {"memory": "1M"}, "requests": {"memory": "1M", "cpu": "1m"}}}
    size = {"spec": {"initContainers": [{"name": "sluice-proxy", **tiny}]}}
    assert "must not change" in api.patched("hostile", size, "--subresource=resize")
    debug = {
        "spec": {
            "ephemeralContainers": [
                {"name": "d", "image": "busybox", "targetContainerName": "sluice-proxy"}
            ]
        }
    }
    message = api.patched("hostile", debug, "--subresource=ephemeralcontainers")
    assert "sluice-proxy" in message


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

    def __init__(self, admission: Any, folder: Path, what: str) -> None:
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


def test_later_webhook_that_strips_our_environment_is_found_out(api, admission, tmp_path):
    """A mutating webhook of somebody else, after ours, whose change comes back to us."""
    with thief(admission, tmp_path, "strip") as configuration:
        api.apply([configuration])
        try:
            pod = api.governed("stripped", "evil")
            admission.until(lambda: api.refused(pod) != "", "the other webhook")
            assert "not what Sluice writes (container sluice-proxy: env" in api.refused(pod)
        finally:
            api.kubectl("delete", "mutatingwebhookconfiguration", "thief")


def test_later_webhook_that_adds_its_own_leaves_ours_in_front(api, admission, tmp_path):
    """As a mesh does it: a label and an init container in front; we are asked again and follow."""
    with thief(admission, tmp_path, "add") as configuration:
        api.apply([configuration])
        try:
            pod = api.governed("meshed", "evil")

            def meshed() -> str:
                return api.create(pod, "--dry-run=server", "-o", "json")

            admission.until(lambda: '"mesh"' in meshed(), "the other webhook")
            found = json.loads(meshed())
        finally:
            api.kubectl("delete", "mutatingwebhookconfiguration", "thief")
    assert [c["name"] for c in found["spec"]["initContainers"]] == [*api.OURS, "mesh"]
    identity = json.loads(found["metadata"]["annotations"]["sluice.dev/identity"])
    assert identity["labels"]["mesh"] == "on"
