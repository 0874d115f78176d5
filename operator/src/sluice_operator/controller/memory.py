"""Last valid generations: kept in ConfigMaps, so that a restart does not lose them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping

import structlog

from sluice_operator import log_keys as keys
from sluice_operator.kube.errors import ApiError
from sluice_operator.kube.keeping import Keeper, MovedError
from sluice_operator.reconcile.model import LastValid
from sluice_operator.reconcile.parsing import LAST_VALID_KEY, pack_last_valid, unpack_last_valid

log = structlog.get_logger(__name__)

KIND = "last-valid"
PREFIX = "sluice-last-valid-"
PARALLEL = 8
TOO_LARGE = frozenset({413, 422})


class LastValidStore:
    """What is stored, and its changes."""

    def __init__(self, keeper: Keeper) -> None:
        """Make one; ``load`` comes first."""
        self._keeper = keeper
        self._versions: dict[str, str] = {}
        self.known: dict[str, LastValid] = {}
        """By uid, as stored."""

    async def load(self) -> None:
        """Read all of them.

        Raises:
            KubeError: The API server is away.
        """
        self.known, self._versions = {}, {}
        for item in await self._keeper.config_maps(KIND):
            name: str = item["metadata"]["name"]
            encoded: Mapping[str, str] = item.get("binaryData") or {}
            last = unpack_last_valid(base64.b64decode(encoded.get(LAST_VALID_KEY, "")))
            uid = name.removeprefix(PREFIX)
            if last is None or last.resource.uid != uid:
                log.error("last valid generation cannot be read", **{keys.NAME: name})
                continue
            self.known[uid] = last
            self._versions[uid] = item["metadata"]["resourceVersion"]

    async def keep(self, wanted: Mapping[str, LastValid]) -> None:
        """Write what changed.

        Raises:
            KubeError: The API server is away.
            MovedError: Somebody else writes too; everything has been read again.
        """
        gate = asyncio.Semaphore(PARALLEL)
        changed = [uid for uid, last in wanted.items() if self.known.get(uid) != last]
        done = await asyncio.gather(
            *(self._write(uid, wanted[uid], gate) for uid in changed), return_exceptions=True
        )
        failures = [one for one in done if isinstance(one, BaseException)]
        if any(isinstance(one, MovedError) for one in failures):
            await self.load()
        for failure in failures:
            if isinstance(failure, ApiError) and failure.status in TOO_LARGE:
                # One resource's size is not everybody's: it is in force, and forgotten by the next start.
                log.error("last valid generation not kept", **{keys.ERROR: str(failure)})
                continue
            raise failure

    async def _write(self, uid: str, last: LastValid, gate: asyncio.Semaphore) -> None:
        async with gate:
            self._versions[uid] = await self._keeper.put_config_map(
                f"{PREFIX}{uid}",
                KIND,
                version=self._versions.get(uid),
                binary={LAST_VALID_KEY: pack_last_valid(last)},
            )
        self.known[uid] = last

    async def drop(self, wanted: Mapping[str, LastValid]) -> None:
        """Delete what has no use any more.

        Raises:
            KubeError: The API server is away.
        """
        for uid in [uid for uid in self.known if uid not in wanted]:
            await self._keeper.drop_config_map(f"{PREFIX}{uid}")
            self.known.pop(uid)
            self._versions.pop(uid, None)
