"""Whatever way the application's DSN names the database, the sidecar stands before it."""

from __future__ import annotations

import pytest

from sluice_dev.kubectl import DeniedError, PodClient
from sluice_dev.story import MASKED, SHOP, Story, container, raw, unmasked

LOOK = f"""
import os, psycopg
dsn = os.environ.get("DSN") or open("/etc/dsn/url").read()
with psycopg.connect(dsn) as c:
    print(c.execute("{MASKED}").fetchall()[0][1])
"""


SERVICE = f"shop-pg.{SHOP}"
FORMS = (SERVICE, f"{SERVICE}.svc", f"{SERVICE}.svc.cluster.local")


@pytest.mark.parametrize("host", FORMS)
def test_every_form_of_the_services_name_is_captured(story: Story, host: str):
    name = "forms"
    if story.kubectl.find("-n", story.namespace, "pod", name) is None:
        story.start(story.pod(name))
    client = story.client(name, dsn=story.dsn(host=host))
    assert not unmasked(client.execute(MASKED), raw(story.server))


def test_short_name_is_captured_in_the_services_own_namespace(story: Story):
    pod = story.pod("short")
    pod["metadata"]["namespace"] = SHOP
    pod["spec"].pop("serviceAccountName")
    story.kubectl.apply(
        story.policy(f"{story.name}-own", subjects=[{"workload": {"podLabels": {"app": "short"}}}])
    )
    story.ready("dap", f"{story.name}-own")
    try:
        story.kubectl.apply(pod)
        story.kubectl("-n", SHOP, "wait", "--for=condition=Ready", "pod/short", "--timeout=90s")
        client = PodClient(story.kubectl, SHOP, "short", story.dsn(host="shop-pg"))
        try:
            assert not unmasked(client.execute(MASKED), raw(story.server))
        finally:
            client.close()
    finally:
        story.kubectl.run(
            "-n", SHOP, "delete", "pod", "short", "--ignore-not-found", "--wait=false"
        )


def test_dsn_in_a_secret_by_environment_and_by_file(story: Story):
    name = "desk-database"
    story.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": story.namespace},
            "stringData": {"url": story.dsn()},
        }
    )
    by_env = container(
        story.images,
        "env",
        command=["python", "-c", LOOK],
        env=[{"name": "DSN", "valueFrom": {"secretKeyRef": {"name": name, "key": "url"}}}],
    )
    by_file = container(
        story.images,
        "file",
        command=["python", "-c", LOOK],
        volumeMounts=[{"name": "dsn", "mountPath": "/etc/dsn"}],
    )
    volumes = [{"name": "dsn", "secret": {"secretName": name}}]
    pod = story.pod("secrets", restartPolicy="Never", containers=[by_env, by_file], volumes=volumes)
    story.kubectl.apply(pod)
    story.kubectl(
        "-n", story.namespace, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/secrets", "--timeout=90s"
    )  # fmt: skip
    truth = raw(story.server)[0][1]
    for one in ("env", "file"):
        shown = story.kubectl("-n", story.namespace, "logs", "secrets", "-c", one).strip()
        assert "@" in shown
        assert shown != truth


def test_database_that_no_classification_names_is_refused(story: Story):
    """The server is captured; a database on it that nobody classified is not let through unexamined."""
    client = story.client("forms", dsn=story.dsn("postgres"))
    with pytest.raises(DeniedError):
        client.execute("SELECT 1")
