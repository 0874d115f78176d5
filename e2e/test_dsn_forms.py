"""Whatever way the application's DSN names the database, the sidecar stands before it."""

from __future__ import annotations

import json

import pytest

from sluice_dev.cache import ROOT
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


def test_read_only_service_gives_the_same_decisions(story: Story):
    """The name by which a database is reached is no way round what was decided for it."""
    service = {"selector": {"app": "shop-pg"}, "ports": [{"port": 5432}]}
    metadata = {"name": "shop-pg-ro", "namespace": SHOP}
    story.kubectl.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service}
    )
    document = story.classification()
    document["spec"]["database"]["hosts"].append(f"shop-pg-ro.{SHOP}.svc")
    try:
        story.kubectl.apply(document)
        story.ready("dcl", story.name)
        client = story.start(story.pod("reader"))
        decisions: list[list[object]] = []
        for number, host in enumerate((*FORMS, *(f.replace("-pg.", "-pg-ro.") for f in FORMS))):
            dsn, session = story.dsn(host=host), f"by{number}"
            seen: list[object] = [client.execute(MASKED, session=session, dsn=dsn)]
            seen += client.execute("SELECT DISTINCT region FROM orders", session=session, dsn=dsn)
            with pytest.raises(DeniedError) as denied:
                client.execute("SELECT pan FROM cards WHERE id = 1", session=session, dsn=dsn)
            decisions.append([*seen, denied.value.sqlstate, denied.value.detail])
        assert not unmasked(decisions[0][0], raw(story.server))  # type: ignore[arg-type]
        assert decisions == [decisions[0]] * 6
    finally:
        story.kubectl.run("-n", SHOP, "delete", "service", "shop-pg-ro", "--ignore-not-found")


def test_address_in_a_dsn_is_the_stated_limit_of_capture(story: Story):
    """Capture `hosts` leads names to the sidecar; an address goes round it, as docs/threat-model.md says.

    Whoever classifies by an address is told so; the pod carries which capture it has, so that nobody takes it for more.
    """
    address = story.kubectl.get("-n", SHOP, "service", "shop-pg")["spec"]["clusterIP"]
    document = story.classification("by-address", enforcement="enforce")
    document["spec"]["database"].update(hosts=[address], name="by-address")
    done = story.kubectl.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(document))
    assert address in done.stderr, done.stderr or "nothing was said about the address"
    pod = story.kubectl.get("-n", story.namespace, "pod", "forms")
    assert pod["metadata"]["annotations"]["sluice.dev/capture"] == "hosts"
    limits = (ROOT / "docs" / "threat-model.md").read_text()
    assert "connect to an address" in limits
    truth = raw(story.server)
    straight = story.client("forms", dsn=story.dsn(host=address)).execute(MASKED)
    assert [row[1] for row in straight] == [row[1] for row in truth], "no limit any more: say so"


def test_database_that_no_classification_names_is_refused(story: Story):
    """The server is captured; a database on it that nobody classified is not let through unexamined."""
    client = story.client("forms", dsn=story.dsn("postgres"))
    with pytest.raises(DeniedError):
        client.execute("SELECT 1")
