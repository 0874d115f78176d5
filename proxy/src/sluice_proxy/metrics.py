"""What the sidecar measures, in Prometheus form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_BUCKETS_S: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
)


class PlaneCounters(Protocol):
    """The data plane's side."""

    def metrics(self) -> Mapping[str, int]:
        """Return counters and gauges by name; counters end in ``_total``."""
        ...


class Gauges(Protocol):
    """What the rest of the sidecar shows at the moment of asking."""

    def gauges(self) -> Iterable[tuple[str, str, float]]:
        """Return (name, help, value)."""
        ...

    def counters(self) -> Iterable[tuple[str, str, float]]:
        """Return (name without ``_total``, help, value)."""
        ...


class Metrics:
    """One registry for each sidecar, so that several can live in one process (tests)."""

    def __init__(self) -> None:
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self._decisions = Histogram(
            "sluice_decision_seconds",
            "Time from the question to OPA's answer, retries included.",
            ["kind"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._outcomes = Counter(
            "sluice_decisions",
            "Questions to OPA by outcome: ok, stale (another policy than the one in force) or failed.",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self._stages = Histogram(
            "sluice_plan_seconds",
            "Time to make the plan of a new statement, by stage.",
            ["stage"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )

    def decision(self, kind: str, seconds: float, outcome: str) -> None:
        """Take one question to OPA."""
        self._decisions.labels(kind).observe(seconds)
        self._outcomes.labels(kind, outcome).inc()

    def stage(self, stage: str, seconds: float) -> None:
        """Take one stage of a plan."""
        self._stages.labels(stage).observe(seconds)

    def add(self, plane: PlaneCounters, gauges: Gauges) -> None:
        """Show these from now on."""
        self.registry.register(_Live(plane, gauges))

    def text(self) -> bytes:
        """Return the page for a scrape."""
        return generate_latest(self.registry)


class _Live(Collector):
    def __init__(self, plane: PlaneCounters, gauges: Gauges) -> None:
        self._plane = plane
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        for name, value in sorted(self._plane.metrics().items()):
            text = f"Data plane: {name.replace('_', ' ')}."
            if name.endswith("_total"):
                short = name.removesuffix("_total")
                yield CounterMetricFamily(f"sluice_{short}", text, value=value)
            else:
                yield GaugeMetricFamily(f"sluice_{name}", text, value=value)
        for name, text, value in self._gauges.gauges():
            yield GaugeMetricFamily(f"sluice_{name}", text, value=value)
        for name, text, value in self._gauges.counters():
            yield CounterMetricFamily(f"sluice_{name}", text, value=value)
