"""Fixtures of the end-to-end stories: a cluster with Sluice in it, a PostgreSQL server, and a story for each file."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from sluice_dev.installation import NAMESPACE, Installation, connect
from sluice_dev.kubectl import Kubectl
from sluice_dev.story import Database, Story

TIMEOUT_S = 420


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not any(item.iter_markers("timeout")):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def installation() -> Installation:
    """Sluice, installed; `make e2e` has seen to the cluster and its images."""
    found = connect()
    found.upgrade()
    return found


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


@pytest.fixture
def system() -> str:
    """The namespace of Sluice itself."""
    return NAMESPACE
