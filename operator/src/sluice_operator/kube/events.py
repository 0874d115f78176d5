"""Events (``events.k8s.io/v1``): equal ones are counted, all are limited, none is waited for."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from sluice_operator import log_keys as keys
from sluice_operator.kube.client import MERGE, Kube, Object, path_of
from sluice_operator.kube.errors import ApiError, KubeError
from sluice_operator.reconcile.model import EventNote

log = structlog.get_logger(__name__)

API_VERSION: Final = "events.k8s.io/v1"
QUEUE_MAX: Final = 1000
"""What is above is dropped: Events are a courtesy, the audit trail is the record."""
REMEMBERED_MAX: Final = 5000
SERIES_S: Final = 10.0
"""Seconds between two writes of one Event."""
RATE_PER_S: Final = 10.0
BURST: Final = 50.0
FORGET_S: Final = 3600.0
"""The API server keeps Events for so long by default: later ones are new."""


@dataclass(slots=True)
class _Series:
    name: str
    count: int
    """Occurrences in all."""
    written: int
    """Occurrences that the Event tells of."""
    at: float


class EventWriter:
    """Writes notes as Events, in the background."""

    def __init__(self, kube: Kube, component: str, instance: str) -> None:
        """Make one; ``component`` and ``instance`` name who reports."""
        self._kube = kube
        self._component = component
        self._instance = instance
        self._queue: OrderedDict[EventNote, int] = OrderedDict()
        self._wake = asyncio.Event()
        self._series: OrderedDict[EventNote, _Series] = OrderedDict()
        self._tokens = BURST
        self._refilled = time.monotonic()

    def tell(self, note: EventNote, count: int = 1) -> None:
        """Have an Event written, or its count raised."""
        if note not in self._queue and len(self._queue) >= QUEUE_MAX:
            return
        self._queue[note] = self._queue.get(note, 0) + count
        self._wake.set()

    async def run(self) -> None:
        """Write what was told, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for note in list(self._queue):
                count = self._queue.pop(note)
                await self._token()
                try:
                    await self._write(note, count)
                except KubeError as error:
                    log.warning(
                        "Event not written", **{keys.REASON: note.reason, keys.ERROR: str(error)}
                    )

    async def _token(self) -> None:
        while True:
            now = time.monotonic()
            self._tokens = min(BURST, self._tokens + (now - self._refilled) * RATE_PER_S)
            self._refilled = now
            if self._tokens >= 1.0:
                self._tokens -= 1.0
                return
            await asyncio.sleep((1.0 - self._tokens) / RATE_PER_S)

    async def _write(self, note: EventNote, count: int) -> None:
        now = time.monotonic()
        series = self._series.get(note)
        if series is not None and now - series.at < FORGET_S:
            series.count += count
            if now - series.at < SERIES_S:
                self._later(note)
                return
            await self._raise(note, series, now)
            return
        name = _name(note)
        try:
            await self._kube.create(self._path(note), self._event(note, name))
        except ApiError as error:
            # Written by an earlier incarnation: told already.
            if error.status != 409:
                raise
        self._series[note] = _Series(name, count, count, now)
        while len(self._series) > REMEMBERED_MAX:
            self._series.popitem(last=False)

    def _later(self, note: EventNote) -> None:
        """Come back to a series that was written just now."""
        loop = asyncio.get_running_loop()
        loop.call_later(SERIES_S, self._again, note)

    def _again(self, note: EventNote) -> None:
        series = self._series.get(note)
        if series is not None and series.count > series.written:
            self.tell(note, 0)

    async def _raise(self, note: EventNote, series: _Series, now: float) -> None:
        if series.count == series.written:
            return
        body: Object = {"series": {"count": max(2, series.count), "lastObservedTime": _now()}}
        await self._kube.request(
            "PATCH", f"{self._path(note)}/{series.name}", body=body, content_type=MERGE
        )
        series.written, series.at = series.count, now

    def _path(self, note: EventNote) -> str:
        return path_of(API_VERSION, "events", note.namespace)

    def _event(self, note: EventNote, name: str) -> Object:
        return {
            "apiVersion": API_VERSION,
            "kind": "Event",
            "metadata": {"name": name, "namespace": note.namespace},
            "eventTime": _now(),
            "reportingController": self._component,
            "reportingInstance": self._instance,
            "action": note.action,
            "reason": note.reason,
            "type": note.type,
            "note": note.note,
            "regarding": {
                "apiVersion": note.api_version,
                "kind": note.kind,
                "namespace": note.namespace,
                "name": note.name,
                "uid": note.uid,
            },
        }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _name(note: EventNote) -> str:
    text = f"{note.kind}\0{note.uid}\0{note.reason}\0{note.note}"
    return f"{note.name[:200]}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"
