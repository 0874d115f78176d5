"""Many policies and one that breaks; a namespace that goes, piece by piece, in any order."""

from __future__ import annotations

import itertools

import pytest

from sluice_operator.kube.client import path_of

POLICIES = 50
HASH = [{"class": "pii.email", "mask": "hash"}]


async def test_one_broken_policy_of_fifty_keeps_its_old_version_and_holds_up_nobody(cluster):
    names = [f"app-{number:02}" for number in range(POLICIES)]
    await cluster.apply(cluster.classification(), *(cluster.policy(name) for name in names))
    profile = await cluster.pod("web-1")
    before = await cluster.bundle_with(profile, lambda b: b.policies() == names)
    old = before.policy("app-49")
    broken = cluster.policy(
        "app-49", rowFilters=[{"table": "public.users", "where": "1=1) OR (true"}], masks=HASH
    )
    await cluster.apply(broken)
    told = await cluster.condition(broken, "Compiled", "False", "Invalid")
    assert "generation 1 stays in force" in told["message"]
    # The others are live: what changes in each of them is in force, and the broken one's old version with it.
    for name in names[:-1]:
        await cluster.apply(cluster.policy(name, masks=HASH))
    after = await cluster.bundle_with(
        profile,
        lambda b: all(b.policy(n)["masks"][0]["mask"]["kind"] == "hash" for n in names[:-1]),
    )
    assert after.policies() == names
    assert after.policy("app-49") == old
    for name in names[:-1]:
        await cluster.condition(cluster.policy(name), "Ready", "True")
    await cluster.condition(broken, "Ready", "False", "Invalid")
    # Gone while it is broken: its old version goes with it, and nothing else does.
    await cluster.delete(broken)
    await cluster.bundle_with(profile, lambda b: b.policies() == names[:-1])


def _closed(bundle) -> bool:
    """Whether nothing of the database is shown raw: denied, masked, or allowed by nobody."""
    if bundle.database("shop")["state"] == "denied" or not bundle.policies():
        return True
    return bundle.policy("app")["masks"][0]["mask"]["kind"] == "redact"


@pytest.mark.parametrize("order", list(itertools.permutations(("dcl", "dap", "pod"))), ids="-".join)
async def test_namespace_goes_in_any_order_and_shows_nothing_on_the_way(cluster, controller, order):
    await cluster.apply(cluster.classification(), cluster.policy())
    profile = await cluster.pod("web-1")
    await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    # Nothing can be created in it any more; its contents go one by one.
    await cluster.kube.delete(path_of("v1", "namespaces", None, cluster.home))
    seen = len(controller.lines())
    there = {"dcl", "dap", "pod"}
    for kind in order:
        there.discard(kind)
        if kind == "pod":
            await cluster.delete_pod("web-1")
            continue
        await cluster.delete(cluster.classification() if kind == "dcl" else cluster.policy())
        if "pod" not in there:
            continue
        bundle = await cluster.bundle_with(
            profile,
            lambda b: (
                (b.database("shop")["state"] == "denied") == ("dcl" not in there)
                and bool(b.policies()) == ("dap" in there)
            ),
        )
        assert _closed(bundle)
    # What is left behind hinders nobody: another namespace is served as ever.
    await cluster.make_namespace(f"{cluster.home}-next")
    cluster.home = f"{cluster.home}-next"
    await cluster.apply(cluster.classification(), cluster.policy())
    other = await cluster.pod("web-1")
    await cluster.bundle_with(other, lambda b: b.policies() == ["app"])
    assert not [
        line for line in controller.lines()[seen:] if line["level"] in ("error", "critical")
    ]
