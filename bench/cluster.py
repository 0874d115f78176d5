"""The operator on a running cluster: a change until it is enforced, the injection webhook, memory."""

from __future__ import annotations

import json
import statistics
import threading
import time
from typing import Any

import operator_polls
import operator_scale

from sluice_dev.installation import COMPONENTS, NAMESPACE, bring_up
from sluice_dev.kubectl import Kubectl, until
from sluice_dev.story import SHOP, Database, Story

CHANGES, PODS, REVIEWS = 100, 3, 500

# Runs inside the application's container: says each new answer as soon as it is there.
FOLLOW = """
import sys, time, psycopg
with psycopg.connect(sys.argv[1], autocommit=True) as c:
    last = None
    while True:
        value = c.execute("SELECT email FROM users WHERE id = 1").fetchone()[0]
        if value != last:
            print(value, flush=True)
            last = value
        time.sleep(0.005)
"""

# Runs inside a pod: asks the injection webhook what the API server asks it.
REVIEW = """
import http.client, json, ssl, sys, time
host, count, trust = sys.argv[1], int(sys.argv[2]), sys.argv[3]
body = sys.stdin.read().encode()
connection = http.client.HTTPSConnection(host, 443, context=ssl.create_default_context(cadata=trust))
times = []
for _ in range(count):
    begun = time.perf_counter()
    connection.request("POST", "/mutate/pods", body, {"Content-Type": "application/json"})
    answer = json.load(connection.getresponse())
    times.append(time.perf_counter() - begun)
    assert answer["response"]["allowed"], answer
print(json.dumps(times))
"""

MEMORY = """
import sys, urllib.request
for line in urllib.request.urlopen(f"http://{sys.argv[1]}:8081/metrics", timeout=10).read().decode().splitlines():
    if line.startswith("process_resident_memory_bytes"):
        print(float(line.split()[1]))
"""


class Follower:
    """One governed pod's view."""

    def __init__(self, kubectl: Kubectl, story: Story, pod: str) -> None:
        """Begin to look."""
        self.seen: list[tuple[float, str]] = []
        self._process = kubectl.popen(
            "-n", story.namespace, "exec", "-i", pod, "-c", "app", "--", "python", "-u", "-c", FOLLOW, story.dsn(),
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.seen.append((time.perf_counter(), line.strip()))

    def close(self) -> None:
        """Look no more."""
        self._process.kill()
        self._process.communicate()


def _percentiles(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {
        "p50": round(cuts[49] * 1000, 1),
        "p99": round(cuts[98] * 1000, 1),
        "max": round(max(seconds) * 1000, 1),
    }


def changes(kubectl: Kubectl, story: Story) -> dict[str, Any]:
    """Milliseconds from the API server's answer to a change until the last of three pods answers by it."""
    kubectl.apply(story.deployment("desk", PODS))
    kubectl.rollout(story.namespace, "deployment/desk")
    pods = [pod["metadata"]["name"] for pod in kubectl.pods(story.namespace, "app=desk")]
    followers = [Follower(kubectl, story, pod) for pod in pods]
    took: list[float] = []
    try:
        until(lambda: all(follower.seen for follower in followers), within_s=30)
        rest = story.policy()["spec"]["masks"][1:]
        for number in range(CHANGES):
            counts = [len(follower.seen) for follower in followers]
            mask = "redact" if number % 2 == 0 else "email"
            patch = json.dumps({"spec": {"masks": [{"class": "pii.email", "mask": mask}, *rest]}})
            kubectl("-n", SHOP, "patch", "dap", story.name, "--type=merge", "-p", patch)
            begun = time.perf_counter()
            until(
                lambda counts=counts: all(
                    len(f.seen) > count for f, count in zip(followers, counts, strict=True)
                ),
                within_s=30,
                every_s=0.005,
            )
            last = max(f.seen[count][0] for f, count in zip(followers, counts, strict=True))
            took.append(max(0.0, last - begun))
            time.sleep(0.3)
    finally:
        for follower in followers:
            follower.close()
    return {"changes": len(took), "pods": PODS, **_percentiles(took)}


def webhook(kubectl: Kubectl, story: Story) -> dict[str, Any]:
    """Milliseconds of an injection, seen from a pod, one after the other on one connection."""
    kubectl.apply(story.pod("asker", governed=False))
    story.wait_ready("asker")
    pod = story.pod("reviewed")
    request = {
        "uid": "bench", "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "name": "reviewed",
        "namespace": story.namespace, "operation": "CREATE", "userInfo": {"username": "bench"}, "object": pod,
    }  # fmt: skip
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    trust = kubectl.get("-n", NAMESPACE, "configmap", "sluice-trust")["data"]["ca.pem"]
    out = kubectl(
        "-n", story.namespace, "exec", "-i", "asker", "--", "python", "-c", REVIEW,
        f"sluice-admission.{NAMESPACE}.svc", str(REVIEWS), trust, stdin=json.dumps(review),
    )  # fmt: skip
    return {"reviews": REVIEWS, **_percentiles(json.loads(out))}


def memory(kubectl: Kubectl, story: Story) -> dict[str, float]:
    """MiB resident of each process, the largest replica."""
    found: dict[str, float] = {}
    for component in COMPONENTS:
        sizes: list[float] = []
        for pod in kubectl.pods(NAMESPACE, f"app.kubernetes.io/component={component}"):
            out = kubectl(
                "-n",
                story.namespace,
                "exec",
                "asker",
                "--",
                "python",
                "-c",
                MEMORY,
                pod["status"]["podIP"],
            )
            sizes += [float(line) for line in out.split()]
        found[component] = round(max(sizes) / 2**20, 1)
    return found


def operator() -> dict[str, Any]:
    """Measure all of it."""
    installation = bring_up(print)
    installation.upgrade()
    kubectl = installation.kubectl
    server = Database(kubectl, installation.demo)
    server.start()
    story = Story(kubectl, server, "bench")
    story.close()
    kubectl("wait", "--for=delete", f"namespace/{story.namespace}", "--timeout=90s")
    try:
        story.open()
        results = {
            "change_to_enforced_ms": changes(kubectl, story),
            "injection_webhook_ms": webhook(kubectl, story),
            "resident_mib": memory(kubectl, story),
        }
    finally:
        story.close()
    # The rest is measured before API servers of its own, without a node.
    results["long_polls"] = operator_polls.operator_polls()
    results["ten_thousand_pods"] = operator_scale.measure()
    return {"results": results}


def report(found: dict[str, Any]) -> None:
    """Print the numbers for people."""
    for name, values in found["results"].items():
        if name == "ten_thousand_pods":
            operator_scale.show(values)
            continue
        print(name)
        for key, value in values.items():
            print(f"  {key:<28} {value}")
