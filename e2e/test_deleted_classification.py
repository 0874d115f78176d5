"""THREATS 12: deleting does not un-govern: what pods came under it for is denied, never raw."""

from __future__ import annotations

import threading

import pytest

from sluice_dev.kubectl import DeniedError, until
from sluice_dev.story import SHOP, Story

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


def test_namespace_of_governed_pods_can_be_deleted(story: Story):
    story.kubectl("delete", "namespace", story.namespace, "--timeout=90s", timeout_s=100)
