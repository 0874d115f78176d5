"""What is wrong with a resource is said when it is applied, by schema, CEL or webhook, naming the field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from sluice_dev.kubectl import until
from sluice_dev.story import SHOP, Story


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
    """THREATS 11: nobody takes somebody else's database by a classification of his own."""
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
    """THREATS 11."""
    foreign = story.policy(
        "foreign",
        rules=[{"name": "all", "effect": "allow"}],
        masks=[{"class": "*", "mask": "none"}],
    )
    foreign["metadata"]["namespace"] = story.namespace
    foreign["spec"].pop("rowFilters")
    story.kubectl.run(
        "apply", "-f", "-", stdin=_yaml(foreign)
    )  # Refused or without effect: both will do.
    client = story.start(story.pod("desk"))
    truth = story.server.psql("SELECT email FROM users WHERE id = 1")[0][0]
    assert client.execute("SELECT email FROM users WHERE id = 1")[0][0] != truth


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document)
