"""A sidecar that hears nothing for longer than `policies.ageSecondsMax` refuses, and recovers by itself."""

from __future__ import annotations

import time
from typing import Any

import pytest

from sluice_dev.kubectl import DeniedError, until
from sluice_dev.story import MASKED, Story, raw, unmasked

AGE_S = 60
"""The least that the chart takes; a policy is confirmed again each quarter of it."""


@pytest.fixture(scope="module")
def short_lived(chart: Any) -> None:
    chart.use("--set", f"policies.ageSecondsMax={AGE_S}")


def _scale(story: Story, system: str, replicas: int) -> None:
    """The way to policies: the bundle service, and with nobody behind it, any of it."""
    story.kubectl(
        "-n", system, "scale", "deployment/sluice-bundles", "deployment/sluice-controller",
        f"--replicas={replicas}",
    )  # fmt: skip


@pytest.mark.usefixtures("short_lived")
def test_policy_that_nobody_confirms_stops_serving_until_it_is_confirmed_again(
    story: Story, system: str
):
    client = story.start(story.pod("desk"))
    truth = raw(story.server)
    assert not unmasked(client.execute(MASKED), truth)
    # More than one confirmation, each a quarter of its life after the last.
    held_until = time.monotonic() + AGE_S / 3
    while time.monotonic() < held_until:
        assert not unmasked(client.execute(MASKED), truth)
        time.sleep(1)
    _scale(story, system, 0)
    cut_at = time.monotonic()

    def refused() -> DeniedError | None:
        try:
            assert not unmasked(client.execute(MASKED), truth), "never raw, however old"
        except DeniedError as error:
            return error
        return None

    error = until(refused, within_s=AGE_S + 30, every_s=0.5, what="the policy is too old")
    try:
        assert error.sqlstate == "57P03", error
        assert "too old" in error.message
        assert error.hint
        # A quarter of it may have passed since the last confirmation, and ending takes the service a moment.
        assert AGE_S / 2 < time.monotonic() - cut_at < AGE_S + 30
        with pytest.raises(DeniedError):  # New connections are no way round it.
            client.execute(MASKED, session="new")
        begun = len(story.received())
        with pytest.raises(DeniedError):
            client.execute("SELECT id AS never_arrives FROM users WHERE id = 1")
        assert not [line for line in story.received()[begun:] if "never_arrives" in line]
    finally:
        _scale(story, system, 2)

    def again() -> bool:
        try:
            return not unmasked(client.execute(MASKED, session="later"), truth)
        except DeniedError:
            return False

    until(again, within_s=90, every_s=0.5, what="a confirmed policy serves again")
    assert story.restarts("desk") == 0
    for name in ("bundles", "controller"):
        story.kubectl.rollout(system, f"deployment/sluice-{name}")
