"""THREATS 6: a statement that runs while its pod is being deleted still gets its answer."""

from __future__ import annotations

import threading
from datetime import datetime

from sluice_dev.kubectl import until
from sluice_dev.story import MASKED, Story, raw, unmasked


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_statement_in_flight_ends_well_and_the_sidecar_goes_last(story: Story):
    pod = story.pod("desk", terminationGracePeriodSeconds=30)
    # An application that goes on for a while after SIGTERM, as one that drains does.
    pod["spec"]["containers"][0]["command"] = [
        "sh",
        "-c",
        "trap 'sleep 12; exit 0' TERM; while :; do sleep 1; done",
    ]
    client = story.start(pod)
    answers: list[object] = []

    def slow() -> None:
        answers.append(client.execute("SELECT pg_sleep(6), count(*) FROM users"))
        answers.append(client.execute(MASKED + " OFFSET 0", session="anew"))

    thread = threading.Thread(target=slow, daemon=True)
    thread.start()
    running = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{story.name}' AND query LIKE '%pg_sleep(6)%'"
    until(lambda: story.server.psql(running, "postgres"), within_s=20)
    story.kubectl("-n", story.namespace, "delete", "pod", "desk", "--wait=false")
    thread.join(30)
    assert len(answers) == 2, answers
    assert not unmasked(answers[1], raw(story.server))  # type: ignore[arg-type]


def test_sidecar_adds_little_to_the_start(story: Story):
    story.kubectl.apply(story.pod("timed"))
    story.wait_ready("timed")
    status = story.kubectl.get("-n", story.namespace, "pod", "timed")["status"]
    created = _moment(status["startTime"])
    app = next(s for s in status["containerStatuses"] if s["name"] == "app")
    added = _moment(app["state"]["running"]["startedAt"]) - created
    # Kubernetes' times are whole seconds; the machine of the stories has little to spare.
    assert added <= 10, f"the application started {added:.0f} s after its pod"
