"""Statuses before 10,000 pods that come and go: written by the real writer to a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from typing import Any

import pytest

from sluice_operator.controller.estate import Estate
from sluice_operator.controller.passes import Outcome
from sluice_operator.controller.tellers import Teller
from sluice_operator.kube.events import EventWriter
from sluice_operator.reconcile.census import Reach
from sluice_operator.reconcile.effective import decide
from sluice_policy import Profile

PODS = 10_000
INTERVAL_S = 5.0
TURNS_S = 13.0


def pod(profile: Profile, number: int) -> dict[str, Any]:
    identity = {"serviceAccount": "default", "labels": dict(profile.labels)}
    return {
        "metadata": {
            "namespace": profile.namespace,
            "name": f"web-{number}",
            "uid": f"uid-{number}",
            "annotations": {
                "sluice.dev/injected": "test",
                "sluice.dev/profile": profile.id,
                "sluice.dev/identity": json.dumps(identity, sort_keys=True),
                "sluice.dev/databases": json.dumps({f"{profile.namespace}/shop": 1}),
            },
        }
    }


async def _churn(estate: Estate, profile: Profile) -> int:
    """A thousand pods a second go, and as many others come; return how many did."""
    number, ends = PODS, time.monotonic() + TURNS_S
    while time.monotonic() < ends:
        for _ in range(50):
            estate.drop_pod((profile.namespace, f"web-{number - PODS}"))
            estate.put_pod(pod(profile, number))
            number += 1
            if number % 2:  # Their number changes too.
                estate.drop_pod((profile.namespace, f"web-{number - PODS}"))
        await asyncio.sleep(0.05)
    return number - PODS


@pytest.mark.usefixtures("start")  # No controller of the module's: this is the only writer.
async def test_churning_pods_make_one_patch_in_five_seconds(cluster):
    items = [cluster.classification(), cluster.policy()]
    await cluster.apply(*items)
    profile = Profile(cluster.home, "default", {"app": "web"})
    estate = Estate()
    for item in items:
        estate.put_resource(await cluster.read(item))
    for number in range(PODS):
        estate.put_pod(pod(profile, number))
    resources = dict(estate.resources)
    effective = decide(
        list(resources.values()),
        last_valid={},
        named=frozenset(),
        external=frozenset(),
        domain="cluster.local",
    )
    names = frozenset({f"{cluster.home}/app"}), frozenset({f"{cluster.home}/shop"})
    outcome = Outcome(
        resources=resources,
        verdicts=effective.verdicts,
        effective=effective,
        reach={profile.id: Reach(*names)},
    )
    teller = Teller(
        kube=cluster.kube,
        estate=estate,
        events=EventWriter(cluster.kube, "sluice.dev/controller", "controller-0"),
        outcome=lambda: outcome,
        leading=lambda: True,
        interval_s=INTERVAL_S,
    )
    versions: dict[str, list[tuple[str, float]]] = {item["kind"]: [] for item in items}

    async def look() -> None:
        while True:
            for item in items:
                stored = await cluster.read(item)
                seen = versions[item["kind"]]
                version = stored["metadata"]["resourceVersion"]
                if "status" in stored and (not seen or seen[-1][0] != version):
                    seen.append((version, time.monotonic()))
            await asyncio.sleep(0.02)

    working = [asyncio.create_task(one) for one in (teller.run(), look())]
    estate.reports_changed.set()
    changed = await _churn(estate, profile)
    for task in working:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert changed > 1000
    for seen in versions.values():
        moments = [moment for _, moment in seen]
        pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
        assert 2 <= len(seen) <= TURNS_S // INTERVAL_S + 1
        assert min(pauses) > INTERVAL_S - 0.5
