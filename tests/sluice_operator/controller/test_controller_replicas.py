"""Two replicas, kills, and changes while nobody was there."""

from __future__ import annotations

import asyncio
import time

from sluice_operator.kube.client import path_of


async def _holder(cluster) -> str:
    path = path_of("coordination.k8s.io/v1", "leases", cluster.namespace, "sluice-controller")
    lease = await cluster.kube.find(path)
    return "" if lease is None else lease["spec"].get("holderIdentity") or ""


async def _led_by(cluster, name: str, timeout_s: float = 40) -> None:
    ends = time.monotonic() + timeout_s
    while not (await _holder(cluster)).startswith(name):
        assert time.monotonic() < ends, await _holder(cluster)
        await asyncio.sleep(0.05)


async def test_another_replica_takes_over_and_never_goes_back(cluster, start):
    first = start()
    await cluster.apply(cluster.classification(), cluster.policy())
    profile = await cluster.pod("web-1")
    before = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    await _led_by(cluster, first.name)
    second = start()
    await cluster.until(second.is_ready, 40, "the second replica")
    await asyncio.sleep(1)
    assert (await _holder(cluster)).startswith(first.name)
    first.kill()
    await _led_by(cluster, second.name)
    await cluster.apply(cluster.policy(masks=[{"class": "pii.email", "mask": "hash"}]))
    after = await cluster.bundle_with(profile, lambda b: b.revision != before.revision)
    assert after.sequence > before.sequence
    # Told to stop, it gives the Lease back: nobody waits for it to run out.
    third = start()
    await cluster.until(third.is_ready, 40, "the third replica")
    await asyncio.sleep(0.6)
    second.stop()
    assert second.exit_code == 0
    await _led_by(cluster, third.name, 3)


async def test_what_changed_while_no_replica_ran_is_made_up_for(cluster, start):
    first = start()
    await cluster.apply(cluster.classification(), cluster.policy(), cluster.policy("second"))
    profile = await cluster.pod("web-1")
    before = await cluster.bundle_with(profile, lambda b: b.policies() == ["app", "second"])
    first.kill()
    await cluster.delete(cluster.policy("second"))
    await cluster.delete(cluster.classification())
    other = await cluster.pod("web-2", {"app": "other"})
    start()
    bundle = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    assert bundle.sequence > before.sequence
    assert bundle.database("shop")["state"] == "denied"
    assert (await cluster.bundle_with(other, lambda _: True)).policies() == ["app"]


async def test_api_server_away_for_a_while_is_survived(cluster, start):
    replica = start()
    await cluster.apply(cluster.classification(), cluster.policy())
    profile = await cluster.pod("web-1")
    before = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    cluster.api.halt()
    try:
        await asyncio.sleep(4)
    finally:
        # In this thread: its programs are told to die with the thread that started them.
        cluster.api.resume()
    await cluster.apply(cluster.policy(masks=[{"class": "pii.email", "mask": "hash"}]))
    after = await cluster.bundle_with(profile, lambda b: b.revision != before.revision, 45)
    assert after.sequence > before.sequence
    assert replica.exit_code is None


async def test_invalid_generation_leaves_the_last_valid_one_in_force(cluster, start):
    first = start()
    await cluster.apply(cluster.classification(), cluster.policy(), cluster.policy("other"))
    profile = await cluster.pod("web-1")
    before = await cluster.bundle_with(profile, lambda b: b.policies() == ["app", "other"])
    good = before.policy("app")
    await cluster.condition(cluster.policy(), "Ready", "True")
    broken = cluster.policy(rowFilters=[{"table": "public.users", "where": "1=1) OR (true"}])
    await cluster.apply(broken)
    compiled = await cluster.condition(broken, "Compiled", "False", "Invalid")
    assert "spec.rowFilters[0].where" in compiled["message"]
    assert "generation 1 stays in force" in compiled["message"]
    # The other one goes on, and the broken one's last valid generation with it; also for a new process.
    await cluster.apply(cluster.policy("other", masks=[{"class": "pii.email", "mask": "hash"}]))
    after = await cluster.bundle_with(
        profile, lambda b: b.policy("other")["masks"][0]["mask"] == {"kind": "hash"}
    )
    assert after.policy("app") == good
    first.kill()
    start()
    await cluster.apply(cluster.policy("other", masks=[{"class": "pii.email", "mask": "null"}]))
    after = await cluster.bundle_with(
        profile, lambda b: b.policy("other")["masks"][0]["mask"] == {"kind": "null"}
    )
    assert after.policy("app") == good
    enforced = await cluster.condition(broken, "Enforced", "False")
    assert enforced["reason"] in ("SidecarsStale", "OlderGeneration")


async def test_bundles_are_signed_again_before_they_are_too_old(cluster, start):
    start(SLUICE_POLICY_AGE_SECONDS_MAX="8")
    await cluster.apply(cluster.classification(), cluster.policy())
    profile = await cluster.pod("web-1")
    first = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    second = await cluster.bundle_with(profile, lambda b: b.sequence > first.sequence)
    third = await cluster.bundle_with(profile, lambda b: b.sequence > second.sequence)
    assert first.revision == third.revision
    assert third.annotations["sluice.dev/revision-since"] == str(first.sequence)
    assert third.manifest["metadata"]["max_policy_age_s"] == 8
    assert third.manifest["metadata"]["issued_at"] > first.manifest["metadata"]["issued_at"]
