"""Fixtures of the end-to-end stories: a cluster with Sluice in it, a PostgreSQL server, and a story for each file."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from sluice_dev.installation import NAMESPACE, Installation, connect
from sluice_dev.kubectl import Kubectl
from sluice_dev.stories import INSTALLED
from sluice_dev.story import SHOP, Database, Story, container

TIMEOUT_S = 420


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not any(item.iter_markers("timeout")):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


Measured = Callable[[str], None]
MEASURED = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def measured(request: pytest.FixtureRequest) -> Measured:
    """Takes a sentence with a number; all of them stand below the summary."""
    lines: list[str] = request.config.stash.setdefault(MEASURED, [])
    return lines.append


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash.get(MEASURED, list[str]()):
        terminalreporter.write_line(f"measured: {line}")


@pytest.fixture(scope="session")
def installation() -> Installation:
    """Sluice, installed; `make e2e` has seen to the cluster and its images."""
    found = connect()
    if INSTALLED not in os.environ:
        found.upgrade()
    return found


class Chart:
    """The release, with the values that a story needs."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._values: tuple[str, ...] | None = ()

    def use(self, *values: str) -> None:
        """Bring the release to the usual values and these; nothing happens when it has them."""
        if values == self._values:
            return
        self._values = None
        self._installation.upgrade(*values)
        self._values = values


@pytest.fixture(scope="session")
def chart(installation: Installation) -> Generator[Chart]:
    """For stories that need other values: the next one changes them, and the last is followed by the usual ones."""
    one = Chart(installation)
    yield one
    one.use()


@pytest.fixture(scope="session")
def kubectl(installation: Installation) -> Kubectl:
    return installation.kubectl


@pytest.fixture(scope="session")
def server(installation: Installation) -> Database:
    database = Database(installation.kubectl, installation.demo)
    database.start()
    return database


@pytest.fixture(scope="module")
def blank(request: pytest.FixtureRequest, kubectl: Kubectl, server: Database) -> Generator[Story]:
    """A story before anything of it is in the cluster."""
    name = Path(str(request.node.path)).stem.removeprefix("test_").replace("_", "-")
    story = Story(kubectl, server, name)
    story.close()
    kubectl("wait", "--for=delete", f"namespace/{story.namespace}", "--timeout=90s")
    yield story
    story.close()


@pytest.fixture(scope="module")
def story(blank: Story) -> Story:
    """A story with its namespace (PodSecurity restricted), database, classification and policy in force."""
    blank.open()
    return blank


@pytest.fixture(scope="session")
def system() -> str:
    """The namespace of Sluice itself."""
    return NAMESPACE


KILL = """
import os, signal, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        mine = sys.argv[1] in open(f"/proc/{pid}/cgroup").read()
    except OSError:
        continue
    if mine:
        os.kill(int(pid), signal.SIGKILL)
        print(pid)
"""


@pytest.fixture(scope="session")
def kill(kubectl: Kubectl, server: Database) -> Generator[Callable[[str, str, str], None]]:
    """Kills a container's processes from the node: nobody may enter ours, so a pod of the node's own kind does it."""
    one = container(server.images, command=["sleep", "infinity"])
    one["securityContext"] = {"privileged": True, "runAsUser": 0}
    spec = {"hostPID": True, "containers": [one], "terminationGracePeriodSeconds": 0}
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "killer", "namespace": SHOP},
            "spec": spec,
        }
    )
    kubectl("-n", SHOP, "wait", "--for=condition=Ready", "pod/killer", "--timeout=60s")

    def now(namespace: str, pod: str, name: str) -> None:
        status = kubectl.get("-n", namespace, "pod", pod)["status"]
        every = status["containerStatuses"] + status.get("initContainerStatuses", [])
        identifier = next(s["containerID"] for s in every if s["name"] == name).rpartition("//")[2]
        killed = kubectl("-n", SHOP, "exec", "killer", "--", "python", "-c", KILL, identifier)
        assert killed.strip(), f"no process of {name} was found"

    yield now
    kubectl("-n", SHOP, "delete", "pod", "killer", "--wait=false")
