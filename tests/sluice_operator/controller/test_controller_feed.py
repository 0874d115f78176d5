"""Two sources tell of the same resources, one of them ahead of the other. The calls are those of the watches."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sluice_operator.controller.estate import Estate
from sluice_operator.controller.feed import ResourceFeed
from sluice_operator.kube.client import Kube

KIND = "DatabaseAccessPolicy"


def policy(uid: str, version: int) -> dict[str, Any]:
    metadata = {
        "name": "support",
        "namespace": "shop",
        "uid": uid,
        "generation": 1,
        "resourceVersion": str(version),
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return {"apiVersion": "sluice.dev/v1alpha1", "kind": KIND, "metadata": metadata, "spec": {}}


@pytest.fixture
def estate() -> Estate:
    return Estate()


@pytest.fixture
def feed(estate: Estate) -> ResourceFeed:
    return ResourceFeed(cast("Kube", None), estate)


def test_end_of_one_does_not_take_the_next_of_its_name(estate, feed):
    feed._told(KIND, policy("old", 1))
    feed._put(policy("old", 1))
    feed._put(policy("new", 3))  # kopf is ahead: it has brought the next one already.
    feed._told_gone(KIND, ("shop", "support"))
    feed._told(KIND, policy("new", 3))
    assert set(estate.resources) == {"new"}


def test_another_of_the_same_name_ends_the_one_before(estate, feed):
    feed._told(KIND, policy("old", 1))
    feed._put(policy("old", 1))
    feed._told(KIND, policy("new", 3))
    feed._put(policy("new", 3))
    assert set(estate.resources) == {"new"}


def test_what_is_gone_does_not_come_back_late(estate, feed):
    feed._told(KIND, policy("old", 1))
    feed._told_gone(KIND, ("shop", "support"))
    feed._put(policy("old", 1))
    assert not estate.resources
