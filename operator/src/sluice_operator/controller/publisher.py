"""Bundles: numbered, signed, written; never a lower number than before."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from sluice_operator import log_keys as keys
from sluice_operator.bundle_names import bundle_name
from sluice_operator.controller import metrics
from sluice_operator.controller.bundle_files import (
    BEFORE_FILE,
    FILE,
    KIND,
    BundleFiles,
    is_apart,
)
from sluice_operator.controller.estate import Estate
from sluice_operator.controller.settings import Settings
from sluice_operator.controller.trust import Trust
from sluice_operator.kube.client import METADATA, METADATA_LIST, Kube, path_of
from sluice_operator.kube.errors import ApiError
from sluice_operator.kube.keeping import KIND_LABEL, Keeper, MovedError
from sluice_operator.reconcile.activation import running
from sluice_operator.reconcile.model import StoredBundle
from sluice_operator.reconcile.parsing import stored_bundle
from sluice_operator.reconcile.publishing import Cause, next_sequence
from sluice_policy import Compiled, bundle, opened, signing_key_id

log = structlog.get_logger(__name__)


class ContentError(Exception):
    """What is stored is not what was published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marks:
    """What is written beside content."""

    before: tuple[str, bytes] | None = None
    """Revision and bundle of what worked before."""
    held: str = ""
    because: str = ""
    acquitted: str = ""


class Publisher:
    """The one writer of bundles."""

    def __init__(self, kube: Kube, keeper: Keeper, estate: Estate, settings: Settings) -> None:
        """Make one; ``load`` comes first."""
        self._kube = kube
        self._keeper = keeper
        self._files = BundleFiles(keeper)
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

    async def publish(
        self, profile_id: str, compiled: Compiled, trust: Trust, cause: Cause
    ) -> None:
        """Sign and write a profile's content under the next number; what worked until then is kept beside it.

        Raises:
            KubeError: The API server is away, or does not take it.
            MovedError: It was not as it was known; it has been read again.
            TooLargeError: It cannot be stored.
        """
        present = self._estate.bundles.get(profile_id)
        acquitted = cause == "acquitted" or (
            present is not None and present.acquitted == compiled.revision
        )
        marks = _Marks(
            before=await self._keeping(present, compiled.revision, trust),
            acquitted=compiled.revision if acquitted else "",
        )
        await self._publish(profile_id, compiled, trust, cause, marks)

    async def renew(self, profile_id: str, trust: Trust, cause: Cause) -> None:
        """Sign the stored content again, because what is newer is held back or refused.

        Raises:
            KubeError: The API server is away, or does not take it.
            MovedError: It was not as it was known; it has been read again.
            ContentError: What is stored is not what was published.
        """
        present = self._estate.bundles[profile_id]
        marks = _Marks(
            before=await self._keeping(present, present.revision, trust),
            held=present.held,
            because=present.held_because,
            acquitted=present.acquitted,
        )
        await self._again(present, FILE, trust, cause, marks)

    async def withdraw(self, profile_id: str, trust: Trust, because: str) -> None:
        """Publish once more the content that worked before the present one, and hold the present one back.

        Raises:
            KubeError: The API server is away, or does not take it.
            MovedError: It was not as it was known; it has been read again.
            ContentError: What is stored is not what was published.
        """
        present = self._estate.bundles[profile_id]
        marks = _Marks(held=present.revision, because=because)
        await self._again(present, BEFORE_FILE, trust, "withdrawn", marks)

    async def _again(
        self, present: StoredBundle, file: str, trust: Trust, cause: Cause, marks: _Marks
    ) -> None:
        """Publish what is stored, if it is what one of our keys signed."""
        raw = await self._files.read(present, file)
        compiled = await self._opened(present, file, raw, trust)
        await self._publish(present.profile_id, compiled, trust, cause, marks)

    async def _keeping(
        self, present: StoredBundle | None, revision: str, trust: Trust
    ) -> tuple[str, bytes] | None:
        """Return revision and bundle of the content that worked until now; None when none is known to have worked.

        Args:
            present: What is published.
            revision: Of what is to be published.
            trust: Whose keys count.
        """
        if present is None:
            return None
        file, kept = BEFORE_FILE, present.before
        if present.revision != revision and running(
            self._estate.reports.values(), present, time.time()
        ):
            file, kept = FILE, present.revision
        if not kept or kept == revision:
            return None
        raw = await self._files.read(present, file)
        if signing_key_id(raw) == trust.keys.present.key_id:
            return kept, raw  # Checked when it is used.
        try:
            content = await self._opened(present, file, raw, trust)
        except ContentError as error:
            log.warning(
                "earlier content not kept",
                **{keys.PROFILE: present.profile_id, keys.ERROR: str(error)},
            )
            return None
        # Signed by the present key: what is kept outlives the key that signed it first.
        raw = await self._signed(
            present.profile_id, content, present.sequence, present.issued_at, trust
        )
        return kept, raw

    async def _opened(self, present: StoredBundle, file: str, raw: bytes, trust: Trust) -> Compiled:
        try:
            content = await asyncio.to_thread(
                opened, raw, keys=trust.keys.ours, profile_id=present.profile_id
            )
        except ValueError as error:
            raise ContentError(f"{file} of {present.name}: {error}") from error
        if content.revision != (present.revision if file == FILE else present.before):
            raise ContentError(f"{file} of {present.name} is other content than it was")
        return content

    async def _signed(
        self, profile_id: str, compiled: Compiled, sequence: int, issued_at: float, trust: Trust
    ) -> bytes:
        return await asyncio.to_thread(
            bundle,
            compiled,
            sequence=sequence,
            issued_at=datetime.fromtimestamp(issued_at, UTC),
            profile_id=profile_id,
            max_policy_age_s=self._settings.max_policy_age_s,
            key=trust.keys.present,
            trust=trust.document(),
        )

    async def _publish(
        self, profile_id: str, compiled: Compiled, trust: Trust, cause: Cause, marks: _Marks
    ) -> None:
        now = time.time()
        present = self._estate.bundles.get(profile_id)
        last = max(self._highest.get(profile_id, 0), present.sequence if present else 0)
        sequence = next_sequence(last or None, now)
        raw = await self._signed(profile_id, compiled, sequence, now, trust)
        kept, before = marks.before if marks.before is not None else ("", None)
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
            before=kept,
            apart=is_apart(raw, before),
            held=marks.held,
            held_because=marks.because,
            acquitted=marks.acquitted,
        )
        version = await self._write(stored, raw, before)
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
        if present is not None and present.apart and not stored.apart:
            await self._files.drop_apart(profile_id)

    async def _write(self, stored: StoredBundle, raw: bytes, before: bytes | None) -> str:
        try:
            return await self._files.write(stored, raw, before)
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
        await self._files.drop(profile_id)
        self._estate.bundles.pop(profile_id, None)
        log.info("bundle without pods removed", **{keys.PROFILE: profile_id})
