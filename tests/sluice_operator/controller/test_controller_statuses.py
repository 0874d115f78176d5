"""What people are told: conditions, counts, Events."""

from __future__ import annotations

import asyncio


async def test_sidecars_are_counted_by_what_they_report(cluster):
    await cluster.apply(cluster.classification(), cluster.policy())
    profile = await cluster.pod("web-1")
    await cluster.pod("web-2")
    policy = cluster.policy()
    bundle = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    stale = await cluster.condition(policy, "Enforced", "False", "SidecarsStale")
    assert stale["message"] == "0 of 2 sidecars report it to be in force"
    await cluster.report("a", {profile.id: {str(bundle.sequence): 1}})
    await cluster.report("b", {profile.id: {str(bundle.sequence - 1): 1}})

    async def counted(expected: int, current: int) -> None:
        async def look() -> bool | None:
            sidecars = (await cluster.read(policy))["status"]["sidecars"]
            wanted = {"expected": expected, "current": current, "stale": expected - current}
            return True if sidecars == wanted else None

        await cluster.until(look, 40, f"{current} of {expected}")

    await counted(2, 1)
    await cluster.report("b", {profile.id: {str(bundle.sequence): 1}})
    await counted(2, 2)
    enforced = await cluster.condition(policy, "Enforced", "True")
    assert enforced["message"] == "in force in all 2 sidecars"
    await cluster.condition(cluster.classification(), "Enforced", "True")
    await cluster.delete_pod("web-2")
    await cluster.report("b", {})
    await counted(1, 1)


async def test_status_stays_as_it_is_when_nothing_happens(cluster):
    await cluster.apply(cluster.classification(), cluster.policy())
    profile = await cluster.pod("web-1")
    bundle = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    await cluster.report("a", {profile.id: {str(bundle.sequence): 1}})
    await cluster.condition(cluster.policy(), "Enforced", "True")
    before = await cluster.read(cluster.policy())
    for _ in range(4):
        await asyncio.sleep(0.7)
        await cluster.report("a", {profile.id: {str(bundle.sequence): 1}})  # Renewed: another time.
    after = await cluster.read(cluster.policy())
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert "finalizers" not in after["metadata"]
    assert not after["metadata"].get("annotations")
    managers = {
        (m["manager"], m["operation"], m.get("subresource"))
        for m in after["metadata"]["managedFields"]
    }
    assert managers == {("test", "Apply", None), ("sluice-controller", "Apply", "status")}


async def test_pods_older_than_a_classification_are_told(cluster):
    await cluster.apply(cluster.classification(), cluster.policy())
    await cluster.pod("web-1", databases={"other/db": 1})
    older = await cluster.condition(cluster.classification(), "Enforced", "False", "PodsOlder")
    assert f"{cluster.home}/web-1" in older["message"]

    async def told() -> dict | None:
        found = [e for e in await cluster.events() if e["reason"] == "PodsOlder"]
        return found[0] if found else None

    event = await cluster.until(told, 40, "an Event")
    assert event["regarding"]["kind"] == "DataClassification"
    assert event["type"] == "Warning"


async def test_a_denial_is_an_event_of_its_pod(cluster):
    await cluster.apply(cluster.classification(), cluster.policy())
    profile = await cluster.pod("web-1")
    await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    denial = {
        "n": 1,
        "namespace": cluster.home,
        "pod": "web-1",
        "database": f"{cluster.home}/shop",
        "policy": f"{cluster.home}/app",
        "rule": "no-deletes",
        "message": "delete is denied",
        "count": 2,
    }
    await cluster.report("a", {}, denials=[denial])

    async def told() -> dict | None:
        found = [e for e in await cluster.events() if e["reason"] == "StatementDenied"]
        return found[0] if found else None

    event = await cluster.until(told, 40, "an Event")
    assert event["regarding"] | {"kind": "Pod", "name": "web-1"} == event["regarding"]
    assert event["note"] == (
        f"database {cluster.home}/shop: delete is denied "
        f"(policy {cluster.home}/app, rule no-deletes)"
    )
    # Renewed and told again by the ring: still one Event.
    await cluster.report("a", {}, denials=[denial, {**denial, "n": 2}])
    await asyncio.sleep(1)
    assert len([e for e in await cluster.events() if e["reason"] == "StatementDenied"]) == 1


async def test_sidecar_problems_are_told(cluster):
    await cluster.apply(cluster.classification(), cluster.policy())
    profile = await cluster.pod("web-1")
    bundle = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    problem = {
        "profile": profile.id,
        "pod": "web-1",
        "database": f"{cluster.home}/shop",
        "message": "mask last does not fit the type of public.users.id",
    }
    await cluster.report("a", {profile.id: {str(bundle.sequence): 1}}, problems=[problem])
    told = await cluster.condition(cluster.classification(), "Enforced", "False", "SidecarProblems")
    assert told["message"] == problem["message"]


async def test_what_sidecars_find_in_the_catalog_is_told(cluster):
    database = cluster.classification()["spec"]["database"]
    mine = cluster.classification(database=database | {"catalogSecretRef": {"name": "reader"}})
    await cluster.apply(mine, cluster.policy())
    await cluster.condition(mine, "CatalogReachable", "Unknown", "NoSidecars")
    profile = await cluster.pod("web-1")
    bundle = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    full_name = f"{cluster.home}/shop"
    found = {
        "profile": profile.id,
        "database": full_name,
        "reachable": 1,
        "unreachable": 0,
        "message": "",
        "sequence": bundle.sequence,
        "columns": {"classified": 4, "unreviewed": 7},
        "drift": [],
    }
    misfit = {
        "profile": profile.id,
        "pod": "web-1",
        "database": full_name,
        "message": "the policy does not fit its catalog: a mask",
        "policies": [f"{cluster.home}/app"],
    }
    counts = {profile.id: {str(bundle.sequence): 1}}
    await cluster.report("a", counts, databases=[found], problems=[misfit])
    await cluster.condition(mine, "CatalogReachable", "True", "Reachable")
    await cluster.condition(mine, "Drifted", "False", "NamesFound")
    told = await cluster.condition(cluster.policy(), "Enforced", "False", "SidecarProblems")
    assert told["message"] == misfit["message"]
    columns = (await cluster.read(mine))["status"]["columns"]
    assert columns == {"classified": 4, "suggested": 0, "unreviewed": 7}
    table = cluster.api.kubectl("get", "dcl", "-n", cluster.home)
    row = dict(zip(table.splitlines()[0].split(), table.splitlines()[1].split(), strict=False))
    assert row["UNREVIEWED"] == "7"
    gone = found | {"reachable": 0, "unreachable": 1, "message": "no route", "columns": None}
    await cluster.report("a", counts, databases=[gone])
    away = await cluster.condition(mine, "CatalogReachable", "False", "Unreachable")
    assert away["message"] == "1 of 1 sidecars cannot rely on the catalog: no route"
    # Counted last, and still the best that is known.
    assert (await cluster.read(mine))["status"]["columns"] == columns
    drifted = found | {"drift": ['the classification names table "x", which does not exist']}
    await cluster.report("a", counts, databases=[drifted])
    await cluster.condition(mine, "Drifted", "True", "NamesMissing")


async def test_stale_sidecar_says_why(cluster):
    await cluster.apply(cluster.classification(), cluster.policy())
    profile = await cluster.pod("web-1")
    bundle = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    problem = {
        "profile": profile.id,
        "pod": "web-1",
        "database": "",
        "message": "newest bundle: the bundle is signed by the key 'x', which is not trusted here",
    }
    counts = {profile.id: {str(bundle.sequence - 9): 1}}
    await cluster.report("a", counts, problems=[problem])
    for item in (cluster.policy(), cluster.classification()):

        async def told(item=item) -> bool | None:
            condition = await cluster.condition(item, "Enforced", "False", "SidecarsStale")
            return "web-1: newest bundle: the bundle is signed by" in condition["message"] or None

        await cluster.until(told, 40, "the reason")


async def test_verdicts_are_events(cluster):
    broken = cluster.policy(rules=[{"name": "ask", "effect": "requireApproval"}])
    await cluster.apply(broken)

    async def told() -> dict | None:
        found = [e for e in await cluster.events() if e["reason"] == "Invalid"]
        return found[0] if found else None

    event = await cluster.until(told, 40, "an Event")
    assert "requireApproval" in event["note"]
    assert event["regarding"]["kind"] == "DatabaseAccessPolicy"
