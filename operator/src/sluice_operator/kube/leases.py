"""Which replica is active: a Lease of ``coordination.k8s.io``, held, renewed and given back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from sluice_operator import log_keys as keys
from sluice_operator.kube.client import Kube, Object, path_of
from sluice_operator.kube.errors import ApiError, KubeError

log = structlog.get_logger(__name__)

DEADLINE_SHARE: Final = 2 / 3
"""Of the Lease's duration: who could not renew for so long stops, well before another may start."""


class Leadership:
    """Holds a Lease, and runs the work only while it is held."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        identity: str,
        *,
        duration_s: float,
        renew_s: float,
    ) -> None:
        """Make one.

        Args:
            kube: The connection.
            namespace: Of the Lease.
            name: Of the Lease.
            identity: Of this process; no other may ever have it.
            duration_s: How long others wait after a holder's last sign of life.
            renew_s: Seconds between renewals, and between looks at a Lease that somebody else holds.
        """
        self._kube = kube
        self._collection = path_of("coordination.k8s.io/v1", "leases", namespace)
        self._name = name
        self._identity = identity
        self._duration_s = duration_s
        self._renew_s = renew_s
        self._renewed_at: float | None = None
        self._observed: tuple[str, float] | None = None
        self.holder: str | None = None
        """Who holds it, as last seen."""

    @property
    def leading(self) -> bool:
        """Whether this process may write. To be asked before every write."""
        at = self._renewed_at
        return at is not None and time.monotonic() - at < self._duration_s * DEADLINE_SHARE

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Take the Lease whenever it is free and work while it is held, until cancelled; then give it back."""
        try:
            while True:
                await self._acquire()
                log.info("leading", **{keys.HOLDER: self._identity})
                await self._lead(work)
                log.warning("no longer leading", **{keys.HOLDER: self.holder})
        finally:
            if self._renewed_at is not None:
                self._renewed_at = None
                with contextlib.suppress(KubeError, TimeoutError):
                    async with asyncio.timeout(self._renew_s):
                        await self._give_back()

    async def _acquire(self) -> None:
        while True:
            try:
                if await self._try(time.monotonic()):
                    return
            except KubeError as error:
                log.warning("the Lease cannot be read", **{keys.ERROR: str(error)})
            await asyncio.sleep(self._renew_s)

    async def _lead(self, work: Callable[[], Awaitable[None]]) -> None:
        working = asyncio.ensure_future(work())
        try:
            while self.leading and not working.done():
                # Whoever fails is seen at once; otherwise it is time to renew.
                await asyncio.wait([working], timeout=self._renew_s)
                try:
                    async with asyncio.timeout(self._duration_s * DEADLINE_SHARE / 2):
                        if not working.done() and not await self._try(time.monotonic()):
                            break
                except (KubeError, TimeoutError) as error:
                    log.warning("the Lease cannot be renewed", **{keys.ERROR: str(error)})
        finally:
            if not working.done():
                working.cancel()
            await asyncio.wait([working])
        if not working.cancelled() and (error := working.exception()) is not None:
            raise error
        self._renewed_at = None

    async def _try(self, began: float) -> bool:
        """Take or renew the Lease if it is ours, free or run out."""
        lease = await self._kube.find(f"{self._collection}/{self._name}")
        try:
            if lease is None:
                await self._kube.create(self._collection, self._lease(None))
            elif self._free(lease):
                await self._kube.replace(f"{self._collection}/{self._name}", self._lease(lease))
            else:
                self._renewed_at = None
                return False
        except ApiError as error:
            if error.status == 409:  # Somebody was faster.
                return False
            raise
        self.holder = self._identity
        self._renewed_at = began
        return True

    def _free(self, lease: Object) -> bool:
        spec: dict[str, Any] = lease.get("spec") or {}
        self.holder = spec.get("holderIdentity") or None
        if self.holder in (None, self._identity):
            return True
        version = lease["metadata"]["resourceVersion"]
        now = time.monotonic()
        # By our own clock since we saw it change: clocks of two nodes are not compared.
        if self._observed is None or self._observed[0] != version:
            self._observed = (version, now)
            return False
        return now - self._observed[1] > float(spec.get("leaseDurationSeconds") or self._duration_s)

    def _lease(self, before: Object | None) -> Object:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec: dict[str, Any] = dict((before or {}).get("spec") or {})
        if spec.get("holderIdentity") != self._identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (before is not None)
        spec["holderIdentity"] = self._identity
        spec["leaseDurationSeconds"] = max(1, round(self._duration_s))
        spec["renewTime"] = now
        metadata = before["metadata"] if before else {"name": self._name}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }

    async def _give_back(self) -> None:
        path = f"{self._collection}/{self._name}"
        lease = await self._kube.find(path)
        if lease is None or lease.get("spec", {}).get("holderIdentity") != self._identity:
            return
        lease["spec"]["holderIdentity"] = ""
        await self._kube.replace(path, lease)
