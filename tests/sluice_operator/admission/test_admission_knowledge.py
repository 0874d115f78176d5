"""What is known changes while a pod waits: fed as the watches feed it, without a connection."""

import asyncio
import base64
import dataclasses
import json
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from sluice_operator.admission.injection import inject
from sluice_operator.admission.knowledge import Knowledge
from sluice_operator.admission.model import Namespace, Trust
from sluice_operator.admission.reviews import Answer, Review
from sluice_operator.admission.webhooks import Webhooks
from sluice_operator.kube.errors import UnavailableError


class Away:
    """A connection without an API server behind it."""

    async def find(self, path: str) -> None:
        raise UnavailableError(path)


def trust_map(ca_pem: str, previous: str | None = None) -> dict[str, Any]:
    """``sluice-trust`` as the controller writes it."""

    def data(ca: str) -> dict[str, str]:
        return {"ca.pem": ca, "keys.json": json.dumps({"k1": "KEY ONE\n", "k2": "KEY TWO\n"})}

    before = {} if previous is None else {"previous.json": json.dumps(data(previous))}
    return {"data": {**data(ca_pem), **before}}


@pytest.fixture
async def knowledge() -> Knowledge:
    found = Knowledge(cast("Any", Away()), "sluice-system", "cluster.local")
    for watch in found._watches:
        watch.synced.set()
    found._put_namespace({"metadata": {"name": "support"}})
    found._put_trust(trust_map("CA\n"))
    return found


@pytest.fixture
def webhooks(knowledge, settings) -> Webhooks:
    return Webhooks(knowledge, settings, CollectorRegistry())


def review(pod: dict[str, Any], operation: str = "CREATE", old: Any = None) -> Review:
    return Review("u", operation, "Pod", "support", "desk", pod, old or {})


def _patch(answer: Answer) -> bytes:
    return base64.b64decode(answer.document("u")["response"]["patch"])


async def test_validation_waits_for_what_another_replica_knew_already(  # noqa: PLR0917
    knowledge, webhooks, pod, estate_of, classification, settings, apply_patch
):
    new = classification("crm", "crm", ["crm-pg"])
    stored = apply_patch(inject(pod, Namespace("support"), estate_of(new), settings).patch, pod)
    waiting = asyncio.create_task(webhooks.validate_pod(review(stored)))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    knowledge._put_resource("DataClassification", new)
    assert (await waiting).allowed


async def test_validation_gives_up_in_time_and_says_to_try_again(  # noqa: PLR0917
    webhooks, pod, estate_of, classification, settings, apply_patch, monkeypatch
):
    monkeypatch.setattr("sluice_operator.admission.webhooks.SETTLE_S", 0.1)
    new = classification("crm", "crm", ["crm-pg"])
    stored = apply_patch(inject(pod, Namespace("support"), estate_of(new), settings).patch, pod)
    answer = await webhooks.validate_pod(review(stored))
    assert not answer.allowed
    assert "create it again" in answer.message


async def test_pod_that_was_injected_before_a_rotation_is_stored_after_it(
    knowledge, webhooks, pod, apply_patch
):
    patch = json.loads(_patch(await webhooks.mutate_pod(review(pod))))
    knowledge._put_trust(trust_map("NEW CA\n", previous="CA\n"))
    assert (await webhooks.validate_pod(review(apply_patch(patch, pod)))).allowed


async def test_trust_of_two_rotations_ago_is_no_longer_taken(
    knowledge, webhooks, pod, apply_patch, monkeypatch
):
    monkeypatch.setattr("sluice_operator.admission.webhooks.SETTLE_S", 0.1)
    patch = json.loads(_patch(await webhooks.mutate_pod(review(pod))))
    knowledge._put_trust(trust_map("NEWEST CA\n", previous="NEW CA\n"))
    answer = await webhooks.validate_pod(review(apply_patch(patch, pod)))
    assert not answer.allowed
    assert "env SLUICE_TRUST" in answer.message


async def test_trust_that_another_replica_knew_first_is_asked_for(  # noqa: PLR0917
    knowledge, webhooks, pod, settings, apply_patch, estate_of
):
    """Not waited for: the watch may be behind for longer than a webhook may take."""

    class There:
        async def find(self, path: str) -> dict[str, Any]:
            assert path.endswith("/namespaces/sluice-system/configmaps/sluice-trust")
            return trust_map("NEW CA\n", previous="CA\n")

    newer = dataclasses.replace(settings, trust=Trust("NEW CA\n", settings.trust.keys))
    stored = apply_patch(inject(pod, Namespace("support"), estate_of(), newer).patch, pod)
    knowledge._kube = There()
    assert (await webhooks.validate_pod(review(stored))).allowed


async def test_nothing_is_injected_before_the_controller_published_its_keys(
    knowledge, webhooks, pod
):
    knowledge._put_trust({})
    document = (await webhooks.mutate_pod(review(pod))).document("u")
    assert document["response"]["status"]["code"] == 503
    assert "Sluice is starting" in document["response"]["status"]["message"]


async def test_resource_that_cannot_be_read_leaves_its_last_version(knowledge, classification):
    sound = classification("shop", "shop", ["pg"])
    knowledge._put_resource("DataClassification", sound)
    broken = json.loads(json.dumps(sound))
    broken["spec"]["database"]["hosts"] = []
    knowledge._put_resource("DataClassification", broken)
    assert knowledge.estate.generations == {"shop/shop": 1}
    knowledge._drop_resource("DataClassification", ("shop", "shop"))
    assert knowledge.estate.generations == {}


async def test_failure_of_ours_denies(webhooks, pod):
    pod["spec"]["containers"] = 7
    answer = await webhooks._answered("mutate-pods", review(pod), webhooks.mutate_pod)
    assert not answer.allowed
    assert "could not judge" in answer.message


async def test_update_is_judged_whatever_is_known(knowledge, webhooks, pod):
    """Finalizers must come off and applications change while Sluice starts."""
    knowledge._put_trust({})
    assert (await webhooks.validate_pod(review(pod, "UPDATE", pod))).allowed
