"""Deleting does not un-govern: what pods came under it for is denied, never raw."""

from __future__ import annotations

import json
import threading
import time

import pytest

from sluice_dev.kubectl import DeniedError, until
from sluice_dev.story import SHOP, Story, namespace

QUERY = "SELECT email FROM users WHERE id = 1"


def test_deleted_classification_denies_under_load(story: Story):
    client = story.start(story.pod("desk"))
    raw = story.server.psql(QUERY)[0][0]
    seen: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                seen.append(client.execute(QUERY)[0][0])
            except DeniedError as error:
                seen.append(f"error {error.sqlstate}")

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    until(lambda: len(seen) > 5, within_s=20)
    story.kubectl("-n", SHOP, "delete", "dcl", story.name)
    until(lambda: seen[-1].startswith("error"), within_s=20)
    until(lambda: len(seen) > 50, within_s=20)
    stop.set()
    thread.join(10)
    assert raw not in seen
    with pytest.raises(DeniedError) as denied:
        client.execute("SELECT count(*) FROM orders")
    # A connection that is refused has no code in psycopg, only its words.
    assert denied.value.sqlstate in {"42501", "57P01"} or "DatabaseAccessPolicy" in str(
        denied.value
    )
    client.disconnect()
    with pytest.raises(DeniedError):
        client.execute(QUERY)


def test_classification_that_comes_back_governs_again(story: Story):
    story.kubectl.apply(story.classification())
    story.ready("dcl", story.name)
    client = story.client("desk")
    raw = story.server.psql(QUERY)[0][0]

    def masked() -> bool:
        try:
            return client.execute(QUERY)[0][0] != raw
        except DeniedError:
            client.disconnect()
            return False

    until(masked, within_s=30)


def test_deleted_policy_denies(story: Story):
    client = story.client("desk")
    client.execute(QUERY)
    story.kubectl("-n", SHOP, "delete", "dap", story.name)

    def denied() -> bool:
        try:
            client.execute(QUERY)
        except DeniedError:
            return True
        return False

    until(denied, within_s=20)


def test_deleted_namespace_of_the_classification_denies_its_pods(story: Story):
    """The database's owner goes away with all that is in the namespace, in whatever order: its pods stay governed."""
    owner = f"e2e-{story.name}-owner"
    story.kubectl.run("delete", "namespace", owner, "--ignore-not-found", "--timeout=60s")
    story.kubectl.apply(namespace(owner))
    address = story.kubectl.pods(SHOP, "app=shop-pg")[0]["status"]["podIP"]
    story.kubectl.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "pg", "namespace": owner},
         "spec": {"ports": [{"port": 5432}]}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
         "metadata": {"name": "pg-1", "namespace": owner, "labels": {"kubernetes.io/service-name": "pg"}},
         "ports": [{"port": 5432}], "endpoints": [{"addresses": [address]}]},
    )  # fmt: skip
    host = f"pg.{owner}.svc"
    # The sidecars read the catalog with what their own namespace holds.
    name = f"{story.name}-owned"
    story.add_database(name)
    story.kubectl(
        "-n", story.namespace, "patch", "secret", f"{name}-catalog", "-p", json.dumps({"stringData": {"host": host}})
    )  # fmt: skip
    classification, policy = story.classification(name), story.policy(name)
    classification["spec"]["database"]["hosts"] = [host]
    for document in (classification, policy):
        document["metadata"]["namespace"] = owner
    story.kubectl.apply(classification, policy)
    dsn = story.dsn(name, host=host)
    truth = story.server.psql(QUERY)[0][0]
    client = story.start(story.pod("owned"))
    seen: list[str] = []

    def shown(*, session: str = "") -> str:
        try:
            seen.append(str(client.execute(QUERY, session=session, dsn=dsn)[0][0]))
        except DeniedError as error:
            seen.append(f"error {error.sqlstate}")
        return seen[-1]

    until(lambda: "@" in shown(), within_s=60)
    story.kubectl("delete", "namespace", owner, "--timeout=90s", timeout_s=100)
    until(lambda: shown(session="new").startswith("error"), within_s=30)
    until(lambda: shown().startswith("error"), within_s=30, what="old sessions are denied, too")
    time.sleep(2)
    assert shown().startswith("error")
    assert truth not in seen


def test_namespace_of_governed_pods_can_be_deleted(story: Story):
    story.kubectl("delete", "namespace", story.namespace, "--timeout=90s", timeout_s=100)
