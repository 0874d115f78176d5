"""Health, readiness and metrics over plain HTTP. There is no write side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from aiohttp import web

PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class HealthServer:
    """``/healthz``, ``/readyz`` and ``/metrics``."""

    def __init__(
        self,
        *,
        readiness: Callable[[], Mapping[str, str]],
        degraded: Callable[[], Mapping[str, str]],
        metrics: Callable[[], bytes],
    ) -> None:
        """Make one.

        Args:
            readiness: Returns what the sidecar is not ready for, and why; empty when ready.
            degraded: Returns what does not work fully although it is ready.
            metrics: Returns the page for a scrape.
        """
        self._readiness = readiness
        self._degraded = degraded
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> str:
        """Listen; return ``ADDR:PORT`` as bound.

        Raises:
            OSError: The address cannot be bound.
        """
        application = web.Application()
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._page)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound = cast("tuple[str, int]", self._runner.addresses[0])
        return f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"

    async def stop(self) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        reasons = dict(self._readiness())
        degraded = dict(self._degraded())
        document = {"ready": not reasons, "reasons": reasons, "degraded": degraded}
        return web.json_response(document, status=503 if reasons else 200)

    async def _page(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": PROMETHEUS_TYPE})
