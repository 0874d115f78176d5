"""A change reaches the profiles that it concerns, and no other is published anew."""

from __future__ import annotations

import asyncio
import re

import pytest

from sluice_operator.bundle_names import BEFORE
from sluice_operator.kube.client import path_of

OTHERS, PROFILES = 3, 4


@pytest.fixture
async def crowd(cluster):
    """A database that admits the first of three other namespaces, and pods of several profiles in each."""
    names = [cluster.home, *(f"{cluster.home}-{number}" for number in range(OTHERS))]
    for name in names[1:]:
        await cluster.make_namespace(name)
    databases = {f"{cluster.home}/shop": 1}
    await cluster.apply(cluster.classification(allowedNamespaces=names[1:2]), cluster.policy())
    crowd = {
        name: [
            await cluster.pod(f"web-{n}", {"app": f"web-{n}"}, databases, namespace=name)
            for n in range(PROFILES)
        ]
        for name in names
    }
    yield crowd
    for name in names[1:]:
        for number in range(PROFILES):
            await cluster.delete_pod(f"web-{number}", name)


async def sequences(cluster, profiles):
    return [(await cluster.bundle_with(one, lambda _: True)).sequence for one in profiles]


async def test_change_of_a_classification_publishes_only_what_it_concerns(cluster, crowd):
    first, second, *rest = crowd.values()
    concerned, others = [*first, *second], [one for group in rest for one in group]
    for one in concerned:
        await cluster.bundle_with(one, lambda b: b.policies() == ["app"])
    for one in others:
        bundle = await cluster.bundle_with(one, lambda _: True)
        # Refused by OPA, as whatever is not known there.
        assert bundle.data["databases"] == {}
    kept = await sequences(cluster, others)

    columns = [{"table": "public.users", "column": "*", "class": "pii.email"}]
    admitting = {"allowedNamespaces": [second[0].namespace]}
    for change in ({"columns": columns}, {"columns": columns, "unreviewedColumns": "allow"}):
        before = await sequences(cluster, concerned)
        mine = cluster.classification(**change, **admitting)
        await cluster.apply(mine)
        for one, sequence in zip(concerned, before, strict=True):
            await cluster.bundle_with(one, lambda b, s=sequence: b.sequence > s)
        assert await sequences(cluster, others) == kept
    before = await sequences(cluster, concerned)
    mine["metadata"]["labels"] = {"helm.sh/chart": "shop-2"}
    await cluster.apply(mine)
    # And a classification more, of a namespace of its own.
    spec = cluster.classification("more")["spec"]
    host = f"more-pg.{others[0].namespace}.svc"
    more = cluster.resource(
        "DataClassification", "more", spec | {"database": {"hosts": [host], "name": "more"}}
    )
    more["metadata"]["namespace"] = others[0].namespace
    await cluster.apply(more)
    for one in others[:PROFILES]:
        await cluster.bundle_with(one, lambda b: len(b.data["databases"]) == 1)
    assert await sequences(cluster, concerned) == before
    assert await sequences(cluster, others[PROFILES:]) == kept[PROFILES:]
    await cluster.delete(more)


async def test_deletion_reaches_all_that_hold_it_and_nobody_else(cluster, crowd):
    first, second, *rest = crowd.values()
    others = [one for group in rest for one in group]
    for one in [*first, *second]:
        await cluster.bundle_with(one, lambda b: b.policies() == ["app"])
    kept = await sequences(cluster, others)
    await cluster.delete(cluster.classification())
    for one in [*first, *second]:
        bundle = await cluster.bundle_with(one, lambda b: b.database("shop")["state"] == "denied")
        assert "deleted" in bundle.database("shop")["reason"]
    await asyncio.sleep(1)
    assert await sequences(cluster, others) == kept
    # Made again: they have it back, under a higher number.
    await cluster.apply(cluster.classification(allowedNamespaces=[second[0].namespace]))
    for one in [*first, *second]:
        await cluster.bundle_with(one, lambda b: b.database("shop")["state"] == "active")
    assert await sequences(cluster, others) == kept


READS = re.compile(
    r'^apiserver_request_total\{[^}]*resource="configmaps"[^}]*verb="GET"[^}]*\} (\d+)',
    re.MULTILINE,
)


async def test_publishing_reads_nothing_that_the_controller_wrote_itself(cluster, crowd):
    first, second, *_ = crowd.values()
    mine = [*first, *second]
    path = path_of("v1", "configmaps", cluster.namespace)
    names = {one.id for one in mine}
    query = {"labelSelector": "sluice.dev/kind=bundle"}

    async def published(kind: str) -> dict[str, int]:
        """Sequences of all with this mask, listed and not read one by one."""
        page = await cluster.kube.request("GET", path, query=query)
        bundles = [cluster.bundle_of(item) for item in page["items"]]
        wanted = [b for b in bundles if b.policies() and b.profile in names]
        return {
            b.profile: b.sequence
            for b in wanted
            if b.policy("app")["masks"][0]["mask"]["kind"] == kind
        }

    async def all_published(kind: str) -> dict[str, int]:
        async def look() -> dict[str, int] | None:
            found = await published(kind)
            return found if len(found) == len(mine) else None

        return await cluster.until(look, 45, f"all with the mask {kind}")

    async def reads() -> int:
        text = await asyncio.to_thread(cluster.api.kubectl, "get", "--raw", "/metrics")
        return sum(int(count) for count in READS.findall(text))

    sequences = await all_published("redact")
    before = await reads()
    assert before > 0
    for kind in ("hash", "null", "year", "redact"):
        # Each is in force, so that it is kept beside the next.
        counts = {profile: {str(sequence): 1} for profile, sequence in sequences.items()}
        await cluster.report("a", counts)
        await asyncio.sleep(0.3)
        await cluster.apply(cluster.policy(masks=[{"class": "pii.email", "mask": kind}]))
        sequences = await all_published(kind)
    # 32 publications; what is read besides is whom to trust, now and then.
    assert await reads() - before < len(mine)
    assert (await cluster.bundle(mine[0])).annotations[BEFORE]
