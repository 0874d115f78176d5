"""OPA is killed: cached plans serve, anything new is refused until it is back, and nothing raw comes through."""

from __future__ import annotations

import time
from collections.abc import Callable

from sluice_dev.kubectl import DeniedError, until
from sluice_dev.story import MASKED, Story, raw, unmasked

KILL = (
    "import os, signal\n"
    "for pid in filter(str.isdigit, os.listdir('/proc')):\n"
    "    try: name = open(f'/proc/{pid}/comm').read().strip()\n"
    "    except OSError: continue\n"
    "    print(pid, name)\n"
)


def _opa(story: Story) -> int:
    status = story.kubectl.get("-n", story.namespace, "pod", "desk")["status"][
        "initContainerStatuses"
    ]
    return int(next(s["restartCount"] for s in status if s["name"] == "sluice-opa"))


def test_application_does_not_see_the_sidecars_processes(story: Story):
    story.start(story.pod("desk"))
    seen = story.kubectl(
        "-n", story.namespace, "exec", "desk", "-c", "app", "--", "python", "-c", KILL
    )
    assert "opa" not in seen.split()
    assert "sluice" not in seen


def test_enforcement_holds_while_opa_restarts(story: Story, kill: Callable[[str, str, str], None]):
    client = story.client("desk")
    truth = raw(story.server)
    assert not unmasked(client.execute(MASKED), truth)
    before = _opa(story)
    kill(story.namespace, "desk", "sluice-opa")
    until(lambda: _opa(story) > before, within_s=60, what="the kubelet starts OPA again")
    deadline = time.monotonic() + 60
    number = answered = 0
    while time.monotonic() < deadline and answered < 5:
        number += 1
        assert not unmasked(client.execute(MASKED), truth), "a cached plan serves"
        try:
            rows = client.execute(f"SELECT ssn AS after{number} FROM users WHERE id = 1")
        except DeniedError as error:
            assert error.sqlstate == "57P03"  # noqa: PT017 - it may answer at once, too.
            time.sleep(0.5)
        else:
            assert rows[0][0] != truth[0][2]
            answered += 1
    assert answered == 5, "new statements are answered again"
    proxy = story.kubectl.get("-n", story.namespace, "pod", "desk")["status"][
        "initContainerStatuses"
    ]
    assert next(s["restartCount"] for s in proxy if s["name"] == "sluice-proxy") == 0
