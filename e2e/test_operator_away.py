"""Sluice's own processes fail: enforcement goes on, nothing restarts, labelled pods are refused."""

from __future__ import annotations

import time
from collections.abc import Generator

import pytest

from sluice_dev.installation import COMPONENTS, Installation
from sluice_dev.kubectl import Kubectl, until
from sluice_dev.story import MASKED, SHOP, Story, raw, unmasked


def _scale(kubectl: Kubectl, system: str, replicas: int) -> None:
    """All of the operator at once."""
    deployments = [f"deployment/sluice-{component}" for component in COMPONENTS]
    kubectl("-n", system, "scale", *deployments, f"--replicas={replicas}")
    if replicas:
        for deployment in deployments:
            kubectl.rollout(system, deployment)
    else:
        ours = "app.kubernetes.io/name=sluice"
        until(lambda: not kubectl.get("-n", system, "pods", "-l", ours)["items"], within_s=60)


@pytest.fixture
def everything_back(installation: Installation, kubectl: Kubectl, system: str) -> Generator[None]:
    yield
    _scale(kubectl, system, 2)
    assert installation.installed()


def _required_namespace_holds(story: Story) -> None:
    """With nobody of ours there, the API server itself knows the rules."""
    story.kubectl("label", "namespace", story.namespace, "sluice.dev/govern=required")
    try:
        unlabelled = story.pod("unlabelled", governed=False)
        refusal = until(lambda: story.kubectl.refusal(unlabelled, dry_run=True), within_s=10)
        assert "sluice.dev/govern=required" in refusal
        assert "sluice" in story.kubectl.refusal(story.pod("labelled"), dry_run=True)
    finally:
        story.kubectl("label", "namespace", story.namespace, "sluice.dev/govern-")
    labelling = story.kubectl.run(
        "-n", story.namespace, "label", "pod", "free", "sluice.dev/inject=true"
    )
    assert labelling.returncode, "a pod was labelled after its creation"
    assert "sluice.dev/" in labelling.stderr


@pytest.mark.usefixtures("everything_back")
def test_enforcement_goes_on_without_the_operator(story: Story, system: str):
    client = story.start(story.pod("desk"))
    truth = raw(story.server)
    assert not unmasked(client.execute(MASKED), truth)
    _scale(story.kubectl, system, 0)
    until_ = time.monotonic() + 60
    number = 0
    while time.monotonic() < until_:
        number += 1
        # New shapes ask OPA; the rest comes from cached plans.
        assert not unmasked(client.execute(MASKED), truth)
        client.execute(f"SELECT count(*) AS shape{number} FROM users")
        time.sleep(1)
    # A new connection too, and a pod that is created now is refused.
    client.disconnect()
    assert not unmasked(client.execute(MASKED), truth)
    refusal = story.kubectl.refusal(story.pod("late"))
    assert "sluice" in refusal, refusal or "a labelled pod was created without its sidecar"
    assert story.kubectl.refusal(story.pod("free", governed=False)) == ""
    # Policies cannot be changed unseen either.
    assert "sluice" in story.kubectl.refusal(story.policy("late"))
    _required_namespace_holds(story)

    _scale(story.kubectl, system, 2)
    story.kubectl.apply(story.policy(masks=[{"class": "pii", "mask": "redact"}]))
    until(
        lambda: "@" not in client.execute("SELECT email FROM users WHERE id = 1")[0][0], within_s=40
    )
    until(
        lambda: (
            story.kubectl.get("-n", SHOP, "dap", story.name)["status"].get("sidecars")
            == {"expected": 1, "current": 1, "stale": 0}
        ),
        within_s=60,
    )
    assert story.restarts("desk") == 0


def test_controller_fails_over_by_its_lease(story: Story, system: str):
    def holder() -> str:
        lease = story.kubectl.get("-n", system, "lease", "sluice-controller")
        return str(lease["spec"].get("holderIdentity") or "")

    first = until(holder, within_s=30)
    selector = "app.kubernetes.io/component=controller"
    pods = [pod["metadata"]["name"] for pod in story.kubectl.pods(system, selector)]
    leader = next(name for name in pods if first.startswith(name))
    story.kubectl("-n", system, "delete", "pod", leader, "--grace-period=0", "--force")
    second = until(lambda: holder() if holder() != first else "", within_s=60)
    assert second != first
    # The new one works: a change comes into force.
    client = story.client("desk")
    story.kubectl.apply(story.policy())
    until(lambda: "@" in client.execute("SELECT email FROM users WHERE id = 1")[0][0], within_s=40)
    story.kubectl.rollout(system, "deployment/sluice-controller")


def test_policy_change_survives_a_killed_bundle_replica(story: Story, system: str):
    client = story.client("desk")
    selector = "app.kubernetes.io/component=bundles"
    one = story.kubectl.pods(system, selector)[0]["metadata"]["name"]
    story.kubectl("-n", system, "delete", "pod", one, "--grace-period=0", "--force")
    story.kubectl.apply(story.policy(masks=[{"class": "pii", "mask": "redact"}]))
    until(
        lambda: "@" not in client.execute("SELECT email FROM users WHERE id = 1")[0][0], within_s=30
    )
    story.kubectl.rollout(system, "deployment/sluice-bundles")
    assert story.restarts("desk") == 0


def test_enforcement_goes_on_while_all_of_the_bundle_service_is_killed(story: Story, system: str):
    client = story.client("desk")
    truth = raw(story.server)
    names = [
        pod["metadata"]["name"]
        for pod in story.kubectl.pods(system, "app.kubernetes.io/component=bundles")
    ]
    story.kubectl("-n", system, "delete", "pod", *names, "--grace-period=0", "--force")
    story.kubectl.apply(story.policy())  # Compiled now, and taken as soon as somebody serves it.
    number = 0

    def changed() -> bool:
        nonlocal number
        number += 1
        shown = client.execute(f"SELECT email AS now{number} FROM users WHERE id = 1")[0][0]
        assert shown != truth[0][1]
        return "@" in shown

    until(changed, within_s=60, what="the change comes into force when the service is back")
    assert not unmasked(client.execute(MASKED), truth)
    story.kubectl.rollout(system, "deployment/sluice-bundles")
    assert story.restarts("desk") == 0
