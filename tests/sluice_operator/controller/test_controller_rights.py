"""With the rights that the chart gives, and no others."""

from __future__ import annotations

import asyncio
import json
import subprocess

import pytest
import yaml

from sluice_dev.cache import ROOT
from sluice_dev.cluster import programs
from sluice_operator.kube.client import Kube, path_of
from sluice_operator.kube.errors import ApiError

KINDS = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "Role": "roles",
    "RoleBinding": "rolebindings",
}
RBAC = "rbac.authorization.k8s.io/v1"


async def _grant(cluster) -> None:
    """Create the chart's roles of the controller, as rendered for this test's namespace."""
    command = [
        str(programs.ensure(programs.HELM)),
        "template",
        "sluice",
        str(ROOT / "helm" / "sluice"),
        "--namespace",
        cluster.namespace,
        "--kube-version",
        "1.34.4",
    ]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=True
    )
    for item in yaml.safe_load_all(done.stdout):
        if not item or item["kind"] not in KINDS:
            continue
        if item["metadata"]["name"] != "sluice-controller":
            continue
        namespace = None if item["kind"].startswith("Cluster") else cluster.namespace
        path = path_of(RBAC, KINDS[item["kind"]], namespace, "sluice-controller")
        await cluster.kube.apply(path, item, manager="test")
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "sluice-controller"},
    }
    await cluster.kube.create(path_of("v1", "serviceaccounts", cluster.namespace), account)


async def test_the_chart_s_rights_are_enough(cluster, start):
    await _grant(cluster)
    kubeconfig = cluster.api.service_account_kubeconfig(cluster.namespace, "sluice-controller")
    replica = start(
        KUBECONFIG=str(kubeconfig),
        SLUICE_CERTIFICATE_SECONDS="4",
        SLUICE_CA_SECONDS="16",
        SLUICE_SIGNING_KEY_SECONDS="5",
        SLUICE_POLICY_AGE_SECONDS_MAX="8",
        SLUICE_BUNDLE_IDLE_SECONDS="1",
    )
    await cluster.apply(cluster.classification(), cluster.policy())
    profile = await cluster.pod("web-1")
    first = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    broken = cluster.policy(rules=[{"name": "ask", "effect": "requireApproval"}])
    await cluster.apply(broken)
    await cluster.condition(broken, "Compiled", "False", "Invalid")

    async def told() -> bool | None:
        return any(event["reason"] == "Invalid" for event in await cluster.events()) or None

    await cluster.until(told, 40, "an Event")
    old = set(json.loads((await cluster.trust())["keys.json"]))
    await cluster.bundle_with(
        profile, lambda b: not old & set(b.manifest["metadata"]["trust"]["keys"]), 45
    )
    await cluster.bundle_with(profile, lambda b: b.sequence > first.sequence)
    await cluster.delete_pod("web-1")

    async def gone() -> bool | None:
        return True if await cluster.bundle(profile) is None else None

    await cluster.until(gone, 40, "the bundle to be removed")
    refused = [line for line in replica.lines() if "403" in str(line.get("error"))]
    assert not refused


async def test_the_chart_gives_no_right_to_other_secrets(cluster, start):  # noqa: ARG001
    await _grant(cluster)
    kubeconfig = cluster.api.service_account_kubeconfig(cluster.namespace, "sluice-controller")
    async with Kube.connect(str(kubeconfig)) as kube:
        for path in (
            path_of("v1", "secrets"),
            path_of("v1", "secrets", cluster.namespace),
            path_of("v1", "secrets", cluster.namespace, "other"),
            path_of("v1", "configmaps", cluster.home),
            path_of("v1", "pods", cluster.home, "web"),
        ):
            with pytest.raises(ApiError) as refused:
                await kube.get(path)
            assert refused.value.status == 403
