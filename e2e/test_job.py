"""Workloads that end: Jobs and CronJobs finish; containers and init containers of one pod are all governed."""

from __future__ import annotations

import json
from typing import Any

from sluice_dev.story import MASKED, Story, container, raw, unmasked

LOOK = f"""
import json, os, psycopg
with psycopg.connect(os.environ["DSN"]) as c:
    print(json.dumps([[str(x) for x in row] for row in c.execute("{MASKED}").fetchall()]))
"""


def _looking(story: Story, name: str = "app") -> dict[str, object]:
    return container(
        story.images,
        name,
        command=["python", "-c", LOOK],
        env=[{"name": "DSN", "value": story.dsn()}],
    )


def _template(story: Story) -> dict[str, object]:
    return {
        "metadata": {"labels": {"app": "report", "sluice.dev/inject": "true"}},
        "spec": story.pod_spec(restartPolicy="Never", containers=[_looking(story)]),
    }


def _rows(story: Story, selector: str, name: str = "app") -> list[list[object]]:
    out = story.kubectl("-n", story.namespace, "logs", "-l", selector, "-c", name, "--tail=1")
    return [[int(a), b, c] for a, b, c in json.loads(out)]


def _audit(story: Story, pod: str) -> list[dict[str, Any]]:
    """The events of executions that a pod's sidecar printed."""
    log = story.kubectl("-n", story.namespace, "logs", pod, "-c", "sluice-proxy")
    events = [json.loads(line) for line in log.splitlines() if '"audit"' in line]
    return [event for event in events if event.get("kind") == "begin"]


def test_governed_job_finishes_with_masked_rows(story: Story):
    story.kubectl.apply(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "report", "namespace": story.namespace},
            "spec": {"backoffLimit": 0, "template": _template(story)},
        }
    )
    story.kubectl(
        "-n",
        story.namespace,
        "wait",
        "--for=condition=Complete",
        "job/report",
        "--timeout=120s",
        timeout_s=130,
    )
    assert not unmasked(_rows(story, "job-name=report"), raw(story.server))


def test_governed_cron_job_finishes(story: Story):
    story.kubectl.apply(
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "nightly", "namespace": story.namespace},
            "spec": {
                "schedule": "0 3 * * *",
                "jobTemplate": {"spec": {"backoffLimit": 0, "template": _template(story)}},
            },
        }
    )
    story.kubectl("-n", story.namespace, "create", "job", "by-hand", "--from=cronjob/nightly")
    story.kubectl(
        "-n",
        story.namespace,
        "wait",
        "--for=condition=Complete",
        "job/by-hand",
        "--timeout=120s",
        timeout_s=130,
    )
    assert not unmasked(_rows(story, "job-name=by-hand"), raw(story.server))


def test_pod_with_two_containers_and_an_init_container_that_migrates(story: Story):
    migrate = (
        "import os, psycopg\n"
        "with psycopg.connect(os.environ['DSN']) as c:\n"
        "    c.execute('CREATE TABLE public.migrated AS SELECT 1 AS version')\n"
    )
    owner = story.dsn(user="shop_app", password="app-pw")
    migration = container(
        story.images,
        "migrate",
        command=["python", "-c", migrate],
        env=[{"name": "DSN", "value": owner}],
    )
    story.server.psql("GRANT CREATE ON SCHEMA public TO shop_app", story.name)
    story.kubectl.apply(
        story.policy(
            f"{story.name}-owner",
            subjects=[{"role": {"names": ["shop_app"]}}],
            rules=[{"name": "all", "effect": "allow"}],
            masks=[{"class": "*", "mask": "none"}],
            rowFilters=None,
        )
    )
    story.ready("dap", f"{story.name}-owner")
    pod = story.pod(
        "both",
        initContainers=[migration],
        containers=[container(story.images, "one"), container(story.images, "two")],
    )
    pod["metadata"]["annotations"] = {"sluice.dev/audit-log": "stdout"}
    story.kubectl.apply(pod)
    story.wait_ready("both")
    truth = raw(story.server)
    for name in ("one", "two"):
        assert not unmasked(story.client("both", container=name).execute(MASKED), truth)
    assert story.server.psql("SELECT version FROM migrated", story.name) == [["1"]]
    # The migration was not let past the sidecar: what reached the database is what it was planned to be.
    created = [line for line in story.received() if "migrated" in line]
    assert created
    governed = {
        event["identity"]["role"]
        for event in _audit(story, "both")
        if "migrated" in event.get("template", "")
    }
    assert governed == {"shop_app"}, "the sidecar recorded the migration"
