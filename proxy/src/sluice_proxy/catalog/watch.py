"""Keeps one database's catalog fresh: a cheap check twice a second, a full read when DDL was seen."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import time
from collections.abc import Awaitable, Callable

import structlog

from sluice_proxy.catalog.model import Catalog
from sluice_proxy.catalog.reader import CatalogError, CatalogReader

log = structlog.get_logger(__name__)

OnChange = Callable[[Catalog], Awaitable[None] | None]

_BACKOFF_MAX_S = 10.0
_FULL_READ_S = 120.0
"""What the cheap check cannot see (``ALTER SEQUENCE … OWNED BY`` alone) is noticed by then."""


class CatalogWatch:
    """Polls one database. It judges nothing: who uses the catalog compares ``age_s`` with its own bound."""

    def __init__(
        self,
        reader: CatalogReader,
        *,
        on_change: OnChange | None = None,
        interval_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._on_change = on_change
        self._interval_s = interval_s
        self._clock = clock
        self._lock = asyncio.Lock()
        self._catalog: Catalog | None = None
        self._problem: str | None = None
        self._checked_at = -math.inf
        self._read_at = -math.inf
        self._task: asyncio.Task[None] | None = None

    @property
    def catalog(self) -> Catalog | None:
        """The last catalog read, however old; None before the first."""
        return self._catalog

    @property
    def problem(self) -> str | None:
        """Why the last check failed, as a sentence; None when it succeeded."""
        return self._problem

    @property
    def age_s(self) -> float:
        """Seconds since the last successful check began; infinite before the first."""
        return self._clock() - self._checked_at

    def current(self, age_max_s: float) -> Catalog | None:
        """Return the catalog if its last check is at most that old, else None."""
        return self._catalog if self.age_s <= age_max_s else None

    async def refresh(self, *, full: bool = False) -> Catalog:
        """Check now and return a catalog that is at least as new as this call.

        Args:
            full: Read everything again, also when the cheap check sees no DDL.

        Raises:
            CatalogError: The database could not be asked; the old catalog stays and ages.
        """
        asked_at = self._clock()
        async with self._lock:
            if self._catalog is not None and not full and self._checked_at >= asked_at:
                return self._catalog
            began_at = self._clock()
            try:
                catalog = await self._newest(began_at, full=full)
            except CatalogError as error:
                if self._problem is None:
                    log.warning("catalog unreadable", reason=str(error))
                self._problem = str(error)
                raise
            changed = self._catalog is None or catalog.version != self._catalog.version
            self._catalog, self._checked_at, self._problem = catalog, began_at, None
            if changed:
                await self._announce(catalog)
            return catalog

    async def _newest(self, began_at: float, *, full: bool) -> Catalog:
        may_keep = not full and began_at - self._read_at < _FULL_READ_S
        if self._catalog is not None and may_keep and not await self._reader.changed():
            return self._catalog
        catalog = await self._reader.read()
        self._read_at = began_at
        return catalog

    async def _announce(self, catalog: Catalog) -> None:
        log.info("catalog read", version=catalog.version, relations=len(catalog.relations))
        if self._on_change is not None:
            outcome = self._on_change(catalog)
            if inspect.isawaitable(outcome):
                await outcome

    async def run(self) -> None:
        """Poll until cancelled; failures are kept in ``problem`` and tried again with growing pauses."""
        pause_s = self._interval_s
        while True:
            try:
                await self.refresh()
                pause_s = self._interval_s
            except CatalogError:
                pause_s = min(pause_s * 2, _BACKOFF_MAX_S)
            await asyncio.sleep(pause_s)

    async def start(self) -> None:
        """Begin polling in a task of its own, after one attempt to read (its failure is kept, not raised)."""
        with contextlib.suppress(CatalogError):
            await self.refresh()
        self._task = asyncio.create_task(self.run(), name="catalog-watch")

    async def stop(self) -> None:
        """End polling and close the connection."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._reader.close()
