"""Certificates and a signing key that live for minutes: renewed without a restart and without a refused call."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography import x509

from sluice_dev import forging
from sluice_dev.kubectl import Kubectl, until
from sluice_dev.story import Story

LEAF_S, CA_S, KEY_S = 60, 240, 100
"""The least that the chart takes; a running sidecar knows the key of its start and the next one, so one is no less."""
WITHIN_S = 280
TLS = ("sluice-admission-tls", "sluice-bundles-tls")
QUERY = "SELECT email FROM users WHERE id = 1"


@pytest.fixture(scope="module")
def short_lived(chart: Any, kubectl: Kubectl, system: str) -> None:
    before = _signing_keys(kubectl, system)
    chart.use(
        "--set", f"certificates.leafSeconds={LEAF_S}", "--set", f"certificates.caSeconds={CA_S}",
        "--set", f"certificates.signingKeySeconds={KEY_S}",
    )  # fmt: skip
    # The key that is there has lived longer than that: the first rotation comes at once, and the story begins after it.
    until(lambda: _signing_keys(kubectl, system) != before, within_s=90)


def _signing_keys(kubectl: Kubectl, system: str) -> str:
    return kubectl.get("-n", system, "configmap", "sluice-trust")["data"]["keys.json"]


@dataclass
class Seen:
    """What was in use, in the order in which it came."""

    leaves: dict[str, list[x509.Certificate]] = field(default_factory=lambda: {n: [] for n in TLS})
    authorities: list[str] = field(default_factory=list[str])
    keys: list[str] = field(default_factory=list[str])

    def look(self, story: Story, system: str) -> None:
        """Note what is new."""
        for name, found in self.leaves.items():
            data = story.kubectl.get("-n", system, "secret", name)["data"]["tls.crt"]
            leaf = x509.load_pem_x509_certificate(base64.b64decode(data))
            if leaf not in found:
                found.append(leaf)
        hook = story.kubectl.get("mutatingwebhookconfiguration", "sluice")
        for kind, value in (
            (self.authorities, hook["webhooks"][0]["clientConfig"].get("caBundle", "")),
            (self.keys, _signing_keys(story.kubectl, system)),
        ):
            if value not in kind:
                kind.append(value)

    @property
    def enough(self) -> bool:
        """Certificates were renewed twice, by two authorities that overlapped, and a key took the other's place."""
        return (
            all(len(found) >= 3 and len(_signers(found)) >= 2 for found in self.leaves.values())
            and any(base64.b64decode(a).count(b"BEGIN CERT") >= 2 for a in self.authorities)
            and len(self.keys) >= 2
        )


def _signers(leaves: list[x509.Certificate]) -> set[bytes]:
    kind = x509.AuthorityKeyIdentifier
    return {
        leaf.extensions.get_extension_for_class(kind).value.key_identifier or b"" for leaf in leaves
    }


def _key_of_bundle(story: Story, system: str) -> str:
    items = story.kubectl.get("-n", system, "configmap", "-l", "sluice.dev/kind=bundle")["items"]
    mine = next(
        i
        for i in items
        if i["metadata"]["annotations"]["sluice.dev/profile"].startswith(f"{story.namespace}/")
    )
    return forging.key_id_of(
        forging.unpacked(base64.b64decode(mine["binaryData"]["bundle.tar.gz"]))
    )


@pytest.mark.timeout(700)
@pytest.mark.usefixtures("short_lived")
def test_certificates_authorities_and_keys_rotate_under_load(story: Story, system: str):
    client = story.start(story.pod("desk"))
    ours = "app.kubernetes.io/name=sluice"
    pods = {pod["metadata"]["name"] for pod in story.kubectl.pods(system, ours)}
    first_key = _key_of_bundle(story, system)
    seen, refused = Seen(), list[str]()
    deadline = time.monotonic() + WITHIN_S
    while not seen.enough and time.monotonic() < deadline:
        seen.look(story, system)
        # Pods are created all the while, and a policy is validated: both are calls to the webhooks.
        for document in (story.pod("probe"), story.policy(f"{story.name}-probe")):
            if refusal := story.kubectl.refusal(document, dry_run=True):
                refused.append(refusal)
        client.execute(QUERY)
        time.sleep(0.5)
    assert refused == []
    assert seen.enough, json.dumps(
        {
            "leaves": {name: len(found) for name, found in seen.leaves.items()},
            "signers": {name: len(_signers(found)) for name, found in seen.leaves.items()},
            "authorities": len(seen.authorities),
            "keys": len(seen.keys),
        }
    )
    assert {pod["metadata"]["name"] for pod in story.kubectl.pods(system, ours)} == pods
    # The sidecar, which began under the first authority and the first key, still gets its policies, by the second key.
    story.kubectl.apply(story.policy(masks=[{"class": "pii", "mask": "redact"}]))
    until(lambda: "@" not in client.execute(QUERY)[0][0], within_s=40)
    assert _key_of_bundle(story, system) != first_key
    assert story.restarts("desk") == 0
