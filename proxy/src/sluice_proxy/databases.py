"""The databases a sidecar stands before, and what is known of their catalogs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from sluice_proxy import log_keys as keys
from sluice_proxy.catalog.model import Catalog
from sluice_proxy.catalog.reader import CatalogError, CatalogLogin, CatalogReader
from sluice_proxy.catalog.watch import CatalogWatch
from sluice_proxy.tls import ServerTls

log = structlog.get_logger(__name__)

CATALOG_AGE_MAX_S: Final = 15.0
"""Catalogs are looked at twice a second; without a look for so long the snapshot is not trusted any more."""
CATALOG_WAIT_S: Final = 5.0
CATALOG_LOOK_S: Final = 1.0
"""A database that answers slower than that is judged by the catalog as it was, while its age allows."""
VERSIONS_APART: Final = 1_000_000
"""Between the catalog versions of one reader and the next: plans are kept by version, also those of a database that is
reached in another way now."""
RESTART_DELAY_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """One classified database, as the sidecar reaches it."""

    name: str
    """``namespace/name`` of the DataClassification."""
    database_name: str
    """PostgreSQL's name of it."""
    upstream: str
    """``HOST:PORT`` (IPv6 in brackets) or ``unix:PATH``."""
    catalog_dsn: str | CatalogLogin | None = field(default=None, repr=False)
    """How the catalog is read; None: not at all, then no session can be restricted."""
    tls: ServerTls | None = None
    """Of the hop there; None: not encrypted."""
    group: str = ""
    """Name of a listener that it shares with other databases of its server; empty: none."""


@dataclass(slots=True)
class _Watched:
    database: Database
    watch: CatalogWatch | None = None
    task: asyncio.Task[None] | None = None


class Databases:
    """The present set. It changes while sidecars run: classifications come and go."""

    def __init__(self, *, catalog_age_max_s: float = CATALOG_AGE_MAX_S) -> None:
        self._watched: dict[str, _Watched] = {}
        self._catalog_age_max_s = catalog_age_max_s
        self._on_catalog: list[Callable[[str, Catalog], None]] = []
        self._retired: set[asyncio.Task[None]] = set()
        self._readers = 0

    def on_catalog(self, callback: Callable[[str, Catalog], None]) -> None:
        """Have a function called with a database's name whenever another catalog version was read."""
        self._on_catalog.append(callback)

    def __iter__(self) -> Iterator[Database]:
        return iter([watched.database for watched in self._watched.values()])

    def get(self, name: str) -> Database | None:
        """Return the database of that ``namespace/name``."""
        watched = self._watched.get(name)
        return None if watched is None else watched.database

    def called(self, database_name: str) -> list[Database]:
        """Return the databases that PostgreSQL knows by that name."""
        return [database for database in self if database.database_name == database_name]

    def replace(self, databases: Iterable[Database]) -> None:
        """Make these the present set; catalogs of those that stay as they were are kept. Needs a running loop."""
        wanted = {database.name: database for database in databases}
        for name in list(self._watched):
            if wanted.get(name) != self._watched[name].database:
                self._retire(self._watched.pop(name))
        for name, database in wanted.items():
            if name not in self._watched:
                self._watched[name] = self._begin(database)

    def _begin(self, database: Database) -> _Watched:
        watched = _Watched(database)
        if database.catalog_dsn is not None:

            def changed(catalog: Catalog, name: str = database.name) -> None:
                for callback in self._on_catalog:
                    callback(name, catalog)

            reader = CatalogReader(
                database.catalog_dsn, version_first=self._readers * VERSIONS_APART + 1
            )
            self._readers += 1
            watched.watch = CatalogWatch(reader, on_change=changed)
            watched.task = asyncio.create_task(
                _follow(watched.watch, database.name), name=f"catalog-{database.name}"
            )
        return watched

    def _retire(self, watched: _Watched) -> None:
        if watched.task is not None:
            watched.task.cancel()
            self._retired.add(watched.task)
            watched.task.add_done_callback(self._retired.discard)

    async def stop(self) -> None:
        """Stop reading catalogs."""
        self.replace(())
        tasks = list(self._retired)
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    async def refresh(self, database: Database, *, wait_s: float = CATALOG_WAIT_S) -> None:
        """Look whether the catalog changed; a failure shows as the catalog's age, not here."""
        watch = self._watch(database)
        if watch is None:
            return
        with contextlib.suppress(CatalogError, TimeoutError):
            async with asyncio.timeout(wait_s):
                await watch.refresh()

    async def look(self, database: Database) -> Catalog | None:
        """Return the catalog as it is now, by a look that began after this call; None when it cannot be looked at."""
        watch = self._watch(database)
        if watch is None:
            return None
        try:
            async with asyncio.timeout(CATALOG_WAIT_S):
                catalog = await watch.refresh()
        except (CatalogError, TimeoutError):
            return None
        return catalog if catalog.database == database.database_name else None

    def catalog(self, database: Database) -> Catalog | None:
        """Return the last snapshot, however old."""
        watch = self._watch(database)
        if watch is None or watch.catalog is None:
            return None
        # Another database's catalog is none.
        return watch.catalog if watch.catalog.database == database.database_name else None

    def catalog_problem(self, database: Database) -> str | None:
        """Return why the catalog cannot be relied on now, as a clause; None when it can."""
        if database.catalog_dsn is None:
            return (
                "no catalog role was given for it "
                "(--catalog or SLUICE_CATALOG_DSN; in Kubernetes spec.database.catalogSecretRef)"
            )
        watch = self._watch(database)
        if watch is None or watch.catalog is None:
            reason = None if watch is None else watch.problem
            return f"its catalog could not be read{': ' + reason if reason else ' yet'}"
        if watch.catalog.database != database.database_name:
            return (
                f'its catalog role is connected to database "{watch.catalog.database}" '
                f'and not to "{database.database_name}"'
            )
        if watch.age_s > self._catalog_age_max_s:
            return (
                f"its catalog was last read {watch.age_s:.0f} s ago, the bound is "
                f"{self._catalog_age_max_s:g} s{': ' + watch.problem if watch.problem else ''}"
            )
        return None

    def catalog_problems(self) -> Mapping[str, str]:
        """Return the problems by database name; databases without a catalog role are no problem by themselves."""
        found: dict[str, str] = {}
        for database in self:
            if database.catalog_dsn is None:
                continue
            problem = self.catalog_problem(database)
            if problem is not None:
                found[database.name] = problem
        return found

    def catalog_ages_s(self) -> Mapping[str, float]:
        """Return seconds since each catalog was last looked at."""
        return {
            name: watched.watch.age_s
            for name, watched in self._watched.items()
            if watched.watch is not None
        }

    def _watch(self, database: Database) -> CatalogWatch | None:
        watched = self._watched.get(database.name)
        return None if watched is None else watched.watch


async def _follow(watch: CatalogWatch, name: str) -> None:
    """Keep a catalog fresh until cancelled, whatever happens."""
    try:
        while True:
            try:
                await watch.run()
            except Exception as error:
                # The snapshot ages meanwhile, and what depends on it is refused.
                log.exception(
                    "catalog watch failed",
                    **{keys.DATABASE: name, keys.ERROR_TYPE: type(error).__name__},
                )
            await asyncio.sleep(RESTART_DELAY_S)
    finally:
        await watch.stop()
