"""`helm test`: asks the two services what a sidecar and the API server ask them, with the certificates they trust."""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request

NAMESPACE = os.environ["NAMESPACE"]
TRUST = "/etc/sluice/trust/ca.pem"


def call(url: str, body: object = None) -> tuple[int, dict]:
    """Return the status and the JSON of the answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(
            request, timeout=10, context=ssl.create_default_context(cafile=TRUST)
        ) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def review(mode: str) -> dict:
    """What admission answers to a policy with this mode."""
    policy = {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "DatabaseAccessPolicy",
        "metadata": {"name": "helm-test", "namespace": NAMESPACE},
        "spec": {"mode": mode, "guardrails": {"drop": "deny"}},
    }
    kind = {"group": "sluice.dev", "version": "v1alpha1", "kind": "DatabaseAccessPolicy"}
    resource = {"group": "sluice.dev", "version": "v1alpha1", "resource": "databaseaccesspolicies"}
    request = {
        "uid": "helm-test", "kind": kind, "resource": resource, "name": "helm-test", "namespace": NAMESPACE,
        "operation": "CREATE", "userInfo": {"username": "helm-test"}, "object": policy, "dryRun": True,
    }  # fmt: skip
    status, answer = call(
        f"https://sluice-admission.{NAMESPACE}.svc/validate/resources",
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request},
    )
    return (
        answer["response"]
        if status == 200
        else {"allowed": None, "status": {"message": f"HTTP {status}: {answer}"}}
    )


def main() -> int:
    """Return 0 when everything answered as it must."""
    failed = []
    good, bad = review("enforce"), review("sometimes")
    if good["allowed"] is not True:
        failed.append(f"admission does not take a sound policy: {good}")
    if bad["allowed"] is not False:
        failed.append(f"admission takes a policy with an unknown mode: {bad}")
    status, answer = call(f"https://sluice-bundles.{NAMESPACE}.svc/v1/identity")
    if status != 401:
        failed.append(f"the bundle service answers without a token: HTTP {status} {answer}")
    print("\n".join(failed) or "admission and the bundle service answer as they must")
    return 1 if failed else 0


sys.exit(main())
