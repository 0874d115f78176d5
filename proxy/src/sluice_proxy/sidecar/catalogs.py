"""The catalog Secret: read anew for each connection, its password sent only where the Secret says."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from sluice_proxy.sidecar import names

REQUIRED: Final = ("user", "password", "host", "port")
OPTIONAL: Final = ("dbname", "ca.crt")
VALUE_BYTES_MAX: Final = 1 << 20

Resolve = Callable[[str], Awaitable[list[str]]]


def missing_keys(directory: Path) -> list[str]:
    """Return which of the required keys the mounted Secret lacks; all of them when there is no Secret."""
    return [name for name in REQUIRED if not (directory / name).is_file()]


class CatalogSecret:
    """A ``CatalogLogin`` from the files of a mounted Secret of type ``sluice.dev/catalog``."""

    def __init__(
        self, directory: Path, database: str, *, resolve: Resolve = names.addresses
    ) -> None:
        """Make one; nothing is read yet.

        Args:
            directory: Where the Secret is mounted; the kubelet replaces its files when the Secret changes.
            database: PostgreSQL's name of the database, when the Secret does not name it.
            resolve: Returns the addresses of a host.
        """
        self._directory = directory
        self._database = database
        self._resolve = resolve

    @property
    def where(self) -> str:
        """The server and database, without secrets."""
        try:
            return f"the database at {self._value('host')}:{self._value('port')}/{self._name()}"
        except ValueError:
            return f"the database {self._database}"

    async def arguments(self) -> dict[str, Any]:
        """Return keyword arguments for ``asyncpg.connect``, as they hold now.

        Raises:
            ValueError: A key of the Secret is missing or cannot be read.
            OSError: The host has no address.
        """
        host, port = self._value("host"), self._value("port")
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError("the key port of the catalog Secret is no port")
        arguments: dict[str, Any] = {
            "user": self._value("user"),
            "password": self._value("password"),
            "database": self._name(),
            "port": int(port),
            "ssl": self._tls(host),
        }
        # An address: asyncpg would ask the hosts file for a name.
        return arguments | {"host": await self._resolve(host)}

    def _name(self) -> str:
        path = self._directory / "dbname"
        return self._value("dbname") if path.is_file() else self._database

    def _tls(self, host: str) -> ssl.SSLContext | str:
        """Return the check of the server's certificate when the Secret brings a CA; else TLS where it is offered."""
        if not (self._directory / "ca.crt").is_file():
            return "prefer"
        context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
        context.sluice_host = host
        try:
            context.load_verify_locations(cadata=self._value("ca.crt"))
        except ssl.SSLError as error:
            raise ValueError(f"the key ca.crt of the catalog Secret is no CA: {error}") from error
        return context

    def _value(self, name: str) -> str:
        try:
            raw = (self._directory / name).read_bytes()
            text = raw[:VALUE_BYTES_MAX].decode().strip("\r\n")
        except OSError as error:
            raise ValueError(
                f"the catalog Secret has no readable key {name}: {error.strerror}"
            ) from error
        except UnicodeDecodeError:
            raise ValueError(f"the key {name} of the catalog Secret is no UTF-8 text") from None
        if not text:
            raise ValueError(f"the key {name} of the catalog Secret is empty")
        return text


class _NamedContext(ssl.SSLContext):
    """Checks the certificate against the host's name although the connection is made to its address."""

    sluice_host: str = ""

    def wrap_bio(self, *args: Any, **more: Any) -> ssl.SSLObject:
        """Wrap as ever, under the name."""
        return super().wrap_bio(*args, **(more | {"server_hostname": self.sluice_host}))
