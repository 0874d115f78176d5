"""Keys, authorities and certificates at run time: made, rotated, told to everybody who is to trust them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from cryptography import x509

from sluice_operator import log_keys as keys
from sluice_operator.certificates.authority import utc
from sluice_operator.certificates.issued import Issued, pem_of, served
from sluice_operator.certificates.rotation import Authorities, Lives, leaf_problem, rotated
from sluice_operator.certificates.signing import SigningKeys
from sluice_operator.controller import metrics
from sluice_operator.controller.settings import Settings
from sluice_operator.kube.client import Kube, path_of
from sluice_operator.kube.errors import ApiError
from sluice_operator.kube.keeping import Keeper, Kept
from sluice_operator.reconcile.publishing import trust_digest

log = structlog.get_logger(__name__)

CA_SECRET: Final = "sluice-ca"  # noqa: S105  A name.
SIGNING_SECRET: Final = "sluice-signing"  # noqa: S105  A name.
SERVING: Final = ("admission", "bundles")
TRUST_CONFIG_MAP: Final = "sluice-trust"
CA_FILE, KEYS_FILE, PREVIOUS_FILE = "ca.pem", "keys.json", "previous.json"
"""In it: whom to trust from now on, and whom its last version said to trust."""
WEBHOOKS: Final = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
WEBHOOK_NAME: Final = "sluice"
REGISTRATION: Final = "admissionregistration.k8s.io/v1"


class TrustError(Exception):
    """A Secret of ours cannot be used. The message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What bundles are signed with, and whom sidecars are to trust."""

    keys: SigningKeys
    ca_pem: str

    def document(self) -> dict[str, Any]:
        """As bundles carry it."""
        return {"ca_pem": self.ca_pem, "keys": self.keys.public}

    @property
    def digest(self) -> str:
        """What tells it from another one."""
        return trust_digest(self.document())


class TrustKeeper:
    """Looks after all of it. Only the active replica has one."""

    def __init__(self, kube: Kube, keeper: Keeper, settings: Settings) -> None:
        """Make one; ``refresh`` does the work."""
        self._kube = kube
        self._keeper = keeper
        self._settings = settings
        self._namespace = settings.common.namespace
        self._lives = Lives(
            timedelta(seconds=settings.ca_s), timedelta(seconds=settings.certificate_s)
        )
        self._refused: dict[str, str | None] = {}
        """Secret that cert-manager makes → what was said of it last."""
        self._published: str | None = None
        """CAs that everybody has been told of."""
        self.trust: Trust | None = None
        """None until the first ``refresh``."""

    @property
    def period_s(self) -> float:
        """Seconds between two calls of ``refresh``.

        Ten at most: what was made under other settings may live for a minute only.
        """
        shortest = min(self._settings.certificate_s, self._settings.signing_key_s)
        return max(1.0, min(10.0, shortest / 20))

    async def refresh(self) -> Trust:
        """Make or rotate what is due, and return what is to be published from now on.

        Raises:
            KubeError: The API server is away.
            MovedError: Somebody else writes too.
            TrustError: A Secret cannot be used.
        """
        now = utc(time.time())
        signing = await self._signing_keys(now)
        if self._settings.own_certificates:
            ca_pem = await self._own(now)
        else:
            found = [await self._issued(service, now) for service in SERVING]
            ca_pem = pem_of(one for each in found for one in each.authorities)
        self.trust = Trust(keys=signing, ca_pem=ca_pem)
        return self.trust

    async def introduce(self, trust: Trust) -> None:
        """At the very first start: no bundle is there to carry it, and no pod is injected before.

        Raises:
            KubeError: The API server is away.
            MovedError: Somebody else writes too.
        """
        if await self._keeper.config_map(TRUST_CONFIG_MAP) is None:
            await self.publish(trust)

    async def publish(self, trust: Trust) -> None:
        """Tell new pods and the API server, after all bundles carry it.

        Raises:
            KubeError: The API server is away.
            MovedError: Somebody else writes too.
        """
        keys_json = json.dumps(trust.keys.public, sort_keys=True)
        data = {CA_FILE: trust.ca_pem, KEYS_FILE: keys_json}
        found = await self._keeper.config_map(TRUST_CONFIG_MAP)
        before: dict[str, str] = (found or {}).get("data") or {}
        if any(before.get(name) != text for name, text in data.items()):
            version = found["metadata"]["resourceVersion"] if found else None
            if before.get(CA_FILE) and before.get(KEYS_FILE):
                # Pods that are being created under it are no forgeries.
                data[PREVIOUS_FILE] = json.dumps(
                    {CA_FILE: before[CA_FILE], KEYS_FILE: before[KEYS_FILE]}, sort_keys=True
                )
            await self._keeper.put_config_map(TRUST_CONFIG_MAP, "trust", version=version, data=data)
        complete = True
        for plural in WEBHOOKS:
            complete = await self._ca_bundle(plural, trust.ca_pem) and complete
        if complete:
            self._published = trust.ca_pem

    async def _signing_keys(self, now: datetime) -> SigningKeys:
        kept = await self._keeper.secret(SIGNING_SECRET)
        if kept is None:
            made = SigningKeys.create(now)
            await self._keeper.put_secret(SIGNING_SECRET, made.dump(), None)
            log.info("signing keys made", **{keys.KEY_ID: made.present.key_id})
            return made
        try:
            present = SigningKeys.load(kept.data)
        except ValueError as error:
            raise TrustError(_unusable(SIGNING_SECRET, error)) from error
        wanted = present.rotated(now, timedelta(seconds=self._settings.signing_key_s))
        if wanted is not present:
            await self._keeper.put_secret(SIGNING_SECRET, wanted.dump(), kept.version)
            log.info("signing key rotated", **{keys.KEY_ID: wanted.present.key_id})
        return wanted

    async def _authorities(self, now: datetime) -> Authorities:
        kept = await self._keeper.secret(CA_SECRET)
        present: Authorities | None = None
        if kept is not None:
            try:
                present = Authorities.load(kept.data)
            except (ValueError, KeyError) as error:
                raise TrustError(_unusable(CA_SECRET, error)) from error
        told = self._published or ""
        published = present is not None and all(one.pem.decode() in told for one in present.trusted)
        wanted = rotated(present, now, self._lives, published=published)
        if wanted != present:
            version = kept.version if kept is not None else None
            await self._keeper.put_secret(CA_SECRET, wanted.dump(), version)
            log.info(
                "authorities changed",
                **{
                    keys.SERIAL: f"{wanted.current.certificate.serial_number:x}",
                    keys.COUNT: len(wanted.trusted),
                },
            )
        metrics.CERTIFICATE_EXPIRES.labels(CA_SECRET).set(wanted.current.expires_at.timestamp())
        return wanted

    async def _own(self, now: datetime) -> str:
        """Serve certificates of our own authority; return all authorities to trust."""
        authorities = await self._authorities(now)
        trusted = [one.certificate for one in authorities.trusted]
        for service in SERVING:
            kept = await self._keeper.secret(f"sluice-{service}-tls")
            present, _ = self._usable(service, kept, now)
            if present is None or any(one.signed(present.leaf) for one in authorities.trusted):
                await self._serving(service, kept, authorities, now)
                continue
            # Of an authority that is not ours: cert-manager's before, or the one of a Secret that was lost.
            certificate, key = authorities.current.issue(
                self._hosts(service), now, self._lives.leaf
            )
            ca = authorities.bundle_pem.encode()
            upcoming = Issued.load({"tls.crt": certificate, "tls.key": key, "ca.crt": ca})
            trusted += (await self._take_over(service, upcoming, present, kept, now)).authorities
        return pem_of(trusted)

    async def _serving(
        self, service: str, kept: Kept | None, authorities: Authorities, now: datetime
    ) -> None:
        name = f"sluice-{service}-tls"
        data: Mapping[str, bytes] = kept.data if kept is not None else {}
        hosts = self._hosts(service)
        why = leaf_problem(data.get("tls.crt"), authorities, hosts, now)
        ca = authorities.bundle_pem.encode()
        certificate, key = data.get("tls.crt", b""), data.get("tls.key", b"")
        if why is not None:
            certificate, key = authorities.current.issue(hosts, now, self._lives.leaf)
            log.info("serving certificate made", **{keys.NAME: name, keys.REASON: why})
        expires_at = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
        metrics.CERTIFICATE_EXPIRES.labels(name).set(expires_at.timestamp())
        if why is None and data.get("ca.crt") == ca:
            return
        wanted = {"tls.crt": certificate, "tls.key": key, "ca.crt": ca}
        version = kept.version if kept is not None else None
        await self._keeper.put_secret(name, wanted, version, "kubernetes.io/tls")

    def _hosts(self, service: str) -> list[str]:
        base = f"sluice-{service}.{self._namespace}"
        return [f"{base}.svc", base, f"{base}.svc.{self._settings.common.cluster_domain}"]

    async def _issued(self, service: str, now: datetime) -> Issued:
        """Serve what cert-manager issues, once its authority is trusted."""
        name, source = f"sluice-{service}-tls", f"sluice-{service}-issued"
        kept = await self._keeper.secret(name)
        present, _ = self._usable(service, kept, now)
        issued, why = self._usable(service, await self._keeper.secret(source), now)
        if why != self._refused.get(source) and why is not None and present is not None:
            log.error("issued certificate not taken", **{keys.NAME: source, keys.REASON: why})
        self._refused[source] = why
        if issued is not None:
            return await self._take_over(service, issued, present, kept, now)
        if present is not None:
            metrics.CERTIFICATE_EXPIRES.labels(name).set(present.expires_at.timestamp())
            return present
        raise TrustError(
            f"waiting for Secret {source}, which cert-manager makes of the Certificate sluice-{service}: {why}"
        )

    async def _take_over(
        self,
        service: str,
        upcoming: Issued,
        present: Issued | None,
        kept: Kept | None,
        now: datetime,
    ) -> Issued:
        """Serve one certificate after another, or begin to trust its authority; return what is served now."""
        published = self.trust is not None and self.trust.ca_pem == self._published
        wanted = served(upcoming, present, now, published=published)
        name = f"sluice-{service}-tls"
        metrics.CERTIFICATE_EXPIRES.labels(name).set(wanted.expires_at.timestamp())
        data = wanted.dump()
        if kept is None or data != kept.data:
            version = kept.version if kept is not None else None
            await self._keeper.put_secret(name, data, version, "kubernetes.io/tls")
            log.info(
                "certificate or its trust taken over",
                **{
                    keys.NAME: name,
                    keys.SERIAL: f"{wanted.leaf.serial_number:x}",
                    keys.COUNT: len(wanted.authorities),
                },
            )
        return wanted

    def _usable(
        self, service: str, kept: Kept | None, now: datetime
    ) -> tuple[Issued | None, str | None]:
        """Return what a Secret holds, or why it cannot be served."""
        if kept is None:
            return None, "there is none"
        try:
            found = Issued.load(kept.data)
        except ValueError as error:
            return None, str(error)
        why = found.problem(self._hosts(service), now)
        return (found, None) if why is None else (None, why)

    async def _ca_bundle(self, plural: str, ca_pem: str) -> bool:
        """Write ``caBundle``; return whether nobody is left who does not have it."""
        path = path_of(REGISTRATION, plural, None, WEBHOOK_NAME)
        found = await self._kube.find(path)
        if found is None:  # Nobody calls our webhooks, so nobody has to trust them.
            return True
        wanted = base64.b64encode(ca_pem.encode()).decode()
        webhooks: list[dict[str, Any]] = found.get("webhooks") or []
        if all(one["clientConfig"].get("caBundle") == wanted for one in webhooks):
            return True
        body = {
            "apiVersion": REGISTRATION,
            "kind": found["kind"],
            "metadata": {"name": WEBHOOK_NAME},
            "webhooks": [
                {"name": one["name"], "clientConfig": {"caBundle": wanted}} for one in webhooks
            ],
        }
        try:
            await self._kube.apply(path, body)
        except ApiError as error:
            log.error(  # noqa: TRY400  The error says all.
                "caBundle cannot be written", **{keys.NAME: plural, keys.ERROR: str(error)}
            )
            return False
        log.info("caBundle written", **{keys.NAME: plural})
        return True


def _unusable(name: str, error: Exception) -> str:
    return (
        f"Secret {name} cannot be used: {error}. Restore it, or delete it to have a new one made; then start all "
        "governed pods anew"
    )
