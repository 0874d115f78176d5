"""HTTP servers of the operator's processes: uvicorn under our own loop, with a certificate that follows its Secret."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from asyncio import sslproto
from collections.abc import Generator, Mapping
from typing import Any, Final, cast

import structlog
import uvicorn
from cryptography import x509
from uvicorn.protocols.http.h11_impl import H11Protocol

from sluice_operator import log_keys as keys

log = structlog.get_logger(__name__)

TLS_BUFFER_BYTES: Final = 32 << 10
"""asyncio keeps 256 KiB for what it reads from each TLS connection; a record has at most 16 KiB, our requests 4."""
KEEP_ALIVE_S: Final = 75
"""Above the 30 s between a sidecar's reports, so that they stay with one replica."""
HEAD_S: Final = 10.0
"""For a request's head to come in whole."""
GRACE_S: Final = 5

Application = Any
"""An ASGI application."""


class LiveCertificate:
    """A TLS context whose certificate changes while connections go on."""

    def __init__(self) -> None:
        """Make one without a certificate yet."""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.ready = asyncio.Event()
        """Set once there is one."""
        self.problem: str | None = "there is no certificate yet: the controller makes it"
        """Why the newest certificate is not in use; None when it is."""
        self.expires_at: float | None = None
        """Of the certificate in use, in seconds since 1970."""

    def take(self, data: Mapping[str, bytes] | None) -> None:
        """Take the data of the Secret; what cannot be used leaves the last certificate in force.

        Args:
            data: With ``tls.crt`` and ``tls.key``; None: the Secret is gone.
        """
        if data is None:
            self.problem = "the Secret of the certificate is gone"
            log.error("certificate not taken", **{keys.REASON: self.problem})
            return
        try:
            chain, key = data["tls.crt"], data["tls.key"]
            leaf = x509.load_pem_x509_certificates(chain)[0]
            with _memory_file(key + b"\n" + chain) as path:
                self.context.load_cert_chain(path)
        except (KeyError, ValueError, OSError) as error:
            self.problem = f"the certificate cannot be used: {error}"
            log.error("certificate not taken", **{keys.REASON: str(error)})  # noqa: TRY400
            return
        self.problem, self.expires_at = None, leaf.not_valid_after_utc.timestamp()
        log.info("certificate in use", **{keys.SERIAL: f"{leaf.serial_number:x}"})
        self.ready.set()


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
    host: str | None,
    port: int,
    certificate: LiveCertificate | None = None,
    connections_max: int = 1000,
) -> Server:
    """Return a server; ``await started(server)`` begins it.

    Args:
        application: ASGI.
        host: Address to listen on; None: every interface.
        port: 0: any free one.
        certificate: None: plain HTTP.
        connections_max: Further ones are answered with 503.
    """
    # Of the class, before connections are made: with a thousand of them this is the process' size.
    sslproto.SSLProtocol.max_size = TLS_BUFFER_BYTES
    configuration = uvicorn.Config(
        application,
        host=cast("Any", host),  # None is what asyncio takes for every interface.
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
    """Stop serving: answers that are under way are finished first, then nothing of a connection is left."""
    server.should_exit = True
    await task
    for connection in list(server.server_state.connections):
        transport = getattr(connection, "transport", None)
        if transport is not None:
            transport.abort()
    await asyncio.sleep(0)  # An aborted transport closes its socket in the loop's next turn.


async def _serve(server: Server) -> None:
    try:
        await server.serve()
    except SystemExit as error:  # uvicorn's answer to an address that it cannot bind.
        raise OSError(f"{server.config.host}:{server.config.port} cannot be bound") from error
