"""Content that sidecars cannot activate goes away again: by what they report."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from sluice_operator.kube.client import path_of
from sluice_policy import Profile

HASHED = [{"class": "pii.email", "mask": "hash"}]


def failed(profile, bundle, count: int = 1) -> dict[str, Any]:
    return {
        "profile": profile.id,
        "sequence": bundle.sequence,
        "count": count,
        "namespace": profile.namespace,
        "pod": "web-1",
        "message": "rego_type_error: undefined function",
    }


async def in_force(cluster, profile, count: int = 2):
    """Two sidecars, and content that both have."""
    await cluster.apply(cluster.classification(), cluster.policy())
    for number in range(count):
        await cluster.pod(f"web-{number}")
    bundle = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    await cluster.report("a", {profile.id: {str(bundle.sequence): count}})
    await cluster.condition(cluster.policy(), "Enforced", "True")
    return bundle


async def changed(cluster, profile, before):
    await cluster.apply(cluster.policy(masks=HASHED))
    return await cluster.bundle_with(profile, lambda b: b.revision != before.revision)


@pytest.fixture
def profile(cluster):
    return Profile(cluster.home, "default", {"app": "web"})


async def test_content_that_sidecars_cannot_activate_is_withdrawn(cluster, profile):
    good = await in_force(cluster, profile, 150)
    bad = await changed(cluster, profile, good)
    # One of 150 is not more than a hundredth.
    counts = {str(good.sequence): 150}
    await cluster.report("a", {profile.id: counts}, failed=[failed(profile, bad)])
    await asyncio.sleep(1.5)
    assert (await cluster.bundle(profile)).sequence == bad.sequence
    await cluster.report("a", {profile.id: counts}, failed=[failed(profile, bad, 2)])
    again = await cluster.bundle_with(profile, lambda b: b.sequence > bad.sequence)
    assert again.revision == good.revision
    assert again.files["data.json"] == good.files["data.json"]
    assert again.signed_by(json.loads((await cluster.trust())["keys.json"]))
    told = await cluster.condition(cluster.policy(), "Compiled", "False", "ActivationFailed")
    assert "OPA in 2 of 150 sidecars cannot activate it" in told["message"]
    assert "rego_type_error" in told["message"]
    await cluster.condition(cluster.policy(), "Ready", "False", "ActivationFailed")
    # What did not change is not to blame.
    await cluster.condition(cluster.classification(), "Compiled", "True")

    async def event() -> bool | None:
        return any(one["reason"] == "ActivationFailed" for one in await cluster.events()) or None

    await cluster.until(event, 40, "an Event")
    # It stays so, and the next change is tried again.
    await cluster.report("a", {profile.id: {str(again.sequence): 150}})
    await asyncio.sleep(1.5)
    assert (await cluster.bundle(profile)).sequence == again.sequence
    await cluster.apply(cluster.policy(masks=[{"class": "pii.email", "mask": "null"}]))
    mended = await cluster.bundle_with(profile, lambda b: b.sequence > again.sequence)
    assert mended.revision not in {good.revision, bad.revision}
    await cluster.condition(cluster.policy(), "Compiled", "True")


async def test_sidecars_that_fail_with_everything_hold_nothing_back(cluster, profile):
    """An OPA that activates nothing, or a sidecar that says so, has no vote on what the others get."""
    good = await in_force(cluster, profile)
    bad = await changed(cluster, profile, good)
    counts = {str(good.sequence): 2}
    await cluster.report("a", {profile.id: counts}, failed=[failed(profile, bad)])
    again = await cluster.bundle_with(profile, lambda b: b.sequence > bad.sequence)
    assert again.revision == good.revision
    await cluster.report("a", {profile.id: counts}, failed=[failed(profile, again)])
    acquitted = await cluster.bundle_with(profile, lambda b: b.sequence > again.sequence)
    assert acquitted.revision == bad.revision
    await cluster.report("a", {profile.id: counts}, failed=[failed(profile, acquitted)])
    await asyncio.sleep(1.5)
    assert (await cluster.bundle(profile)).sequence == acquitted.sequence
    await cluster.condition(cluster.policy(), "Compiled", "True")


async def test_first_content_that_fails_is_told(cluster, profile):
    await cluster.apply(cluster.classification(), cluster.policy())
    await cluster.pod("web-0")
    first = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    await cluster.report("a", {profile.id: {"0": 1}}, failed=[failed(profile, first)])
    told = await cluster.condition(cluster.policy(), "Compiled", "False", "ActivationFailed")
    assert "no content before it is known to have worked" in told["message"]


async def test_content_that_somebody_put_beside_is_never_signed(cluster, profile):
    good = await in_force(cluster, profile)
    bad = await changed(cluster, profile, good)
    path = path_of("v1", "configmaps", cluster.namespace, bad.name)
    item = await cluster.kube.get(path)
    planted = base64.b64encode(bad.raw[:-1] + b"x").decode()
    item["binaryData"]["before.tar.gz"] = planted
    await cluster.kube.replace(path, item)
    counts = {str(good.sequence): 2}
    await cluster.report("a", {profile.id: counts}, failed=[failed(profile, bad)])
    later = await cluster.bundle_with(profile, lambda b: b.sequence > bad.sequence)
    assert later.revision == bad.revision
