"""What the bundle service measures, in Prometheus form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
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


def registry_of(measure: Callable[[], Iterable[Measurement]]) -> CollectorRegistry:
    """Return a registry that measures at the moment of asking."""
    registry = CollectorRegistry()
    registry.register(_Live(measure))
    ProcessCollector(registry=registry)
    return registry
