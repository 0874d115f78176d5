"""``/healthz``, ``/readyz`` and ``/metrics`` of every process, over plain HTTP on a port of their own."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

Check = Callable[[], str | None]
"""Returns what is wrong, or None."""


class HealthServer:
    """Serves while it is entered as a context."""

    def __init__(
        self,
        address: tuple[str | None, int],
        *,
        live: Check,
        ready: Check,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        """Make one.

        Args:
            address: Host (None: every interface) and port; 0 takes a free one.
            live: Failing makes the kubelet start the container anew.
            ready: Failing takes it out of its Service.
            registry: Whose metrics are shown.
        """
        self._address = address
        self._live = live
        self._ready = ready
        self._registry = registry
        self._runner: web.AppRunner | None = None
        self.port = address[1]
        """The port; when 0 was asked for, the one that was taken."""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=1.0
        )
        await self._runner.setup()
        host, port = self._address
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        if not port:
            self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return _answer(self._live())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(self._ready())

    async def _metrics(self, _: web.Request) -> web.Response:
        body = generate_latest(self._registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _answer(problem: str | None) -> web.Response:
    if problem is None:
        return web.Response(text="ok\n")
    return web.Response(status=503, text=f"{problem}\n")
