"""From applied resources to signed bundles."""

from __future__ import annotations

import asyncio
import json
import time


async def test_applied_resources_become_a_signed_bundle(cluster, controller):
    await cluster.apply(cluster.classification(), cluster.policy())
    profile = await cluster.pod("web-1")
    bundle = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    assert bundle.database("shop")["state"] == "active"
    metadata = bundle.manifest["metadata"]
    assert metadata["profile"] == profile.id == bundle.annotations["sluice.dev/profile"]
    assert metadata["sequence"] == bundle.sequence >= time.time() - 60
    assert bundle.manifest["revision"] == bundle.revision
    keys = json.loads((await cluster.trust())["keys.json"])
    assert bundle.signed_by(keys) in keys
    assert len(keys) == 2
    assert metadata["trust"]["keys"] == keys
    ready = await cluster.condition(cluster.policy(), "Ready", "True")
    assert ready["reason"] == "Ready"
    await cluster.condition(cluster.classification(), "Compiled", "True")
