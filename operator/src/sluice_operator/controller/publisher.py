"""Bundles: numbered, signed, written; never a lower number than before."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from sluice_operator import log_keys as keys
from sluice_operator.admission.names import PROFILE
from sluice_operator.bundle_names import (
    ACQUITTED,
    BEFORE,
    HELD,
    HELD_BECAUSE,
    ISSUED_AT,
    REVISION,
    SEQUENCE,
    SINCE,
    TRUST,
    bundle_name,
)
from sluice_operator.controller import metrics
from sluice_operator.controller.estate import Estate
from sluice_operator.controller.settings import Settings
from sluice_operator.controller.trust import Trust
from sluice_operator.kube.client import METADATA, METADATA_LIST, Kube, path_of
from sluice_operator.kube.errors import ApiError
from sluice_operator.kube.keeping import KIND_LABEL, Keeper, MovedError
from sluice_operator.reconcile.activation import running
from sluice_operator.reconcile.model import StoredBundle
from sluice_operator.reconcile.parsing import stored_bundle, time_text
from sluice_operator.reconcile.publishing import Cause, next_sequence
from sluice_policy import Compiled, bundle, opened, signing_key_id

log = structlog.get_logger(__name__)

KIND = "bundle"
FILE, BEFORE_FILE = "bundle.tar.gz", "before.tar.gz"
STORED_BYTES_MAX = 700 * 1024
"""Of both files: a ConfigMap takes 1 MiB, in base64. Content that is larger has nothing kept beside it."""


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


def _noted(stored: StoredBundle) -> dict[str, str]:
    notes = {
        BEFORE: stored.before,
        HELD: stored.held,
        HELD_BECAUSE: stored.held_because,
        ACQUITTED: stored.acquitted,
    }
    return {name: text for name, text in notes.items() if text}


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

    async def publish(
        self, profile_id: str, compiled: Compiled, trust: Trust, cause: Cause
    ) -> None:
        """Sign and write a profile's content under the next number; what worked until then is kept beside it.

        Raises:
            KubeError: The API server is away, or does not take it.
            MovedError: It was not as it was known; it has been read again.
        """
        present = self._estate.bundles.get(profile_id)
        keeping = await self._keeping(present, compiled, trust)
        acquitted = compiled.revision if cause == "acquitted" else ""
        if present is not None and present.acquitted == compiled.revision:
            acquitted = present.acquitted
        marks = _Marks(before=keeping, acquitted=acquitted)
        await self._publish(profile_id, compiled, trust, cause, marks)

    async def renew(self, profile_id: str, trust: Trust, cause: Cause) -> None:
        """Sign the stored content again, because what is newer is held back.

        Raises:
            KubeError: The API server is away, or does not take it.
            MovedError: It was not as it was known; it has been read again.
            ContentError: What is stored is not what was published.
        """
        present = self._estate.bundles[profile_id]
        compiled = await self._stored_content(present, FILE, present.revision, trust)
        marks = _Marks(held=present.held, because=present.held_because)
        await self._publish(profile_id, compiled, trust, cause, marks)

    async def withdraw(self, profile_id: str, trust: Trust, because: str) -> None:
        """Publish once more the content that worked before the present one, and hold the present one back.

        Raises:
            KubeError: The API server is away, or does not take it.
            MovedError: It was not as it was known; it has been read again.
            ContentError: What is stored is not what was published.
        """
        present = self._estate.bundles[profile_id]
        compiled = await self._stored_content(present, BEFORE_FILE, present.before, trust)
        marks = _Marks(held=present.revision, because=because)
        await self._publish(profile_id, compiled, trust, "withdrawn", marks)

    async def _keeping(
        self, present: StoredBundle | None, compiled: Compiled, trust: Trust
    ) -> tuple[str, bytes] | None:
        """Return revision and bundle of the content that worked until now; None when none is known to have worked."""
        if present is None:
            return None
        path, revision = BEFORE_FILE, present.before
        if present.revision != compiled.revision and running(
            self._estate.reports.values(), present, time.time()
        ):
            path, revision = FILE, present.revision
        if not revision or revision == compiled.revision:
            return None
        raw = await self._stored(present, path)
        if signing_key_id(raw) == trust.keys.present.key_id:
            return revision, raw  # Checked when it is used.
        try:
            content = await self._opened(present, path, raw, revision, trust)
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
        return revision, raw

    async def _stored_content(
        self, present: StoredBundle, file: str, revision: str, trust: Trust
    ) -> Compiled:
        """Return content that is stored, if it is what one of our keys signed.

        Raises:
            KubeError: The API server is away.
            ContentError: It is not, or is not there.
        """
        raw = await self._stored(present, file)
        return await self._opened(present, file, raw, revision, trust)

    async def _stored(self, present: StoredBundle, file: str) -> bytes:
        item = await self._keeper.config_map(present.name) or {}
        files: Mapping[str, str] = item.get("binaryData") or {}
        return base64.b64decode(files.get(file, ""))

    async def _opened(
        self, present: StoredBundle, file: str, raw: bytes, revision: str, trust: Trust
    ) -> Compiled:
        try:
            content = await asyncio.to_thread(
                opened, raw, keys=trust.keys.ours, profile_id=present.profile_id
            )
        except ValueError as error:
            raise ContentError(f"{file} of {present.name}: {error}") from error
        if content.revision != revision:
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
        files = {FILE: raw}
        if marks.before is not None and len(raw) + len(marks.before[1]) <= STORED_BYTES_MAX:
            files[BEFORE_FILE] = marks.before[1]
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
            before=marks.before[0] if marks.before and BEFORE_FILE in files else "",
            held=marks.held,
            held_because=marks.because,
            acquitted=marks.acquitted,
        )
        version = await self._write(stored, files)
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

    async def _write(self, stored: StoredBundle, files: Mapping[str, bytes]) -> str:
        annotations = {
            PROFILE: stored.profile_id,
            SEQUENCE: str(stored.sequence),
            SINCE: str(stored.since),
            REVISION: stored.revision,
            ISSUED_AT: time_text(stored.issued_at, digits=3),
            TRUST: stored.trust,
            **_noted(stored),
        }
        try:
            return await self._keeper.put_config_map(
                stored.name,
                KIND,
                version=stored.resource_version or None,
                binary=files,
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
