"""Health, readiness and metrics of the bundle service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Measurement = tuple[str, str, float]
"""Name (counters end in ``_total``), help, value."""


class _Live(Collector):
    def __init__(self, measure: Callable[[], Iterable[Measurement]]) -> None:
        self._measure = measure

    def collect(self) -> Iterator[Metric]:
        for name, text, value in self._measure():
            if name.endswith("_total"):
                yield CounterMetricFamily(name.removesuffix("_total"), text, value=value)
            else:
                yield GaugeMetricFamily(name, text, value=value)


def health_application(
    *,
    dead: Callable[[], Mapping[str, str]],
    not_ready: Callable[[], Mapping[str, str]],
    measure: Callable[[], Iterable[Measurement]],
) -> FastAPI:
    """Return ``/healthz``, ``/readyz`` and ``/metrics``.

    Args:
        dead: What only a new start would help against, by part.
        not_ready: What requests cannot be answered for now, by part.
        measure: What is measured, at the moment of asking.
    """
    application = FastAPI(docs_url=None, openapi_url=None)
    registry = CollectorRegistry()
    registry.register(_Live(measure))

    @application.get("/healthz")
    async def healthz() -> Response:  # pyright: ignore[reportUnusedFunction]
        return _verdict("alive", dead())

    @application.get("/readyz")
    async def readyz() -> Response:  # pyright: ignore[reportUnusedFunction]
        return _verdict("ready", not_ready())

    @application.get("/metrics")
    async def metrics() -> Response:  # pyright: ignore[reportUnusedFunction]
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    return application


def _verdict(name: str, reasons: Mapping[str, str]) -> Response:
    return JSONResponse({name: not reasons, "reasons": dict(reasons)}, 503 if reasons else 200)
