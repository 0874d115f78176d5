"""What is wrong with a resource is said when it is applied, by schema, CEL or webhook, naming the field."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from sluice_dev.kubectl import DeniedError, until
from sluice_dev.story import SHOP, Story

EMAIL = "SELECT email FROM users WHERE id = 1"


def _misspelt_mode(story: Story) -> dict[str, Any]:
    return story.policy("bad", mode="sometimes")


def _misspelt_field(story: Story) -> dict[str, Any]:
    return story.policy("bad", rowFilter=[])


def _tls_without_ca(story: Story) -> dict[str, Any]:
    document = story.classification("bad")
    document["spec"]["database"]["tls"] = {"mode": "verify-full"}
    return document


def _hostile_expression(story: Story) -> dict[str, Any]:
    return story.policy(
        "bad", rowFilters=[{"table": "public.orders", "where": "1=1) OR (region = 'eu'"}]
    )


def _volatile_function(story: Story) -> dict[str, Any]:
    return story.policy("bad", rowFilters=[{"table": "public.orders", "where": "random() < 0.5"}])


def _transaction_pooler(story: Story) -> dict[str, Any]:
    document = story.classification("bad")
    document["spec"]["database"]["pooler"] = "transaction"
    return document


def _not_supported_yet(story: Story) -> dict[str, Any]:
    document = story.classification("bad")
    document["spec"]["database"]["brokered"] = {"secretRef": {"name": "x"}}
    return document


def _unknown_mask(story: Story) -> dict[str, Any]:
    return story.policy("bad", masks=[{"class": "pii", "mask": "blur"}])


CASES: list[tuple[Callable[[Story], dict[str, Any]], str]] = [
    (_misspelt_mode, "spec.mode"),
    (_misspelt_field, "rowFilter"),
    (_tls_without_ca, "caSecretRef"),
    (_hostile_expression, "spec.rowFilters[0]"),
    (_volatile_function, "random"),
    (_transaction_pooler, "pooler"),
    (_not_supported_yet, "brokered"),
    (_unknown_mask, "spec.masks[0]"),
]


@pytest.mark.parametrize(("make", "field"), CASES, ids=[make.__name__[1:] for make, _ in CASES])
def test_refusal_names_the_field(story: Story, make: Callable[[Story], dict[str, Any]], field: str):
    refusal = story.kubectl.refusal(make(story))
    assert field in refusal, refusal or "it was taken"
    assert story.kubectl.find("-n", SHOP, "dap", "bad") is None
    assert story.kubectl.find("-n", SHOP, "dcl", "bad") is None


def test_second_claim_on_a_database_is_refused(story: Story):
    """Nobody takes somebody else's database by a classification of his own."""
    # In another namespace, by another form of the same Service's name: a Service belongs to its own namespace.
    foreign = story.classification("bad")
    foreign["metadata"]["namespace"] = story.namespace
    foreign["spec"]["database"].update(name=story.name, hosts=[f"shop-pg.{SHOP}.svc.cluster.local"])
    refusal = story.kubectl.refusal(foreign)
    assert "hosts" in refusal or "shop-pg" in refusal, refusal or "it was taken"
    # In the same namespace, by a second classification.
    second = story.classification("bad")
    second["spec"]["database"]["name"] = story.name
    refusal = story.kubectl.refusal(second)
    if refusal:
        assert story.name in refusal
    else:  # Taken, but it never comes into force: the older one has the database.
        try:
            until(
                lambda: story.condition("dcl", "bad", "Ready").get("reason") == "Conflict",
                within_s=30,
            )
            assert story.condition("dcl", story.name, "Ready")["status"] == "True"
        finally:
            story.kubectl("-n", SHOP, "delete", "dcl", "bad")


def test_policy_in_another_namespace_never_allows(story: Story):
    """Who owns a namespace of pods does not thereby own the database that they come to."""
    foreign = story.policy(
        "foreign",
        rules=[{"name": "all", "effect": "allow"}],
        masks=[{"class": "*", "mask": "none"}],
    )
    foreign["metadata"]["namespace"] = story.namespace
    foreign["spec"].pop("rowFilters")
    refusal = story.kubectl.refusal(foreign)
    # Names are looked up in the policy's own namespace: a policy that finds nothing there is legal and does nothing.
    assert not refusal, refusal
    client = story.start(story.pod("desk"))
    # A change of the owner's comes after it, so both have been compiled when it is seen.
    story.kubectl.apply(story.policy(masks=[{"class": "pii", "mask": "redact"}]))
    until(lambda: "@" not in client.execute(EMAIL)[0][0], within_s=30)
    mark = "foreign-marks"
    marked = story.client("desk", dsn=story.dsn(application_name=mark))
    truth = story.server.psql(EMAIL)[0][0]
    assert marked.execute(EMAIL)[0][0] != truth
    assert [row[0] for row in marked.execute("SELECT DISTINCT region FROM orders")] == ["eu"]
    for statement in ("SELECT pan FROM cards WHERE id = 1", "DELETE FROM orders WHERE id = 1"):
        with pytest.raises(DeniedError) as denied:
            marked.execute(statement)
        assert denied.value.sqlstate == "42501"
    time.sleep(0.5)  # The kubelet reads the server's output a little later.
    received = story.server.received(mark, story.begun)
    assert [line for line in received if "region" in line], "the filtered statement was received"
    assert not [line for line in received if "pan" in line.split("LOG:")[1]]
    assert not [line for line in received if "DELETE" in line]
    status = story.kubectl.get("-n", story.namespace, "dap", "foreign").get("status", {})
    assert status.get("sidecars", {"expected": 0})["expected"] == 0


def test_broken_policy_in_another_namespace_changes_nothing(story: Story):
    """Nor does one that denies: a neighbour cannot shut others out of a database."""
    foreign = story.policy("shut", rules=[{"name": "no", "effect": "deny", "actions": ["select"]}])
    foreign["metadata"]["namespace"] = story.namespace
    for optional in ("rowFilters", "masks"):
        foreign["spec"].pop(optional, None)
    assert not story.kubectl.refusal(foreign)
    client = story.client("desk")
    story.kubectl.apply(story.policy())
    until(lambda: "@" in client.execute(EMAIL)[0][0], within_s=30)
