"""HTTP servers of the operator's processes: uvicorn under our own loop, with a certificate that follows its Secret."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final

import structlog
import uvicorn
from cryptography import x509
from uvicorn.protocols.http.h11_impl import H11Protocol

from sluice_operator.kube.api import KubeError
from sluice_operator.kube.bundle_store import StoredCertificate

log = structlog.get_logger(__name__)

LOOK_S: Final = 10.0
"""The Secret is looked at so often: far below the shortest life of a certificate."""
WAIT_S: Final = 0.5
KEEP_ALIVE_S: Final = 75
"""Above the 30 s between a sidecar's reports, so that they stay with one replica."""
HEAD_S: Final = 10.0
"""For a request's head to come in whole."""
GRACE_S: Final = 5

Application = Any
"""An ASGI application."""


class LiveCertificate:
    """A TLS context whose certificate changes while connections go on."""

    def __init__(self, read: Callable[[], Awaitable[StoredCertificate | None]]) -> None:
        """Make one without a certificate yet.

        Args:
            read: Returns the certificate as it is stored now; None: there is none yet.
        """
        self._read = read
        self._version: str | None = None
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.problem: str | None = "no certificate yet"
        """Why the stored certificate is not in use; None when it is."""
        self.expires_at: float | None = None
        """Of the certificate in use, in seconds since 1970."""

    async def wait(self) -> None:
        """Return when there is one."""
        while self._version is None:
            await self.look()
            if self._version is None:
                await asyncio.sleep(WAIT_S)

    async def follow(self) -> None:
        """Keep up with the Secret until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Take up what is stored now; what cannot be used leaves the last one in force."""
        try:
            stored = await self._read()
            if stored is None:
                self._problem("the controller has not made the certificate yet")
            elif stored.version != self._version:
                self._take(stored)
            else:
                self.problem = None
        except (KubeError, ssl.SSLError, ValueError, OSError) as error:
            self._problem(f"the certificate cannot be used: {error}")

    def _take(self, stored: StoredCertificate) -> None:
        leaf = x509.load_pem_x509_certificates(stored.chain_pem)[0]
        with _memory_file(stored.key_pem + b"\n" + stored.chain_pem) as path:
            self.context.load_cert_chain(path)
        self._version, self.problem = stored.version, None
        self.expires_at = leaf.not_valid_after_utc.timestamp()
        log.info("certificate in use", not_after=leaf.not_valid_after_utc.isoformat())

    def _problem(self, text: str) -> None:
        if text != self.problem:
            log.warning("certificate", reason=text)
        self.problem = text


@contextlib.contextmanager
def _memory_file(content: bytes) -> Generator[str]:
    """Lend a path to bytes that are on no disk: OpenSSL's loader takes paths only."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class _Protocol(H11Protocol):
    """uvicorn's, with a deadline for the head of a request: a silent connection must not stay for ever."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: Any = self.cycle  # None before the first request.
        if cycle is not None and not cycle.response_complete:
            self._disarm()
        elif self.timeout_keep_alive_task is None:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_S, self.transport.close)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.servers[0].sockets[0].getsockname()[1])


def make_server(
    application: Application,
    *,
    host: str = "0.0.0.0",  # noqa: S104  A pod's own address is not known beforehand.
    port: int,
    certificate: LiveCertificate | None = None,
    connections_max: int = 1000,
) -> Server:
    """Return a server; ``await started(server)`` begins it.

    Args:
        application: ASGI.
        host: Address to listen on.
        port: 0: any free one.
        certificate: None: plain HTTP.
        connections_max: Further ones are answered with 503.
    """
    configuration = uvicorn.Config(
        application,
        host=host,
        port=port,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=4096,
        limit_concurrency=connections_max,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        ssl_context_factory=None if certificate is None else lambda _c, _d: certificate.context,
    )
    return Server(configuration)


async def started(server: Server) -> asyncio.Task[None]:
    """Begin to serve; return the task that ends after ``ended``.

    Raises:
        OSError: The address cannot be bound.
    """
    task = asyncio.create_task(_serve(server), name="server")
    while not server.started:
        if task.done():
            await task
            raise OSError("the server ended before it began")
        await asyncio.sleep(0.01)
    return task


async def ended(server: Server, task: asyncio.Task[None]) -> None:
    """Stop serving: answers that are under way are finished first."""
    server.should_exit = True
    await task


async def _serve(server: Server) -> None:
    try:
        await server.serve()
    except SystemExit as error:  # uvicorn's answer to an address that it cannot bind.
        raise OSError(f"{server.config.host}:{server.config.port} cannot be bound") from error
