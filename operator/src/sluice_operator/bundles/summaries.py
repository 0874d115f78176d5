"""Many sidecars' reports → what the controller is to know of failed activations and of catalogs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from sluice_operator.bundles.callers import Caller
from sluice_operator.bundles.statuses import CatalogReport, StatusReport

FAILED_MAX: Final = 200
DATABASES_MAX: Final = 1000
"""The report is one ConfigMap: 1 MiB at most."""

Said = Iterable[tuple[Caller, StatusReport]]


def failed_of(said: Said) -> list[dict[str, Any]]:
    """Return how many sidecars of each profile cannot activate which bundle, with one of them as the example."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for caller, status in said:
        if status.failed is None:
            continue
        key = status.profile, status.failed.sequence
        one = found.get(key)
        if one is None:
            one = found[key] = {
                "profile": status.profile,
                "sequence": status.failed.sequence,
                "count": 0,
                "namespace": caller.namespace,
                "pod": caller.pod,
                "message": status.failed.message,
            }
        one["count"] += 1
        if caller.pod < one["pod"]:
            one["pod"], one["message"] = caller.pod, status.failed.message
    return [found[key] for key in sorted(found)][:FAILED_MAX]


@dataclass(slots=True)
class _Catalogs:
    reachable: int = 0
    unreachable: int = 0
    message: str = ""
    best: tuple[int, int, int] = (-1, 0, 0)
    columns: dict[str, int] | None = None
    drift: list[str] = field(default_factory=list[str])

    def add(self, sequence: int, report: CatalogReport) -> None:
        """Count one sidecar's word; of columns, the word of the newest policy counts."""
        if not report.reachable:
            self.unreachable += 1
            self.message = min(self.message, report.message) if self.message else report.message
            return
        self.reachable += 1
        if report.columns is None:
            return
        rank = sequence, report.columns.unreviewed, report.columns.classified
        if rank > self.best:
            self.best, self.columns = rank, report.columns.model_dump()
            self.drift = sorted(report.drift)


def databases_of(said: Said) -> list[dict[str, Any]]:
    """Return what sidecars of each profile say of each database's catalog."""
    found: dict[tuple[str, str], _Catalogs] = {}
    for _, status in said:
        for report in status.databases:
            one = found.setdefault((status.profile, report.name), _Catalogs())
            one.add(status.sequence or 0, report)
    return [
        {
            "profile": profile,
            "database": name,
            "reachable": one.reachable,
            "unreachable": one.unreachable,
            "message": one.message,
            "sequence": max(one.best[0], 0),
            "columns": one.columns,
            "drift": one.drift,
        }
        for (profile, name), one in sorted(found.items())
    ][:DATABASES_MAX]
