"""TLS of both hops, from files that their owner may replace at any time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar

import structlog

from sluice_proxy import _native
from sluice_proxy import log_keys as keys

TlsMode = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]
TLS_MODES: Final[tuple[TlsMode, ...]] = (
    "disable",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
)
"""As libpq's ``sslmode``, without ``allow``."""
FILE_BYTES_MAX: Final = 1 << 20
LOOK_S: Final = 5.0
"""From one look at the certificates for clients to the next; the kubelet takes about a minute to replace files."""
NAMES_TOLD: Final = 4
"""A Service's own; a classification may have many hosts."""
CERTIFICATE, KEY = "tls.crt", "tls.key"
"""Names in a Secret of type kubernetes.io/tls."""

log = structlog.stdlib.get_logger(__name__)
_Made = TypeVar("_Made")


class TlsError(Exception):
    """Certificates are missing or cannot be used; the message says whose, and why."""


@dataclass(frozen=True, slots=True)
class TlsFile:
    """A file with PEM."""

    path: Path
    secret: str | None = None
    """Name of the Secret that it comes from, for messages; None: from none."""

    @property
    def where(self) -> str:
        """What to look at when it is wrong."""
        if self.secret is None:
            return str(self.path)
        return f'key {self.path.name} of the Secret "{self.secret}"'

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            TlsError: It is not there, cannot be read, or is too large.
        """
        try:
            with self.path.open("rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            why = str(error.strerror)
            if isinstance(error, FileNotFoundError) and self.secret is not None:
                why = "the pod's namespace has no such Secret, or it lacks the key"
            raise TlsError(f"{self.where} cannot be read: {why}") from error
        if len(data) > FILE_BYTES_MAX:
            raise TlsError(f"{self.where} has more than {FILE_BYTES_MAX} bytes")
        return data


@dataclass(frozen=True, slots=True)
class TlsPair:
    """A folder with ``tls.crt``, a certificate and those that lead to its authority, and ``tls.key``."""

    folder: Path
    secret: str | None = None
    """As in TlsFile."""

    @property
    def where(self) -> str:
        """What to look at when it is wrong."""
        return str(self.folder) if self.secret is None else f'the Secret "{self.secret}"'

    def read(self) -> tuple[bytes, bytes]:
        """Return certificate and key.

        Raises:
            TlsError: As ``TlsFile.read``.
        """
        return (
            TlsFile(self.folder / CERTIFICATE, self.secret).read(),
            TlsFile(self.folder / KEY, self.secret).read(),
        )


class _Kept(Generic[_Made]):
    """What was made of bytes, made anew when they are others."""

    def __init__(self) -> None:
        self._bytes: object = None
        self._made: _Made | None = None

    def get(self, read: object, make: Callable[[], _Made]) -> _Made:
        if self._made is None or read != self._bytes:
            self._made = make()
            self._bytes = read
        return self._made


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """How the hop to a server is encrypted."""

    mode: TlsMode
    """``require`` checks the chain when there are authorities, as libpq does."""
    names: tuple[str, ...]
    """``verify-full``: the server's certificate must have one of them. The first is asked for by SNI."""
    authorities: TlsFile | None = None
    """Who may sign the server's certificate; None: anybody."""
    certificate: TlsPair | None = None
    """What is shown to a server that asks for a certificate; None: nothing."""
    _kept: _Kept[_native.UpstreamTls] = field(
        default_factory=_Kept[_native.UpstreamTls], compare=False, repr=False
    )

    def current(self) -> _native.UpstreamTls | None:
        """Return it for a new session, by the files as they are; None: plain.

        Raises:
            TlsError: A file is missing or cannot be used.
        """
        if self.mode == "disable":
            return None
        authorities = None if self.authorities is None else self.authorities.read()
        certificate = None if self.certificate is None else self.certificate.read()

        def make() -> _native.UpstreamTls:
            sources = [each.where for each in (self.authorities, self.certificate) if each]
            try:
                return _native.UpstreamTls(
                    mode=self.mode,
                    names=list(self.names),
                    authorities=authorities,
                    certificate=certificate,
                    advice=self._advice(),
                )
            except ValueError as error:
                raise TlsError(f"{error} ({', '.join(sources) or 'no files'})") from error

        return self._kept.get((authorities, certificate), make)

    def _advice(self) -> str:
        """What is expected of the server, for whoever is told that it is not so."""
        if self.authorities is None:
            return f"TLS mode {self.mode}: the server must use TLS."
        expected = f"must be signed by one of the authorities in {self.authorities.where}"
        if self.mode == "verify-full":
            shown = ", ".join(self.names[:NAMES_TOLD])
            more = len(self.names) - NAMES_TOLD
            expected += f" and have one of the names {shown}"
            expected += f" and {more} more" if more > 0 else ""
        return (
            f"TLS mode {self.mode}: the server's certificate {expected}. Correct the certificate, or "
            "what is expected of it."
        )


class Presented:
    """What the clients of each listener are shown, kept as the files are."""

    def __init__(self, plane: _native.DataPlane, pairs: Mapping[str, TlsPair]) -> None:
        """Make it; nothing is shown before ``look``.

        Args:
            plane: Whose listeners.
            pairs: By the listener's name.
        """
        self._plane = plane
        self._pairs = pairs
        self._shown: dict[str, object] = {}
        self.problems: dict[str, str] = {}
        """Why the files of a listener are not those that are shown."""

    def look(self) -> None:
        """Show what the files hold now. Bad ones change nothing: what was shown goes on being shown."""
        for listener, pair in self._pairs.items():
            try:
                read = pair.read()
                if read != self._shown.get(listener):
                    self._plane.present(listener, _client_tls(pair, read))
                    self._shown[listener] = read
                    log.info("certificate for clients", **{keys.LISTENER: listener})
                self.problems.pop(listener, None)
            except TlsError as error:
                self._note(listener, str(error))

    def _note(self, listener: str, problem: str) -> None:
        if self.problems.get(listener) != problem:
            self.problems[listener] = problem
            log.error(
                "no certificate for clients", **{keys.LISTENER: listener, keys.REASON: problem}
            )

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()


def _client_tls(pair: TlsPair, read: tuple[bytes, bytes]) -> _native.ClientTls:
    try:
        return _native.ClientTls(*read)
    except ValueError as error:
        raise TlsError(f"{error} ({pair.where})") from error
