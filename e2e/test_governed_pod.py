"""A labelled pod is governed, the same pod without the label is not; nothing else differs."""

from __future__ import annotations

import pytest

from sluice_dev.kubectl import DeniedError, until
from sluice_dev.story import MASKED, Story, raw, unmasked


def test_labelled_pod_sees_masked_rows_and_the_other_raw_ones(story: Story):
    governed, free = story.pod("governed"), story.pod("free", governed=False)
    story.kubectl.apply(governed, free)
    story.wait_ready("governed")
    story.wait_ready("free")
    truth = raw(story.server)

    rows = story.client("governed").execute(MASKED)
    assert not unmasked(rows, truth)
    assert story.client("free").execute(MASKED) == [[int(a), b, c] for a, b, c in truth]


def test_row_filter_holds(story: Story):
    client = story.client("governed")
    assert [row[0] for row in client.execute("SELECT DISTINCT region FROM orders")] == ["eu"]


def test_masked_column_cannot_be_searched(story: Story):
    ssn = story.server.psql("SELECT ssn FROM users WHERE id = 4711")[0][0]
    governed, free = story.client("governed"), story.client("free")
    query = "SELECT count(*) FROM users WHERE ssn = %s"
    assert (governed.execute(query, ssn), free.execute(query, ssn)) == ([[0]], [[1]])


def test_database_receives_the_rewritten_statement_and_not_the_denied_one(story: Story):
    client = story.client("governed", dsn=story.dsn(application_name="governed-pod-marks"))
    client.execute("SELECT ssn AS received_4711 FROM users WHERE id = 4711")
    with pytest.raises(DeniedError) as denied:
        client.execute("SELECT pan AS denied_4711 FROM cards WHERE id = 1")
    assert denied.value.sqlstate == "42501"
    assert denied.value.hint

    def lines() -> list[str]:
        return story.server.received("governed-pod-marks", story.begun)

    marked = until(lambda: [line for line in lines() if "received_4711" in line], within_s=10)
    # What PostgreSQL was asked to compute is the mask of the column, never the column itself.
    assert "(SELECT" in marked[0], marked[0]
    assert not [line for line in lines() if "denied_4711" in line]


def test_denial_is_told_by_an_event_and_both_resources_by_their_status(story: Story):
    client = story.client("governed")
    with pytest.raises(DeniedError):
        client.execute("SELECT pan FROM cards WHERE id = 1")

    def events() -> list[str]:
        items = story.kubectl.get("-n", story.namespace, "events")["items"]
        return [e["message"] for e in items if e["reason"] == "StatementDenied"]

    messages = until(events, within_s=30)
    assert any("cards" in message or "pan" in message for message in messages), messages
    assert not any("SELECT" in message for message in messages), (
        "an Event must not carry a statement"
    )
    for kind in ("dcl", "dap"):
        found = story.ready(kind, story.name)
        sidecars = until(
            lambda kind=kind: [
                s
                for s in [
                    story.kubectl.get("-n", "e2e-shop", kind, story.name)["status"].get("sidecars")
                ]
                if s and s["expected"] == s["current"] >= 1
            ],
            within_s=40,
        )
        assert sidecars[0]["stale"] == 0
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"]


def test_columns_of_kubectl_get_are_filled(story: Story):
    head, row = story.kubectl("-n", "e2e-shop", "get", "dcl", story.name).splitlines()
    assert "READY" in head
    assert "True" in row
    assert "e2e-shop.svc" in row
    head, row = story.kubectl("-n", "e2e-shop", "get", "dap", story.name).splitlines()
    assert "READY" in head
    assert "True" in row
