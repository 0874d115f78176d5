"""Keys and certificates at run time, with lives of seconds."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from base64 import b64encode
from datetime import timedelta

from cryptography import x509

from sluice_operator.certificates.authority import BACKDATE, Authority, utc
from sluice_operator.kube.client import path_of


async def test_signing_key_rotates_and_is_known_before(cluster, start):
    start(SLUICE_SIGNING_KEY_SECONDS="5")
    await cluster.apply(cluster.classification(), cluster.policy())
    profile = await cluster.pod("web-1")
    first = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    known = json.loads((await cluster.trust())["keys.json"])
    old = first.signed_by(known)
    (upcoming,) = set(known) - {old}

    async def rotated() -> dict | None:
        bundle = await cluster.bundle(profile)
        keys = bundle.manifest["metadata"]["trust"]["keys"]
        return bundle if old not in keys else None

    second = await cluster.until(rotated, 40, "another key")
    # The sidecar of a pod that knows the first two keys verifies it.
    assert second.signed_by(known) == upcoming
    assert second.sequence > first.sequence
    assert second.revision == first.revision

    async def told() -> bool | None:
        keys = json.loads((await cluster.trust())["keys.json"])
        return True if set(keys) == set(second.manifest["metadata"]["trust"]["keys"]) else None

    await cluster.until(told, 40, "sluice-trust to follow")
    # Pods that were injected a moment ago are known by it.
    trust = await cluster.trust()
    before = json.loads(trust["previous.json"])
    assert before["ca.pem"] == trust["ca.pem"]
    assert set(json.loads(before["keys.json"])) & set(json.loads(trust["keys.json"]))


async def test_authority_rotates_with_overlap(cluster, start):
    """A client that follows what bundles say it may trust is never without a valid certificate."""
    webhooks = [
        {
            "name": f"{name}.sluice.dev",
            "clientConfig": {
                "service": {"name": "sluice-admission", "namespace": cluster.namespace}
            },
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "objectSelector": {"matchLabels": {"nobody": "has-this"}},
            "rules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["pods"],
                }
            ],
        }
        for name in ("pods", "resources")
    ]
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "sluice"},
        "webhooks": webhooks,
    }
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    await cluster.kube.create(path, body)
    try:
        await _rotates(cluster, start, path)
    finally:
        await cluster.kube.delete(f"{path}/sluice")


async def _rotates(cluster, start, webhooks: str) -> None:
    start(SLUICE_CERTIFICATE_SECONDS="4", SLUICE_CA_SECONDS="20")
    await cluster.apply(cluster.classification(), cluster.policy())
    profile = await cluster.pod("web-1")
    await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    authorities: list[str] = []
    leaves: set[int] = set()
    most = 0
    ends = time.monotonic() + 30
    while time.monotonic() < ends and (len(authorities) < 2 or len(leaves) < 5):
        bundle = await cluster.bundle(profile)
        trusted = bundle.manifest["metadata"]["trust"]["ca_pem"]
        chain = (await cluster.secret("sluice-bundles-tls"))["tls.crt"]
        leaf = x509.load_pem_x509_certificate(chain)
        cas = x509.load_pem_x509_certificates(trusted.encode())
        issuer = next((ca for ca in cas if ca.subject == leaf.issuer), None)
        assert issuer is not None, "signed by an authority that bundles do not name"
        leaf.verify_directly_issued_by(issuer)
        if str(issuer.serial_number) not in authorities:
            authorities.append(str(issuer.serial_number))
        leaves.add(leaf.serial_number)
        most = max(most, len(cas))
        await asyncio.sleep(0.2)
    assert len(authorities) >= 2, "no rotation"
    assert most == 2
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    host = f"sluice-bundles.{cluster.namespace}.svc"
    assert host in names.get_values_for_type(x509.DNSName)
    context = ssl.create_default_context(cadata=trusted)
    assert context.cert_store_stats()["x509_ca"] == len(cas)
    configuration = await cluster.kube.get(f"{webhooks}/sluice")
    assert all(one["clientConfig"].get("caBundle") for one in configuration["webhooks"])
    assert all(one["clientConfig"]["service"] for one in configuration["webhooks"])


async def _issue(cluster, authority: Authority, life_s: int = 24, secrets: str = "issued") -> bytes:
    """Write what cert-manager writes for both Certificates of the chart; return the bundle service's."""
    # Issued so that it begins a second ago: authorities of ours backdate, cert-manager's do not.
    begins = utc(time.time()) + BACKDATE - timedelta(seconds=1)
    certificate = b""
    for service in ("admission", "bundles"):
        base = f"sluice-{service}.{cluster.namespace}"
        hosts = [base, f"{base}.svc", f"{base}.svc.cluster.local"]
        life = timedelta(seconds=life_s) - BACKDATE
        certificate, key = authority.issue(hosts, begins, life)
        name = f"sluice-{service}-{secrets}"
        data = {"tls.crt": certificate, "tls.key": key, "ca.crt": authority.pem}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": name},
            "data": {key: b64encode(value).decode() for key, value in data.items()},
        }
        path = path_of("v1", "secrets", cluster.namespace, name)
        await cluster.kube.apply(path, body, manager="cert-manager")
    return certificate


async def test_issued_certificate_of_another_authority_serves_after_it_is_trusted(cluster, start):
    replica = start(SLUICE_CERTIFICATES="cert-manager", SLUICE_CERTIFICATE_SECONDS="20")
    await cluster.apply(cluster.classification(), cluster.policy())
    profile = await cluster.pod("web-1")

    async def waiting() -> bool | None:
        return any("-issued" in one.get("error", "") for one in replica.lines()) or None

    await cluster.until(waiting, 40, "the log to say what is missing")
    first, second = (Authority.create(utc(time.time()), timedelta(hours=1)) for _ in range(2))
    served = [await _issue(cluster, first, 120), b""]
    bundle = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    assert bundle.manifest["metadata"]["trust"]["ca_pem"] == first.pem.decode()
    assert (await cluster.trust())["ca.pem"] == first.pem.decode()
    served[1] = await _issue(cluster, second)
    steps: list[tuple[int, int]] = []

    async def settled() -> bool | None:
        """Follow it; what is served must be trusted by whoever has the bundle of before."""
        before = (await cluster.bundle(profile)).manifest["metadata"]["trust"]["ca_pem"]
        secret = await cluster.secret("sluice-bundles-tls")
        which = served.index(secret["tls.crt"])
        assert (first, second)[which].pem.decode() in before
        step = (which, before.count("BEGIN"))
        if step not in steps:
            steps.append(step)
        return True if before == second.pem.decode() else None

    await cluster.until(settled, 40, f"the second authority to be the only one {steps}")
    assert [step for step in steps if step[1] == 2] == [(0, 2), (1, 2)]
    assert (await cluster.secret("sluice-admission-tls"))["ca.crt"] == second.pem
    path = path_of("v1", "secrets", cluster.namespace, "sluice-ca")
    assert await cluster.kube.find(path) is None


async def test_own_authority_takes_over_from_another_one_with_overlap(cluster, start):
    """As after cert-manager, or when the Secret of our authority was lost."""
    other = Authority.create(utc(time.time()), timedelta(hours=1))
    before = await _issue(cluster, other, 60, "tls")
    start(SLUICE_CERTIFICATE_SECONDS="20", SLUICE_CA_SECONDS="3600")
    await cluster.apply(cluster.classification(), cluster.policy())
    profile = await cluster.pod("web-1")
    bundle = await cluster.bundle_with(profile, lambda b: b.policies() == ["app"])
    trusted = bundle.manifest["metadata"]["trust"]["ca_pem"]
    assert trusted.count("BEGIN") == 2
    assert other.pem.decode() in trusted
    assert (await cluster.secret("sluice-bundles-tls"))["tls.crt"] == before

    async def ours() -> bool | None:
        for service in ("admission", "bundles"):
            leaf = (await cluster.secret(f"sluice-{service}-tls"))["tls.crt"]
            if other.signed(x509.load_pem_x509_certificate(leaf)):
                return None
        return True

    await cluster.until(ours, 40, "our own certificate to be served")
    last = await cluster.bundle_with(
        profile, lambda b: other.pem.decode() not in b.manifest["metadata"]["trust"]["ca_pem"]
    )
    assert last.manifest["metadata"]["trust"]["ca_pem"] in trusted
