"""Reads a database's catalog in one consistent snapshot.

The role needs CONNECT on the database and nothing else: no grant on any schema or table, no membership,
no superuser. Every table of ``pg_catalog`` that is read here is readable by PUBLIC; a server that revoked
that is named in the error. Give the role a connection limit of a few and ``NOINHERIT NOSUPERUSER``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import asyncpg

from sluice_proxy import allowlists
from sluice_proxy.catalog import queries
from sluice_proxy.catalog.build import Rows, build
from sluice_proxy.catalog.dsn import connect_arguments
from sluice_proxy.catalog.lineage_queries import FunctionKnowledge
from sluice_proxy.catalog.model import Catalog

_READS_MAX = 5
"""How often a read that DDL overtook is begun anew before the reader gives up."""
_PAUSE_S = 0.05
"""Added before each further attempt."""
_STATEMENT_TIMEOUT_S = 20.0

_SETTINGS = {
    "application_name": "sluice-catalog",
    "default_transaction_read_only": "on",
    "jit": "off",
    "search_path": "",
    "statement_timeout": str(int(_STATEMENT_TIMEOUT_S * 1000)),
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "30000",
}

_QUERIES: Mapping[str, str] = {
    "schemas": queries.SCHEMAS,
    "extensions": queries.EXTENSIONS,
    "types": queries.TYPES,
    "types_with_equality": queries.TYPES_WITH_EQUALITY,
    "typmods": queries.TYPMODS,
    "collations": queries.COLLATIONS,
    "relations": queries.RELATIONS,
    "attributes": queries.ATTRIBUTES,
    "inheritance": queries.INHERITANCE,
    "constraints": queries.CONSTRAINTS,
    "indexes": queries.INDEXES,
    "partition_keys": queries.PARTITION_KEYS,
    "generated": queries.GENERATED,
    "rules_and_triggers": queries.RULES_AND_TRIGGERS,
    "sequence_owners": queries.SEQUENCE_OWNERS,
    "views": queries.VIEWS,
    "functions": queries.FUNCTIONS,
    "builtin_functions": queries.BUILTIN_FUNCTIONS,
    "set_functions": queries.SET_FUNCTIONS,
    "operators": queries.OPERATORS,
}

Connection = Any
"""asyncpg ships no complete types."""


_LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What asyncpg raises when the server says no, goes away, or goes away in the middle of a protocol step."""

_connect = cast("Any", asyncpg.connect)  # pyright: ignore[reportUnknownMemberType]


class CatalogError(Exception):
    """The catalog cannot be read. Its text is one sentence for an operator, without secrets."""


class CatalogLogin(Protocol):
    """How a catalog role logs in, where that may change while it is used."""

    @property
    def where(self) -> str:
        """The server and database as a clause (``the database at …``), without secrets."""
        ...

    async def arguments(self) -> dict[str, Any]:
        """Return keyword arguments for ``asyncpg.connect``, as they hold now.

        Raises:
            ValueError: They cannot be had; the sentence goes into the problem.
            OSError: As ValueError.
        """
        ...


class CatalogReader:
    """Holds one connection of the catalog role and reads through it.

    Not for use by several tasks at once: ``CatalogWatch`` serialises them.
    """

    def __init__(
        self, dsn: str | CatalogLogin, *, connect_timeout_s: float = 5.0, version_first: int = 1
    ) -> None:
        """Make one, not connected.

        Args:
            dsn: Of the catalog role, or who knows it.
            connect_timeout_s: In seconds.
            version_first: Of the first catalog that is read.
        """
        self._dsn = dsn
        self._version_first = version_first
        self._connect_timeout_s = connect_timeout_s
        self._connection: Connection | None = None
        self._snapshot: tuple[Any, ...] | None = None
        self._marks: tuple[Any, ...] | None = None
        self._last: Catalog | None = None

    async def read(self) -> Catalog:
        """Return the catalog now; the same version as before when nothing in it differs.

        Raises:
            CatalogError: The server cannot be reached, refuses the role or keeps changing.
        """
        return await self._guarded(self._read_consistent)

    async def changed(self) -> bool:
        """Return whether DDL may have happened since the last ``read``; True before the first one.

        Raises:
            CatalogError: As ``read``.
        """
        return await self._guarded(self._changed)

    async def close(self) -> None:
        """Close the connection; a later read opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*_LOST):
                await connection.close(timeout=2)
            connection.terminate()
            await asyncio.sleep(0)  # Its socket is closed in the loop's next turn.

    async def _guarded(self, work: Any) -> Any:
        try:
            async with asyncio.timeout(self._connect_timeout_s + _STATEMENT_TIMEOUT_S + 5):
                return await work()
        except (CatalogError, *_LOST) as error:
            await self.close()
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # A client that is cancelled in the middle of a step may say that the connection is lost.
                raise asyncio.CancelledError from error
            if isinstance(error, CatalogError):
                raise
            raise CatalogError(_explain(error, self._dsn)) from error

    async def _open(self) -> Connection:
        connection = self._connection
        if connection is None or connection.is_closed():
            try:
                if isinstance(self._dsn, str):
                    arguments = connect_arguments(self._dsn)
                else:
                    arguments = await self._dsn.arguments()
            except (ValueError, OSError) as error:
                raise CatalogError(f"the catalog login cannot be used: {error}") from error
            connection = await _connect(
                **arguments,
                timeout=self._connect_timeout_s,
                command_timeout=_STATEMENT_TIMEOUT_S,
                server_settings=_SETTINGS,
                statement_cache_size=64,
            )
            self._connection, self._snapshot = connection, None
            major = connection.get_server_version().major
            if major < min(allowlists.majors()):
                known = ", ".join(str(m) for m in allowlists.majors())
                raise CatalogError(f"PostgreSQL {major} is too old; Sluice knows {known}")
        return connection

    async def _changed(self) -> bool:
        connection = await self._open()
        if self._last is None or self._marks is None:
            return True
        snapshot = tuple(await connection.fetchrow(queries.SNAPSHOT))
        if snapshot == self._snapshot:
            return False
        if await _marks(connection) != self._marks:
            return True
        self._snapshot = snapshot
        return False

    async def _read_consistent(self) -> Catalog:
        connection = await self._open()
        for attempt in range(_READS_MAX):
            await asyncio.sleep(attempt * _PAUSE_S)
            # The mark is taken before the rows and compared after them: functions such as
            # pg_get_viewdef look at the newest catalog, not at the snapshot.
            snapshot = tuple(await connection.fetchrow(queries.SNAPSHOT))
            marks = await _marks(connection)
            failure: asyncpg.PostgresError | None = None
            rows: Rows | None = None
            try:
                rows = await _rows(connection)
            except asyncpg.PostgresError as error:
                failure = error
            if await _marks(connection) != marks:
                continue
            if failure is not None:
                raise failure
            if rows is not None:
                self._snapshot, self._marks = snapshot, marks
                self._last = await asyncio.to_thread(self._versioned, rows)
                return self._last
        raise CatalogError(
            "the catalog changed during every attempt to read it; try again when the migration is done"
        )

    def _versioned(self, rows: Rows) -> Catalog:
        knowledge = _knowledge(rows.server["major"])
        last = self._last
        if last is None:
            return build(rows, self._version_first, knowledge)
        fresh = build(rows, last.version, knowledge)
        return last if fresh == last else replace(fresh, version=last.version + 1)


async def _marks(connection: Connection) -> tuple[Any, ...]:
    return tuple(tuple(row) for row in await connection.fetch(queries.CHANGES))


async def _rows(connection: Connection) -> Rows:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        found: dict[str, Any] = {"server": await connection.fetchrow(queries.SERVER)}
        for name, text in _QUERIES.items():
            found[name] = await connection.fetch(text)
    return Rows(**{field.name: found[field.name] for field in fields(Rows)})


class _NothingKnown:
    """Stands in for the allow-list of a server that has none: every function may read anything."""

    def only_values(self, name: str) -> bool:
        del name
        return False

    def is_aggregate(self, name: str) -> bool:
        del name
        return True

    def may_read_data(self, name: str) -> bool:
        del name
        return True


def _knowledge(major: int) -> FunctionKnowledge:
    try:
        return allowlists.for_major(major)
    except allowlists.UnsupportedMajorError:
        return _NothingKnown()


def _explain(error: BaseException, dsn: str | CatalogLogin) -> str:
    """Return one sentence that says what to do, without the DSN's secrets."""
    where = _where(dsn) if isinstance(dsn, str) else dsn.where
    match error:
        case asyncpg.InsufficientPrivilegeError():
            return (
                f"the catalog role may not read the catalog of {where} ({error}): it needs CONNECT on the "
                "database and the rights that PUBLIC has on pg_catalog by default"
            )
        case asyncpg.InvalidAuthorizationSpecificationError():
            return f"{where} refuses the catalog role ({error}): check its user, password and pg_hba.conf"
        case asyncpg.InvalidCatalogNameError():
            return f"{where} has no such database ({error}): check the catalog DSN"
        case asyncpg.TooManyConnectionsError():
            return f"{where} has no connection free for the catalog role ({error})"
        case TimeoutError():
            return (
                f"{where} did not answer in time: check that the catalog DSN reaches the database"
            )
        case asyncpg.PostgresError():
            code = getattr(error, "sqlstate", "")
            return f"reading the catalog of {where} failed: {code} {error}"
        case _:
            return f"{where} cannot be reached ({type(error).__name__}: {error})"


def _where(dsn: str) -> str:
    try:
        arguments = connect_arguments(dsn)
    except ValueError:
        return "the database"
    if "host" not in arguments and "dsn" in arguments:
        parts = urlsplit(str(arguments["dsn"]))
        return f"the database at {parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"
    host, port = arguments.get("host", "localhost"), arguments.get("port", 5432)
    return f"the database at {host}:{port}/{arguments.get('database', '')}"
