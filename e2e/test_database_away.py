"""The database goes and comes back: the pod stays ready, the client sees PostgreSQL's own kind of error with a HINT."""

from __future__ import annotations

import time

import pytest

from sluice_dev.kubectl import DeniedError, until
from sluice_dev.story import MASKED, SHOP, Document, Story, raw, unmasked


def _ready(story: Story) -> Document:
    """The pod's condition, with the time of its last change."""
    conditions = story.kubectl.get("-n", story.namespace, "pod", "desk")["status"]["conditions"]
    found = next(c for c in conditions if c["type"] == "Ready")
    assert found["status"] == "True"
    return {"since": found["lastTransitionTime"]}


def test_pod_stays_ready_and_the_error_names_the_upstream(story: Story):
    client = story.start(story.pod("desk"))
    assert not unmasked(client.execute(MASKED), raw(story.server))
    ready = _ready(story)
    # The Service loses its endpoint; the server itself and its data stay for the other stories.
    story.kubectl(
        "-n", SHOP, "patch", "service", "shop-pg", "-p", '{"spec":{"selector":{"app":"nobody"}}}'
    )
    try:
        client.disconnect()

        def refused() -> DeniedError | None:
            try:
                client.execute("SELECT 1", session="new")
            except DeniedError as error:
                return error
            client.disconnect("new")
            return None

        error = until(refused, within_s=40)
        assert "shop-pg" in str(error), error
        assert "HINT" in str(error), error
        time.sleep(5)  # As long as several failed probes would take.
        assert _ready(story) == ready, "the pod has been ready all the while"
    finally:
        story.kubectl(
            "-n",
            SHOP,
            "patch",
            "service",
            "shop-pg",
            "-p",
            '{"spec":{"selector":{"app":"shop-pg"}}}',
        )

    def again() -> bool:
        try:
            return not unmasked(client.execute(MASKED, session="later"), raw(story.server))
        except DeniedError:
            return False

    until(again, within_s=40)
    assert story.restarts("desk") == 0


def test_pod_becomes_ready_while_the_database_is_away(story: Story):
    """Readiness is the listener and the bundle, never the database."""
    story.kubectl(
        "-n", SHOP, "patch", "service", "shop-pg", "-p", '{"spec":{"selector":{"app":"nobody"}}}'
    )
    try:
        client = story.start(story.pod("early"))
        with pytest.raises(DeniedError):
            client.execute("SELECT 1")
    finally:
        story.kubectl(
            "-n",
            SHOP,
            "patch",
            "service",
            "shop-pg",
            "-p",
            '{"spec":{"selector":{"app":"shop-pg"}}}',
        )
