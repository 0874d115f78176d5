"""`make demo`: Sluice on a cluster, from nothing to a governed application, told as it happens.

Every step checks what it shows, and the exit code is 1 when one did not show what it must. Run again, it brings what is
there already to the same state. `make demo-down` removes all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watch import Watch

from sluice_dev.cache import ROOT
from sluice_dev.installation import NAMESPACE, Installation, bring_up, connect, is_ours, take_down
from sluice_dev.kubectl import CommandError, Kubectl, PodClient, until
from sluice_dev.machine import busy
from sluice_dev.screen import Screen
from sluice_dev.story import Document, documents

DSN = "postgresql://support_ro:support-pw@shop-pg.shop.svc:5432/shop"
PLAY = 'import os, psycopg; c = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)'
LABEL = 19


class Demonstration:
    """The steps, in order; each a method."""

    def __init__(self, screen: Screen, installation: Installation) -> None:
        """Remember where."""
        self.screen, self.installation = screen, installation
        self.kubectl: Kubectl = installation.kubectl

    def _documents(self, name: str) -> list[Document]:
        return documents(name, {}, self.installation.demo)

    def _apply(self, *names: str) -> None:
        for name in names:
            self.kubectl.apply(*self._documents(name))
            self.screen.line(f"$ kubectl apply -f examples/kubernetes/{name}")

    def install(self) -> None:
        """Install the chart."""
        self.screen.heading("2  Install Sluice")
        self.screen.line(
            "controller signs policies, admission adds sidecars to labelled pods, bundles serves policies"
        )
        self.screen.line(
            f"$ helm upgrade --install sluice helm/sluice -n {NAMESPACE} --create-namespace --wait"
        )
        self.installation.upgrade()
        for line in self.kubectl("-n", NAMESPACE, "get", "pods", "--no-headers").splitlines():
            self.screen.line(line)
        self.screen.check(self.installation.installed(), "controller, admission and bundles are up")

    def workloads(self) -> None:
        """Deploy the database, the policies and both copies of the application."""
        self.screen.heading(
            "3  A database, its classification and policies, two copies of one application"
        )
        self.kubectl.run("-n", "support", "delete", "job", "report", "--ignore-not-found")
        self._apply("namespaces.yaml")
        schema = ROOT / "examples" / "shop" / "schema.sql"
        text = self.kubectl(
            "-n", "shop", "create", "configmap", "shop-schema", f"--from-file={schema}",
            "--dry-run=client", "-o", "yaml",
        )  # fmt: skip
        self.kubectl("apply", "-f", "-", stdin=text)
        self._apply("database.yaml", "catalog.yaml")
        self._apply(
            *(f"policies/{name}.yaml" for name in ("classification", "support", "guardrails"))
        )
        self.kubectl.rollout("shop", "deployment/shop-pg")
        self._apply("desk.yaml")
        stuck = self._stuck()
        if stuck:
            self.screen.line(f"$ kubectl -n support rollout restart deployment/desk   # {stuck}")
            self.kubectl("-n", "support", "rollout", "restart", "deployment/desk")
        for name in ("desk", "desk-ungoverned"):
            self.kubectl.rollout("support", f"deployment/{name}")
        pod = self._pods()[0]
        names = [c["name"] for c in (*pod["spec"]["initContainers"], *pod["spec"]["containers"])]
        self.screen.line(f"a governed pod's containers: {', '.join(names)}")
        self.screen.check("sluice-proxy" in names, "the labelled pods got the sidecar")

    def _stuck(self) -> str:
        """Why the pods of an earlier run do not become what they must be by themselves; empty when they do."""
        # The stories rotate the key that signs policies more often than a pod of before can follow. It is behind once a
        # policy changes; what it refused until then only it can tell.
        with contextlib.suppress(CommandError):
            if "start the pod anew" in self.kubectl(
                "-n", "support", "logs", "-l", "app=desk", "-c", "sluice-proxy", "--tail=-1"
            ):
                return "too many keys behind"
        # While admission was away no pod was made, and Kubernetes tries ever more rarely.
        failure = '{.status.conditions[?(@.type=="ReplicaFailure")].status}'
        if (
            self.kubectl("-n", "support", "get", "deployment/desk", "-o", f"jsonpath={failure}")
            == "True"
        ):
            return "not made while admission was away"
        return ""

    def _pods(self) -> list[Any]:
        return self.kubectl.pods("support", "app=desk")

    def _seen(self, selector: str) -> dict[str, str]:
        """What a copy printed in its last round."""
        log = self.kubectl(
            "-n",
            "support",
            "logs",
            "-l",
            selector,
            "-c",
            "desk",
            "--tail=12",
            "--max-log-requests=9",
        )
        found: dict[str, str] = {}
        for line in log.splitlines():
            match = re.match(r"\d\d:\d\d:\d\d (\w+) +(.*)", line)
            if match:
                found[match[1]] = match[2]
        return found

    def side_by_side(self) -> None:
        """What each copy sees of the same statements."""
        self.screen.heading(
            "4  The same image, the same Secret with the DSN; one has the label sluice.dev/inject"
        )

        def whole(selector: str) -> Callable[[], dict[str, str] | None]:
            def probe() -> dict[str, str] | None:
                seen = self._seen(selector)
                return seen if {"customers", "orders", "cards"} <= set(seen) else None

            return probe

        free, governed = (
            until(whole(f"app={a}"), within_s=60) for a in ("desk-ungoverned", "desk")
        )
        for name in ("customers", "orders", "cards"):
            for who, seen in (("without the label", free), ("governed", governed)):
                for number, part in enumerate(seen[name].split(" | ")):
                    head = f"{name if number == 0 and seen is free else '':<10}{who if number == 0 else '':<{LABEL}}"
                    self.screen.line(head + part)
        self.screen.check(
            "@" in governed["customers"] and free["customers"] != governed["customers"], "masked"
        )
        self.screen.check(
            free["orders"].count("|") == 2 and governed["orders"].startswith("eu "), "rows filtered"
        )
        self.screen.check(
            governed["cards"].startswith("ERROR 42501") and "ERROR" not in free["cards"], "denied"
        )

    def policy_change(self) -> None:
        """Edit a policy and measure until every pod answers by it."""
        self.screen.heading(
            "5  Edit the policy: e-mail addresses are redacted; no pod restarts, no connection breaks"
        )
        pods = [pod["metadata"]["name"] for pod in self._pods()]
        watches = [
            Watch(PodClient(self.kubectl, "support", pod, DSN, container="desk")) for pod in pods
        ]
        try:
            until(
                lambda: all(watch.last for watch in watches),
                within_s=60,
                what="a first answer of each pod",
            )
            before = watches[0].last
            policy = self._documents("policies/support.yaml")[0]
            policy["spec"]["masks"][0] = {"class": "pii.email", "mask": "redact"}
            patch = json.dumps({"spec": {"masks": policy["spec"]["masks"]}})
            shown = patch.replace(json.dumps(policy["spec"]["masks"][1:])[1:], "…]")
            self.screen.line(f"$ kubectl -n shop patch dap support --type merge -p '{shown}'")
            self.kubectl("-n", "shop", "patch", "dap", "support", "--type", "merge", "-p", patch)
            begun = time.monotonic()
            until(lambda: all(watch.changed_at for watch in watches), within_s=20, every_s=0.01)
            took = max(0.0, *(watch.changed_at - begun for watch in watches))
            self.screen.line(
                f"before {before}   after {watches[0].last}   "
                f"in all {len(pods)} pods {took * 1000:.0f} ms after kubectl returned"
            )
            load = busy()
            if load > 1:
                self.screen.line(f"({load:.1f} processes want each core of this machine now)")
            self.screen.check(took < load, "in force within a second, on a machine that is free")
            restarts = sum(
                s["restartCount"]
                for p in self._pods()
                for s in p["status"]["initContainerStatuses"]
            )
            self.screen.check(restarts == 0, "nothing restarted")
        finally:
            for watch in watches:
                watch.close()
            self._apply("policies/support.yaml")

    def told(self) -> None:
        """Where a denial and the state of the resources are seen."""
        self.screen.heading(
            "6  A denied statement is told by an Event, the state of the resources by their status"
        )

        def events() -> list[str]:
            found = self.kubectl.get("-n", "support", "events")["items"]
            return [
                f"{e['type']:<8} {e['reason']:<16} {e['involvedObject']['name']}: {e['message']}"
                for e in found
                if e["reason"] == "StatementDenied"
            ]

        self.screen.line("$ kubectl -n support get events")
        shown = until(events, within_s=60)
        self.screen.wrapped(shown[-1], 0)

        def current() -> bool:
            pods = len(self._pods())
            for policy in self.kubectl.get("-n", "shop", "dap")["items"]:
                status = policy["status"]
                if status["observedGeneration"] != policy["metadata"]["generation"]:
                    return False
                if status["sidecars"] != {"expected": pods, "current": pods, "stale": 0}:
                    return False
            return True

        time.sleep(1)  # The policy was put back just now; the status follows.
        try:
            until(current, within_s=40)
        except TimeoutError as error:
            self.screen.check(holds=False, what=f"every sidecar is current: {error}")
        for kind in ("dcl", "dap"):
            self.screen.line(f"$ kubectl -n shop get {kind}")
            for line in self.kubectl("-n", "shop", "get", kind).splitlines():
                self.screen.line(line)

    def job(self) -> None:
        """Run a governed Job to its end."""
        self.screen.heading("7  A governed Job ends when its application has")
        self._apply("job.yaml")
        try:
            self.kubectl(
                "-n", "support", "wait", "--for=condition=Complete", "job/report", "--timeout=90s"
            )
        except CommandError as error:
            self.screen.check(holds=False, what=f"the Job finishes: {error}")
            return
        log = self.kubectl("-n", "support", "logs", "job/report", "-c", "report")
        self.screen.line(log.splitlines()[0])
        self.screen.line(
            self.kubectl("-n", "support", "get", "job", "report", "--no-headers").strip()
        )
        self.screen.check("@" in log, "the Job saw masked customers")

    def audit(self) -> None:
        """What was recorded, where no application can change it."""
        self.screen.heading(
            "8  Every statement is recorded before its first result byte: who asked, and what was decided"
        )
        pod = self._pods()[0]["metadata"]["name"]
        self.screen.line(f"$ kubectl -n support logs {pod} -c sluice-proxy")

        def lines() -> list[dict[str, Any]]:
            log = self.kubectl("-n", "support", "logs", pod, "-c", "sluice-proxy", "--tail=400")
            found: list[dict[str, Any]] = []
            for line in log.splitlines():
                if '"audit"' in line:
                    event = json.loads(line)
                    if event.get("audit") and event["kind"] == "begin":
                        found.append(event)
            return found

        shown = until(lines, within_s=30)
        for event in shown[-3:]:
            self.screen.wrapped(_told(event), 2)
        refused = self.kubectl.run("-n", "support", "exec", pod, "-c", "sluice-proxy", "--", "ls")
        self.screen.line(
            "The record is out of the application's reach, and nobody enters the sidecar:"
        )
        self.screen.line(f"$ kubectl -n support exec {pod} -c sluice-proxy -- ls")
        self.screen.wrapped(refused.stderr.strip(), 2)
        self.screen.check(refused.returncode != 0, "nobody enters the sidecar")

    def ending(self, begun: float) -> None:
        """Say what to look at next."""
        self.screen.heading(
            f"That was all, in {time.monotonic() - begun:.0f} s. It stays up; look around:"
        )
        own = " ".join(self.kubectl.program)
        if Path(own).is_absolute():  # Ours, not one that is on the user's path.
            print(f"  alias kubectl={own}", flush=True)
        for line in (
            f"export KUBECONFIG={self.kubectl.kubeconfig}",
            "kubectl get dap,dcl -A",
            "kubectl -n sluice-system get pods                         # Sluice itself",
            "kubectl -n support logs -f deploy/desk -c desk            # governed",
            "kubectl -n support logs -f deploy/desk-ungoverned         # not",
            "kubectl -n shop edit dap support                          # in force when you save",
            "kubectl -n shop describe dcl shop",
            "kubectl -n support get events --field-selector reason=StatementDenied",
            f"kubectl -n support exec -it deploy/desk -c desk -- python -ic '{PLAY}'",
        ):
            print(f"  {line}")
        print("  make demo-down   # removes all of it", flush=True)


def _told(event: dict[str, Any]) -> str:
    """What of an audit event fits on a screen: who, what, and how it was decided."""
    statement, workload = event["statement"], event["identity"]["identity"]["workload"]
    shown = {
        "at": event["at"],
        "pod": f"{workload['namespace']}/{workload['pod']}",
        "assurance": workload["assurance"],
        "role": event["identity"]["role"],
        "template": event["template"],
        "classes": statement["classes"],
        "masks": {mask["column"]: mask["mask"] for mask in statement["masks"]},
        "filters": statement["filters"],
        "verdict": event["verdict"],
        "sequence": statement["sequence"],
    }
    return json.dumps(shown, ensure_ascii=False) + " …"


def down(screen: Screen) -> int:
    """Remove the demonstration, and the cluster when it is ours."""
    screen.heading("Remove the demonstration")
    if is_ours():
        take_down(screen.line)
        return 0
    installation = connect()
    installation.kubectl.run(
        "delete", "namespace", "support", "shop", "--ignore-not-found", timeout_s=180
    )
    installation.uninstall()
    return 0


def demonstrate(screen: Screen) -> int:
    """Return the exit code."""
    begun = time.monotonic()
    screen.heading("1  A cluster, and the images")
    demonstration = Demonstration(screen, bring_up(screen.line))
    demonstration.install()
    for step in ("workloads", "side_by_side", "policy_change", "told", "job", "audit"):
        try:
            getattr(demonstration, step)()
        except (CommandError, TimeoutError, LookupError) as error:
            screen.check(holds=False, what=f"{step}: {error}")
    demonstration.ending(begun)
    if screen.failures:
        screen.heading("Not as it should be:")
        for failure in screen.failures:
            screen.wrapped(failure, 0)
    return 1 if screen.failures else 0


def main() -> int:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--down", action="store_true", help="remove it all")
    given = parser.parse_args()
    screen = Screen()
    return down(screen) if given.down else demonstrate(screen)


if __name__ == "__main__":
    sys.exit(main())
