"""Certificates by cert-manager, on an installation that had its own: renewed, forced, and under a CA with a new key.

Needs cert-manager: `tools/cluster up --with cert-manager`.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from cryptography import x509

from sluice_dev.installation import Installation
from sluice_dev.kubectl import Kubectl, PodClient, until
from sluice_dev.story import MASKED, Story, raw, unmasked

LEAF_S = 180
GRACE_S = LEAF_S / 8
SERVICES = ("admission", "bundles")
GROUP = "cert-manager.io/v1"


def _named(kind: str, name: str, namespace: str | None, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": GROUP, "kind": kind, "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def issuer(kubectl: Kubectl, system: str) -> Generator[str]:
    """A CA as cert-manager's users have it: a self-signed Certificate, and an Issuer that signs with it."""
    if kubectl.find("crd", "certificates.cert-manager.io") is None:
        pytest.skip("no cert-manager here: `tools/cluster up --with cert-manager`")
    if kubectl.find("validatingwebhookconfiguration", "cert-manager-webhook") is not None:
        pytest.skip("cert-manager's webhook refuses lives under an hour, which this story needs")
    _remove_issuer(kubectl, system)
    authority = {
        "isCA": True,
        "commonName": "e2e authority",
        "secretName": "e2e-ca",
        "duration": "24h",
        "privateKey": {"algorithm": "ECDSA", "size": 256},
        "issuerRef": {"name": "e2e-self", "kind": "Issuer"},
    }
    kubectl.apply(
        _named("Issuer", "e2e-self", system, {"selfSigned": {}}),
        _named("Certificate", "e2e-ca", system, authority),
        _named("Issuer", "e2e-ca", system, {"ca": {"secretName": "e2e-ca"}}),
    )
    kubectl("-n", system, "wait", "--for=condition=Ready", "issuer/e2e-ca", "--timeout=60s")
    yield "e2e-ca"
    _remove_issuer(kubectl, system)


def _remove_issuer(kubectl: Kubectl, system: str) -> None:
    for kind, name in (("certificate", "e2e-ca"), ("issuer", "e2e-ca"), ("issuer", "e2e-self")):
        kubectl.run("-n", system, "delete", f"{kind}.cert-manager.io", name, "--ignore-not-found")
    secrets = ("e2e-ca", *(f"sluice-{service}-issued" for service in SERVICES))
    kubectl.run("-n", system, "delete", "secret", *secrets, "--ignore-not-found")


@pytest.fixture(scope="module")
def governed(installation: Installation, issuer: str, story: Story) -> Generator[PodClient]:
    """A pod that began under Sluice's own CA, before cert-manager took over."""
    client = story.start(story.pod("desk"))
    installation.upgrade(
        "--set", "certificates.mode=cert-manager", "--set", f"certificates.leafSeconds={LEAF_S}",
        "--set", f"certificates.certManager.issuerRef.name={issuer}",
    )  # fmt: skip
    yield client
    installation.upgrade()


def _data(kubectl: Kubectl, system: str, name: str) -> dict[str, bytes]:
    found = kubectl.find("-n", system, "secret", name)
    data: dict[str, str] = found["data"] if found else {}
    return {key: base64.b64decode(value) for key, value in data.items()}


def _served(kubectl: Kubectl, system: str) -> bool:
    """Whether what cert-manager issued is what is served, both of it."""
    return all(
        _data(kubectl, system, f"sluice-{service}-tls").get("tls.crt")
        == _data(kubectl, system, f"sluice-{service}-issued").get("tls.crt", b"none")
        for service in SERVICES
    )


def _authorities(kubectl: Kubectl) -> list[x509.Certificate]:
    """Whom the API server trusts of both webhook configurations."""
    found: set[str] = set()
    for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration"):
        webhooks = kubectl.get(kind, "sluice")["webhooks"]
        found |= {one["clientConfig"].get("caBundle", "") for one in webhooks}
    assert len(found) == 1, "all webhooks of both have the same"
    return x509.load_pem_x509_certificates(base64.b64decode(found.pop()))


def _system_pods(kubectl: Kubectl, system: str) -> dict[str, int]:
    pods = kubectl.pods(system, "app.kubernetes.io/name=sluice")
    return {
        pod["metadata"]["name"]: sum(s["restartCount"] for s in pod["status"]["containerStatuses"])
        for pod in pods
    }


@contextmanager
def _creating_pods(story: Story) -> Generator[list[str]]:
    """Ask for a governed pod again and again, without keeping it; yields what was refused."""
    refused: list[str] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(1):
            refusal = story.kubectl.refusal(story.pod("probe"), dry_run=True)
            if refusal:
                refused.append(refusal)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield refused
    finally:
        ended.set()
        thread.join()


def _policy_reaches(story: Story, client: PodClient) -> None:
    """Change the policy and back; each must be in force soon, which says that the sidecar still hears."""
    changes: tuple[tuple[dict[str, Any], Callable[[str], bool]], ...] = (
        ({"masks": [{"class": "pii", "mask": "redact"}]}, lambda email: "@" not in email),
        ({}, lambda email: "@" in email),
    )
    for spec, shown in changes:
        story.kubectl.apply(story.policy(**spec))
        until(
            lambda shown=shown: shown(
                str(client.execute("SELECT email FROM users WHERE id = 1")[0][0])
            ),
            within_s=30,
            what="a changed policy to reach the sidecar",
        )


@pytest.mark.timeout(700)
def test_cert_manager_takes_over_from_the_own_authority(
    governed: PodClient, story: Story, system: str
):
    kubectl = story.kubectl
    with _creating_pods(story) as refused:
        until(lambda: _served(kubectl, system), within_s=GRACE_S + 60, what="it is served")
        _policy_reaches(story, governed)
        until(
            lambda: len(_authorities(kubectl)) == 1,
            within_s=GRACE_S + 60,
            what="the own CA to be trusted no more",
        )
    assert refused == []
    (authority,) = _authorities(kubectl)
    assert "e2e authority" in authority.subject.rfc4514_string()
    late = story.start(story.pod("late"))
    for client in (governed, late):
        assert unmasked(client.execute(MASKED), raw(story.server)) == ""
        _policy_reaches(story, client)
    assert story.restarts("desk") == 0


@pytest.mark.timeout(700)
def test_renewals_by_cert_manager_restart_nothing(governed: PodClient, story: Story, system: str):
    kubectl = story.kubectl
    until(lambda: _served(kubectl, system), within_s=GRACE_S + 60)
    pods = _system_pods(kubectl, system)
    with _creating_pods(story) as refused:
        before = _data(kubectl, system, "sluice-bundles-tls")["tls.crt"]
        # By itself, at two thirds of its life.
        until(
            lambda: _data(kubectl, system, "sluice-bundles-issued")["tls.crt"] != before,
            within_s=LEAF_S,
            every_s=1,
            what="cert-manager to renew",
        )
        until(lambda: _served(kubectl, system), within_s=20, what="the renewed one to be served")
        _policy_reaches(story, governed)
        # Forced, as an administrator would.
        before = _data(kubectl, system, "sluice-bundles-tls")["tls.crt"]
        for service in SERVICES:
            kubectl("-n", system, "delete", "secret", f"sluice-{service}-issued")
        until(
            lambda: (
                _served(kubectl, system)
                and _data(kubectl, system, "sluice-bundles-tls")["tls.crt"] != before
            ),
            within_s=30,
            what="the forced one to be served",
        )
        _policy_reaches(story, governed)
    assert refused == []
    assert _system_pods(kubectl, system) == pods
    assert story.restarts("desk") == 0


@pytest.mark.timeout(700)
def test_ca_with_a_new_key_is_trusted_before_it_serves(
    governed: PodClient, story: Story, system: str
):
    kubectl = story.kubectl
    until(lambda: _served(kubectl, system), within_s=GRACE_S + 60)
    pods, (old,) = _system_pods(kubectl, system), _authorities(kubectl)
    with _creating_pods(story) as refused:
        kubectl("-n", system, "delete", "secret", "e2e-ca")
        until(lambda: _data(kubectl, system, "e2e-ca").get("tls.crt"), within_s=30, what="a new CA")
        kubectl("-n", system, "wait", "--for=condition=Ready", "issuer/e2e-ca", "--timeout=60s")
        time.sleep(2)  # The Issuer reads its Secret for each request; its informer may be behind.
        for service in SERVICES:
            kubectl("-n", system, "delete", "secret", f"sluice-{service}-issued")
        until(lambda: len(_authorities(kubectl)) == 2, within_s=30, what="both to be trusted")
        assert not _served(kubectl, system)
        _policy_reaches(story, governed)
        until(lambda: _served(kubectl, system), within_s=GRACE_S + 60, what="it is served")
        _policy_reaches(story, governed)
        until(
            lambda: len(_authorities(kubectl)) == 1,
            within_s=GRACE_S + 60,
            what="the old one to be trusted no more",
        )
    assert refused == []
    assert _authorities(kubectl) != [old]
    _policy_reaches(story, governed)
    assert unmasked(governed.execute(MASKED), raw(story.server)) == ""
    assert _system_pods(kubectl, system) == pods
    assert story.restarts("desk") == 0
