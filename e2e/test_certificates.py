"""Certificates that live for minutes: they are renewed without a restart and without a refused call."""

from __future__ import annotations

import base64
import time
from collections.abc import Generator

import pytest

from sluice_dev.installation import Installation
from sluice_dev.kubectl import Kubectl, until
from sluice_dev.story import Story

LEAF_S, CA_S = 60, 240


@pytest.fixture(scope="module")
def short_lived(installation: Installation) -> Generator[None]:
    installation.upgrade(
        "--set", f"certificates.leafSeconds={LEAF_S}", "--set", f"certificates.caSeconds={CA_S}"
    )
    yield
    installation.upgrade()


def _certificate(kubectl: Kubectl, system: str, name: str) -> str:
    return kubectl.get("-n", system, "secret", name)["data"]["tls.crt"]


@pytest.mark.timeout(700)
@pytest.mark.usefixtures("short_lived")
def test_certificates_and_ca_rotate_under_load(story: Story, system: str):
    client = story.start(story.pod("desk"))
    names = ("sluice-admission-tls", "sluice-bundles-tls")
    seen: dict[str, set[str]] = {name: set() for name in names}
    bundles: set[str] = set()
    pods = {
        pod["metadata"]["name"]
        for pod in story.kubectl.pods(system, "app.kubernetes.io/name=sluice")
    }
    deadline = time.monotonic() + CA_S + LEAF_S
    refused: list[str] = []
    again = 0
    while time.monotonic() < deadline:
        for name in names:
            seen[name].add(_certificate(story.kubectl, system, name))
        hook = story.kubectl.get("mutatingwebhookconfiguration", "sluice")
        bundles.add(hook["webhooks"][0]["clientConfig"].get("caBundle", ""))
        refusal = story.kubectl.refusal(story.pod("probe"), dry_run=True)
        if "create it again" in refusal:
            # The trust changed between the two looks at this pod; whatever makes pods does so again.
            again += 1
            refusal = story.kubectl.refusal(story.pod("probe"), dry_run=True)
        if refusal:
            refused.append(refusal)
        time.sleep(1)
    assert refused == []
    assert again <= CA_S // LEAF_S, "a pod is made again at a rotation of the CA at most"
    assert all(len(certificates) >= 3 for certificates in seen.values()), {
        k: len(v) for k, v in seen.items()
    }
    assert len(bundles) >= 2, "the CA was renewed as well"
    assert base64.b64decode(max(bundles, key=len)).count(b"BEGIN CERTIFICATE") >= 2, (
        "old and new CA overlap"
    )
    assert {
        p["metadata"]["name"] for p in story.kubectl.pods(system, "app.kubernetes.io/name=sluice")
    } == pods
    # The sidecar, which began under the first CA, still gets its policies.
    story.kubectl.apply(story.policy(masks=[{"class": "pii", "mask": "redact"}]))
    until(
        lambda: "@" not in client.execute("SELECT email FROM users WHERE id = 1")[0][0], within_s=40
    )
    assert story.restarts("desk") == 0
