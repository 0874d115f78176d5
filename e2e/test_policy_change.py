"""A policy is edited under load: no statement fails, none is answered by the old one afterwards."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from sluice_dev.kubectl import DeniedError, PodClient, until
from sluice_dev.story import SHOP, Story

QUERY = "SELECT email FROM users WHERE id = 1"


@dataclass
class Load:
    """One client that asks the same thing again and again."""

    client: PodClient
    stop: threading.Event
    answers: list[tuple[float, float, str]] = field(default_factory=list[tuple[float, float, str]])
    errors: list[str] = field(default_factory=list[str])

    def run(self) -> None:
        while not self.stop.is_set():
            begun = time.monotonic()
            try:
                rows = self.client.execute(QUERY)
                self.answers.append((begun, time.monotonic(), rows[0][0]))
            except DeniedError as error:
                self.errors.append(str(error))


def test_change_comes_into_force_in_all_pods_without_a_failed_statement(story: Story):
    story.kubectl.apply(story.deployment("desk", 3))
    story.kubectl.rollout(story.namespace, "deployment/desk")
    names = [pod["metadata"]["name"] for pod in story.kubectl.pods(story.namespace, "app=desk")]
    stop = threading.Event()
    loads = [Load(story.client(name), stop) for name in names]
    threads = [threading.Thread(target=load.run, daemon=True) for load in loads]
    for thread in threads:
        thread.start()
    until(lambda: all(len(load.answers) > 5 for load in loads), within_s=30)
    before = {answer for load in loads for _, _, answer in load.answers}
    assert len(before) == 1

    changed = story.policy(masks=[{"class": "pii", "mask": "redact"}])
    story.kubectl.apply(changed)
    applied = time.monotonic()

    def reported() -> bool:
        status = story.kubectl.get("-n", SHOP, "dap", story.name)
        found = status["status"]
        fresh = found["observedGeneration"] == status["metadata"]["generation"]
        return fresh and found["sidecars"] == {"expected": 3, "current": 3, "stale": 0}

    def everywhere() -> bool:
        return all(load.answers[-1][2] not in before for load in loads)

    until(everywhere, within_s=20)
    in_force = max(
        next(
            ended
            for begun, ended, answer in load.answers
            if begun > applied - 5 and answer not in before
        )
        for load in loads
    )
    until(reported, within_s=30)
    told = time.monotonic()
    time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join(10)

    assert [load.errors for load in loads] == [[], [], []]
    for load in loads:
        changed_at = next(
            i for i, (_, _, answer) in enumerate(load.answers) if answer not in before
        )
        assert not [a for _, _, a in load.answers[changed_at:] if a in before], (
            "the old policy came back"
        )
        assert not [a for begun, _, a in load.answers if begun > told and a in before]
    assert in_force - applied < 2, f"in force after {in_force - applied:.2f} s"
    assert sum(story.restarts(name) for name in names) == 0


def test_scaling_and_rolling_restart_keep_pods_governed(story: Story):
    story.kubectl("-n", story.namespace, "scale", "deployment/desk", "--replicas=5")
    story.kubectl.rollout(story.namespace, "deployment/desk")
    assert len(story.kubectl.pods(story.namespace, "app=desk")) == 5
    story.kubectl("-n", story.namespace, "rollout", "restart", "deployment/desk")
    story.kubectl.rollout(story.namespace, "deployment/desk")
    pods = story.kubectl.pods(story.namespace, "app=desk")
    truth = story.server.psql(QUERY)[0][0]
    for pod in pods:
        assert story.client(pod["metadata"]["name"]).execute(QUERY)[0][0] != truth
    until(
        lambda: (
            story.kubectl.get("-n", SHOP, "dap", story.name)["status"]["sidecars"]
            == {"expected": 5, "current": 5, "stale": 0}
        ),
        within_s=60,
        what="the status counts the five new pods",
    )
