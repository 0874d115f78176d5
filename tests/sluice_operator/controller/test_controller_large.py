"""Bundles that fill a ConfigMap: what worked before is kept all the same, and what fits none is refused."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from sluice_operator.bundle_names import APART, before_name
from sluice_operator.kube.client import path_of

HASHED = [{"class": "pii.email", "mask": "hash"}]
ENTRIES = 2200
"""Of names that no packing makes smaller: more than half of what a ConfigMap takes."""


def large(cluster, name: str, entries: int = ENTRIES):
    random.seed(name)
    columns = [
        {
            "table": "public.users",
            "column": "".join(chr(random.randrange(0x4E00, 0x9FA5)) for _ in range(120)),
            "class": "pii.email",
        }
        for _ in range(entries)
    ]
    return cluster.classification(name, columns=columns)


@pytest.fixture
def create(cluster, tmp_path):
    """A function that creates something; not by apply, which would keep it all once more beside it."""

    async def make(item):
        file = tmp_path / f"{item['metadata']['name']}.json"
        file.write_text(json.dumps(item, ensure_ascii=False))
        await asyncio.to_thread(cluster.api.kubectl, "create", "-f", str(file))

    return make


async def apart(cluster, profile):
    path = path_of("v1", "configmaps", cluster.namespace, before_name(profile.id))
    return await cluster.kube.find(path)


def is_active(bundle) -> bool:
    """Not so while the pod was seen before the classification: what it names and nobody knows is denied."""
    return bundle.policies() == ["app"] and bundle.database("shop")["state"] == "active"


def failed(profile, bundle):
    return {
        "profile": profile.id,
        "sequence": bundle.sequence,
        "count": 1,
        "namespace": profile.namespace,
        "pod": "web-1",
        "message": "rego_type_error: undefined function",
    }


async def test_large_content_that_sidecars_cannot_activate_is_withdrawn(cluster, create):
    await create(large(cluster, "shop"))
    await cluster.apply(cluster.policy())
    profile = await cluster.pod("web-1")
    good = await cluster.bundle_with(profile, is_active)
    assert 2 * len(good.raw) > 1 << 20
    await cluster.report("a", {profile.id: {str(good.sequence): 1}})
    await cluster.condition(cluster.policy(), "Enforced", "True")
    await cluster.apply(cluster.policy(masks=HASHED))
    bad = await cluster.bundle_with(profile, lambda b: b.revision != good.revision)
    assert bad.annotations[APART] == "true"
    assert await apart(cluster, profile)
    counts = {profile.id: {str(good.sequence): 1}}
    await cluster.report("a", counts, failed=[failed(profile, bad)])
    again = await cluster.bundle_with(profile, lambda b: b.sequence > bad.sequence)
    assert again.revision == good.revision
    assert again.files["data.json"] == good.files["data.json"]
    # Nothing is kept beside what went out again, and nothing is left behind.
    assert APART not in again.annotations

    async def gone() -> bool | None:
        return await apart(cluster, profile) is None or None

    await cluster.until(gone, 20, "the ConfigMap of its own to be deleted")
    told = await cluster.condition(cluster.policy(), "Compiled", "False", "ActivationFailed")
    assert "rego_type_error" in told["message"]


async def test_content_that_no_config_map_takes_is_refused_and_told(cluster, create):
    await create(large(cluster, "shop"))
    await cluster.apply(cluster.policy())
    profile = await cluster.pod("web-1")
    good = await cluster.bundle_with(profile, is_active)
    more = large(cluster, "more")
    await create(more)
    told = await cluster.condition(more, "Compiled", "False", "TooLarge")
    assert f"not published for {profile.id}: its bundle has " in told["message"]
    assert "a ConfigMap takes 1024" in told["message"]
    assert "the bundle before it stays in force" in told["message"]
    # What did not change is not to blame, and what is in force is what was.
    await cluster.condition(cluster.policy(), "Compiled", "True")
    bundle = await cluster.bundle(profile)
    assert bundle.data["databases"].keys() == good.data["databases"].keys()
    assert bundle.revision == good.revision
    await cluster.delete(more)
    await cluster.apply(cluster.policy(masks=HASHED))
    await cluster.bundle_with(
        profile, lambda b: b.policy("app")["masks"][0]["mask"]["kind"] == "hash"
    )


async def test_what_is_in_force_is_signed_again_while_newer_content_is_refused(
    cluster, start, create
):
    # Signed again every two seconds.
    start(SLUICE_POLICY_AGE_SECONDS_MAX="8")
    await create(large(cluster, "shop"))
    await cluster.apply(cluster.policy())
    profile = await cluster.pod("web-1")
    good = await cluster.bundle_with(profile, is_active)
    more = large(cluster, "more")
    await create(more)
    await cluster.condition(more, "Compiled", "False", "TooLarge")
    seen = (await cluster.bundle(profile)).sequence
    for _ in range(2):
        later = await cluster.bundle_with(profile, lambda b, s=seen: b.sequence > s)
        assert later.revision == good.revision
        seen = later.sequence
