"""Bundles: numbered, signed, written; never a lower number than before."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from sluice_operator import log_keys as keys
from sluice_operator.admission.names import PROFILE
from sluice_operator.controller import metrics
from sluice_operator.controller.estate import Estate
from sluice_operator.controller.settings import Settings
from sluice_operator.controller.trust import Trust
from sluice_operator.kube.client import METADATA, METADATA_LIST, Kube, path_of
from sluice_operator.kube.errors import ApiError
from sluice_operator.kube.keeping import KIND_LABEL, Keeper, MovedError
from sluice_operator.reconcile.model import StoredBundle
from sluice_operator.reconcile.parsing import (
    ISSUED_AT,
    REVISION,
    SEQUENCE,
    SINCE,
    TRUST,
    stored_bundle,
    time_text,
)
from sluice_operator.reconcile.publishing import bundle_name, next_sequence
from sluice_policy import Compiled, bundle

log = structlog.get_logger(__name__)

KIND = "bundle"
FILE = "bundle.tar.gz"


class Publisher:
    """The one writer of bundles."""

    def __init__(self, kube: Kube, keeper: Keeper, estate: Estate, settings: Settings) -> None:
        """Make one; ``load`` comes first."""
        self._kube = kube
        self._keeper = keeper
        self._estate = estate
        self._settings = settings
        self._path = path_of("v1", "configmaps", settings.common.namespace)
        self._highest: dict[str, int] = {}

    async def load(self) -> None:
        """Read what is published, from the API server itself and not from a watch.

        Raises:
            KubeError: The API server is away.
        """
        query: dict[str, str | int] = {"labelSelector": f"{KIND_LABEL}={KIND}", "limit": 500}
        found: dict[str, StoredBundle] = {}
        while True:
            page = await self._kube.request(
                "GET", self._path, query=query, accept=METADATA_LIST, timeout_s=30.0
            )
            for item in page.get("items") or ():
                stored = stored_bundle(item)
                if stored is not None:
                    found[stored.profile_id] = stored
            token = page["metadata"].get("continue")
            if not token:
                break
            query["continue"] = token
        for profile in set(self._estate.bundles) - set(found):
            del self._estate.bundles[profile]
        for stored in found.values():
            self._estate.published(stored)
            self._note(stored)

    def _note(self, stored: StoredBundle) -> None:
        known = self._highest.get(stored.profile_id, 0)
        self._highest[stored.profile_id] = max(known, stored.sequence)

    async def publish(self, profile_id: str, compiled: Compiled, trust: Trust, cause: str) -> None:
        """Sign and write a profile's content under the next number.

        Raises:
            KubeError: The API server is away, or does not take it.
            MovedError: It was not as it was known; it has been read again.
        """
        now = time.time()
        present = self._estate.bundles.get(profile_id)
        last = max(self._highest.get(profile_id, 0), present.sequence if present else 0)
        sequence = next_sequence(last or None, now)
        raw = await asyncio.to_thread(
            bundle,
            compiled,
            sequence=sequence,
            issued_at=datetime.fromtimestamp(now, UTC),
            profile_id=profile_id,
            max_policy_age_s=self._settings.max_policy_age_s,
            key=trust.keys.present,
            trust=trust.document(),
        )
        same = present is not None and present.revision == compiled.revision
        stored = StoredBundle(
            profile_id=profile_id,
            name=bundle_name(profile_id),
            sequence=sequence,
            since=present.since if present is not None and same else sequence,
            revision=compiled.revision,
            issued_at=now,
            trust=trust.digest,
            resource_version=present.resource_version if present else "",
        )
        version = await self._write(stored, raw)
        self._highest[profile_id] = sequence
        self._estate.published(replace(stored, resource_version=version))
        metrics.PUBLISHED.labels(cause).inc()
        log.info(
            "bundle published",
            **{
                keys.PROFILE: profile_id,
                keys.SEQUENCE: sequence,
                keys.REVISION: compiled.revision,
                keys.REASON: cause,
                keys.BYTES: len(raw),
            },
        )

    async def _write(self, stored: StoredBundle, raw: bytes) -> str:
        annotations = {
            PROFILE: stored.profile_id,
            SEQUENCE: str(stored.sequence),
            SINCE: str(stored.since),
            REVISION: stored.revision,
            ISSUED_AT: time_text(stored.issued_at, digits=3),
            TRUST: stored.trust,
        }
        try:
            return await self._keeper.put_config_map(
                stored.name,
                KIND,
                version=stored.resource_version or None,
                binary={FILE: raw},
                annotations=annotations,
            )
        except MovedError:
            await self._read_again(stored.profile_id, stored.name)
            raise

    async def _read_again(self, profile_id: str, name: str) -> None:
        try:
            item = await self._kube.get(f"{self._path}/{name}", accept=METADATA)
        except ApiError as error:
            if error.status != 404:
                raise
            self._estate.bundles.pop(profile_id, None)
            return
        stored = stored_bundle(item)
        if stored is None or stored.profile_id != profile_id:
            # Nobody's that we know: it is in the way.
            await self._keeper.drop_config_map(name)
            self._estate.bundles.pop(profile_id, None)
            return
        self._note(stored)
        self._estate.published(stored)

    async def remove(self, profile_id: str) -> None:
        """Delete the bundle of a profile that has had no pod for long."""
        await self._keeper.drop_config_map(bundle_name(profile_id))
        self._estate.bundles.pop(profile_id, None)
        log.info("bundle without pods removed", **{keys.PROFILE: profile_id})
