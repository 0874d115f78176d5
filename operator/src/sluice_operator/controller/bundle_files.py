"""Bundles as they are stored: the newest of a profile, and beside it the one that worked before.

Both are in one ConfigMap while they fit; otherwise what worked before has one of its own. What this process wrote
it remembers, so that publishing reads nothing.
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sluice_operator.admission.names import PROFILE
from sluice_operator.bundle_names import (
    ACQUITTED,
    APART,
    BEFORE,
    HELD,
    HELD_BECAUSE,
    ISSUED_AT,
    REVISION,
    SEQUENCE,
    SINCE,
    TRUST,
    before_name,
    bundle_name,
)
from sluice_operator.kube.client import Object
from sluice_operator.kube.errors import ApiError
from sluice_operator.kube.keeping import Keeper
from sluice_operator.reconcile.model import StoredBundle
from sluice_operator.reconcile.parsing import time_text

KIND: Final = "bundle"
KIND_BEFORE: Final = "bundle-before"
"""Another label than the newest one's: replicas of the bundle service do not watch it."""
FILE: Final = "bundle.tar.gz"
BEFORE_FILE: Final = "before.tar.gz"
STORED_BYTES_MAX: Final = 1 << 20
"""Of all files in one ConfigMap, as the API server counts them."""
REMEMBERED_BYTES_MAX: Final = 24 << 20
"""A bundle has about 20 KiB, nearly all of it the Rego library."""
TOO_LARGE: Final = frozenset({413, 422})


class TooLargeError(Exception):
    """A bundle that cannot be stored; says how large it is and what to do."""


@dataclass(frozen=True, slots=True)
class _Known:
    version: str
    files: Mapping[str, bytes]

    @property
    def size(self) -> int:
        return sum(len(raw) for raw in self.files.values())


class BundleFiles:
    """Reads and writes the ConfigMaps of bundles."""

    def __init__(self, keeper: Keeper) -> None:
        """Make one."""
        self._keeper = keeper
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._size = 0

    async def read(self, present: StoredBundle, file: str) -> bytes:
        """Return a file of a stored bundle; empty when it is not there.

        Raises:
            KubeError: The API server is away.
        """
        known = self._known.get(present.profile_id)
        if known is not None and known.version == present.resource_version:
            return known.files.get(file, b"")
        apart = present.apart and file == BEFORE_FILE
        name = before_name(present.profile_id) if apart else present.name
        return _file(await self._keeper.config_map(name) or {}, file)

    async def write(self, stored: StoredBundle, newest: bytes, before: bytes | None) -> str:
        """Store a bundle under the version that it is known at, and return its new version.

        Args:
            stored: What is written on it; ``apart`` is as ``is_apart`` says.
            newest: The bundle.
            before: The one that worked before; None: there is none.

        Raises:
            TooLargeError: It cannot be stored.
            KubeError: The API server is away, or does not take it.
            MovedError: It is not as it was known.
        """
        if len(newest) > STORED_BYTES_MAX:
            raise TooLargeError(_too_large(len(newest)))
        files = {FILE: newest}
        if before is not None and stored.apart:
            await self._write_apart(before_name(stored.profile_id), before)
        elif before is not None:
            files[BEFORE_FILE] = before
        try:
            version = await self._keeper.put_config_map(
                stored.name,
                KIND,
                version=stored.resource_version or None,
                binary=files,
                annotations=_annotations(stored),
            )
        except ApiError as error:
            if error.status not in TOO_LARGE:
                raise
            message = f"the API server does not take its bundle: {error.message}"
            raise TooLargeError(message) from error
        self._remember(stored.profile_id, _Known(version, files), before)
        return version

    async def _write_apart(self, name: str, before: bytes) -> None:
        known = await self._keeper.config_map(name)
        if known is not None and _file(known, BEFORE_FILE) == before:
            return
        version = None if known is None else known["metadata"]["resourceVersion"]
        await self._keeper.put_config_map(
            name, KIND_BEFORE, version=version, binary={BEFORE_FILE: before}
        )

    async def drop_apart(self, profile_id: str) -> None:
        """Delete what has a ConfigMap of its own; none is no error."""
        await self._keeper.drop_config_map(before_name(profile_id))

    async def drop(self, profile_id: str) -> None:
        """Delete all that is stored for a profile."""
        self._forget(profile_id)
        await self._keeper.drop_config_map(bundle_name(profile_id))
        await self.drop_apart(profile_id)

    def _remember(self, profile_id: str, known: _Known, before: bytes | None) -> None:
        if before is not None:
            known = _Known(known.version, {**known.files, BEFORE_FILE: before})
        self._forget(profile_id)
        self._known[profile_id] = known
        self._size += known.size
        while self._size > REMEMBERED_BYTES_MAX:
            self._forget(next(iter(self._known)))

    def _forget(self, profile_id: str) -> None:
        known = self._known.pop(profile_id, None)
        if known is not None:
            self._size -= known.size


def is_apart(newest: bytes, before: bytes | None) -> bool:
    """Whether what worked before needs a ConfigMap of its own."""
    return before is not None and len(newest) + len(before) > STORED_BYTES_MAX


def _file(item: Object, name: str) -> bytes:
    files: Mapping[str, str] = item.get("binaryData") or {}
    return base64.b64decode(files.get(name, ""))


def _too_large(size: int) -> str:
    return (
        f"its bundle has {size // 1024} KiB, packed, and a ConfigMap takes {STORED_BYTES_MAX // 1024}: "
        "name columns by patterns, or let fewer databases admit this namespace"
    )


def _annotations(stored: StoredBundle) -> dict[str, str]:
    notes = {
        BEFORE: stored.before,
        APART: "true" if stored.apart else "",
        HELD: stored.held,
        HELD_BECAUSE: stored.held_because,
        ACQUITTED: stored.acquitted,
    }
    return {
        PROFILE: stored.profile_id,
        SEQUENCE: str(stored.sequence),
        SINCE: str(stored.since),
        REVISION: stored.revision,
        ISSUED_AT: time_text(stored.issued_at, digits=3),
        TRUST: stored.trust,
        **{name: text for name, text in notes.items() if text},
    }
