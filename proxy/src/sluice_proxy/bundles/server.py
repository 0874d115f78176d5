"""The bundle service that OPA polls: HTTPS on loopback, a token in the private directory, long poll, status.

OPA's bundle services know no unix sockets, so this is the one thing that listens on TCP beside the clients' listeners.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
import ssl
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

from aiohttp import web

from sluice_proxy.bundles.client import BundleClient
from sluice_proxy.loopback import ADDRESS, LoopbackFiles
from sluice_proxy.opa_files import BUNDLE_NAME, BUNDLE_PATH

CONTENT_TYPE: Final = "application/vnd.openpolicyagent.bundles"
"""OPA keeps long-polling only while every answer has this type."""
WAIT_MAX_S: Final = 60.0
STATUS_BYTES_MAX: Final = 1 << 20
STATUS_PATH: Final = "/status"
_NOT_REACHED: Final = "request failed: "


class BundleServer:
    """Serves one client's bundle to one OPA."""

    def __init__(
        self,
        client: BundleClient,
        directory: Path,
        *,
        port: int = 0,
        listener: socket.socket | None = None,
    ) -> None:
        """Make one; nothing is opened yet.

        Args:
            client: Whose bundle is served, and who is told what OPA activated.
            directory: Private; certificate and token are there for OPA.
            port: 0: a free one, and certificate and token are made at the start; otherwise they are there already,
                made by ``LoopbackFiles.make``, because OPA was started before.
            listener: Listens on that port already (``loopback.listen``); from the start on it is closed here.
        """
        self._client = client
        self._files = LoopbackFiles(directory)
        self._port = port
        self._listener = listener
        self._token = ""
        self._runner: web.AppRunner | None = None
        self._stopping = asyncio.Event()
        self.url = ""

    @property
    def ca_path(self) -> Path:
        """The certificate that OPA must trust, and no other."""
        return self._files.ca

    @property
    def token_path(self) -> Path:
        """The file with OPA's bearer token."""
        return self._files.token

    async def start(self) -> None:
        """Listen on the loopback address.

        Raises:
            OSError: The port is taken, or certificate or token cannot be read.
        """
        if not self._port:
            self._files.make()
        context, self._token = self._files.context(), self._files.token.read_text()
        if not self._port:
            self._files.forget_key()
        application = web.Application(
            client_max_size=STATUS_BYTES_MAX, middlewares=[self._authorize]
        )
        application.router.add_get(BUNDLE_PATH, self._bundle)
        application.router.add_post(STATUS_PATH, self._status)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await self._site(self._runner, context).start()
        port = cast("tuple[str, int]", self._runner.addresses[0])[1]
        self.url = f"https://{ADDRESS}:{port}"

    def _site(self, runner: web.AppRunner, context: ssl.SSLContext) -> web.BaseSite:
        if self._listener is not None:
            return web.SockSite(runner, self._listener, ssl_context=context)
        return web.TCPSite(runner, ADDRESS, self._port, ssl_context=context)

    def end_polls(self) -> None:
        """Answer polls at once from now on, and take no more status: OPA is about to be stopped."""
        self._stopping.set()

    async def stop(self) -> None:
        """Close the port."""
        self.end_polls()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Any) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return web.Response(status=401, text="unauthorized\n")
        return await handler(request)

    async def _bundle(self, request: web.Request) -> web.Response:
        etag = request.headers.get("If-None-Match")
        wait = self._client.wait_offered(etag, _wait_s(request.headers.get("Prefer", "")))
        polled = asyncio.ensure_future(wait)
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({polled, stopped}, return_when=asyncio.FIRST_COMPLETED)
            bundle = polled.result() if polled.done() else None
        finally:
            polled.cancel()
            stopped.cancel()
        headers = {"Content-Type": CONTENT_TYPE}
        if bundle is not None:
            return web.Response(body=bundle.raw, headers=headers | {"ETag": bundle.etag})
        if etag is None:
            return web.Response(status=404, text="no bundle yet\n")
        return web.Response(status=304, headers=headers | {"ETag": etag})

    async def _status(self, request: web.Request) -> web.Response:
        if self._stopping.is_set():
            return web.Response(status=200)
        status = _bundle_status(await request.json())
        if status.get("code"):
            errors = "; ".join(
                str(error) for error in cast("list[Any]", status.get("errors") or [])
            )
            message = f"{status.get('message') or status['code']}{': ' if errors else ''}{errors}"
            # That it could not reach us says nothing about a bundle; it was started before us, or we were away.
            if not message.startswith(_NOT_REACHED):
                self._client.failed(message[:1000])
        elif status.get("active_revision"):
            with contextlib.suppress(ValueError, TypeError):
                moment = parse_go_time(status["last_successful_activation"])
                self._client.reported(str(status["active_revision"]), moment)
        return web.Response(status=200)


def _bundle_status(document: Any) -> dict[str, Any]:
    """Return our bundle's part of OPA's status document; empty when it has none."""
    for name in ("bundles", BUNDLE_NAME):
        if not isinstance(document, dict):
            return {}
        document = cast("dict[str, Any]", document).get(name)
    return cast("dict[str, Any]", document) if isinstance(document, dict) else {}


def _wait_s(prefer: str) -> float:
    """Return the seconds of ``Prefer: modes=…;wait=N``; 0 when it does not ask to wait."""
    for item in prefer.replace(",", ";").split(";"):
        name, _, value = item.strip().partition("=")
        if name == "wait" and value.isdecimal():
            return min(float(value), WAIT_MAX_S)
    return 0.0


def parse_go_time(text: str) -> datetime:
    """Return the moment that Go's RFC 3339 text with up to nine decimals names, cut to microseconds.

    Raises:
        ValueError: It is none.
    """
    head, dot, tail = text.partition(".")
    if dot:
        digits = tail.rstrip("Z").partition("+")[0].partition("-")[0]
        zone = tail[len(digits) :]
        text = f"{head}.{digits[:6].ljust(6, '0')}{zone}"
    return datetime.fromisoformat(text)
