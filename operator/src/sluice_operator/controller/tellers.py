"""Statuses and Events: what people are told. At most one write in a few seconds for each resource."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from sluice_crds.base import API_VERSION
from sluice_operator import log_keys as keys
from sluice_operator.controller import metrics
from sluice_operator.controller.estate import Estate
from sluice_operator.controller.feed import PLURALS
from sluice_operator.controller.passes import Outcome
from sluice_operator.kube.client import Kube, path_of
from sluice_operator.kube.errors import ApiError, KubeError
from sluice_operator.kube.events import EventWriter
from sluice_operator.reconcile.census import Census, Count, census
from sluice_operator.reconcile.model import CLASSIFICATION, RawResource, Report, Verdict
from sluice_operator.reconcile.notes import denial_note, older_note, verdict_note
from sluice_operator.reconcile.parsing import time_text
from sluice_operator.reconcile.statuses import Status, differs, status_of

log = structlog.get_logger(__name__)

COALESCE_S = 0.1
PERIOD_S = 15.0
"""Reports run out by time alone."""
PARALLEL = 4
RETRY_S = 2.0


class Teller:
    """Runs while this replica leads."""

    def __init__(
        self,
        *,
        kube: Kube,
        estate: Estate,
        events: EventWriter,
        outcome: Callable[[], Outcome | None],
        leading: Callable[[], bool],
        interval_s: float,
    ) -> None:
        """Make one; ``run`` does the work.

        Args:
            kube: The connection.
            estate: What is known of the cluster.
            events: Writes Events.
            outcome: The last whole pass.
            leading: Asked before every write.
            interval_s: Least time between two writes of one resource's status.
        """
        self._kube = kube
        self._estate = estate
        self._events = events
        self._outcome = outcome
        self._leading = leading
        self._interval_s = interval_s
        self._written_at: dict[str, float] = {}
        self._written: dict[str, Status] = {}
        self._told: dict[str, tuple[int, str, str]] = {}
        self._older: dict[str, int] = {}
        self._denials: dict[str, int] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        wait: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PERIOD_S if wait is None else min(wait, PERIOD_S)):
                    await self._estate.reports_changed.wait()
            await asyncio.sleep(COALESCE_S)
            self._estate.reports_changed.clear()
            self._tell_denials()
            outcome = self._outcome()
            wait = None if outcome is None else await self._tell(outcome)

    def _tell_denials(self) -> None:
        uids: dict[tuple[str, str], str] | None = None
        for name, report in self._estate.reports.items():
            for denial in _new_denials(report, self._denials.get(name)):
                if uids is None:
                    uids = self._estate.uids_of_pods()
                note = denial_note(denial, uids)
                if note is not None:
                    self._events.tell(note, denial.count)
            numbers = [denial.number for denial in report.denials]
            self._denials[name] = max(numbers, default=0)
        for name in set(self._denials) - set(self._estate.reports):
            del self._denials[name]

    async def _tell(self, outcome: Outcome) -> float | None:
        """Write what is due; return after how many seconds more will be."""
        estate, now = self._estate, time.time()
        counts = census(
            estate.pods.values(), estate.reports.values(), estate.bundles, outcome.reach, now
        )
        due: list[tuple[RawResource, Status]] = []
        wait: float | None = None
        moment = time.monotonic()
        for uid, raw in outcome.resources.items():
            verdict = outcome.verdicts.get(uid)
            if verdict is None or estate.resources.get(uid) != raw:
                continue  # Judged anew in a moment.
            count = _count(raw, counts, outcome)
            self._tell_events(raw, verdict, count)
            present = self._present(uid)
            wanted = status_of(raw, verdict, count, present=present, now=time_text(now))
            if not differs(present, wanted):
                continue
            left = self._written_at.get(uid, -self._interval_s) + self._interval_s - moment
            if left > 0:
                wait = left if wait is None else min(wait, left)
                continue
            due.append((raw, wanted))
        self._forget(outcome)
        gate = asyncio.Semaphore(PARALLEL)
        written = await asyncio.gather(*(self._write(raw, status, gate) for raw, status in due))
        if not all(written):
            return RETRY_S
        return wait

    def _present(self, uid: str) -> Mapping[str, Any]:
        """The status that the API server has: what we wrote last, until a watch tells of something else."""
        seen: Mapping[str, Any] = self._estate.statuses.get(uid) or {}
        written = self._written.get(uid)
        if written is None or time.monotonic() - self._written_at.get(uid, 0.0) > self._interval_s:
            return seen
        return {**seen, **written}

    def _tell_events(self, raw: RawResource, verdict: Verdict, count: Count) -> None:
        told = (raw.generation, verdict.reason, verdict.message)
        if self._told.get(raw.uid) != told:
            if raw.uid in self._told or not _says(self._estate.statuses.get(raw.uid), raw, verdict):
                self._events.tell(verdict_note(raw, verdict))
            self._told[raw.uid] = told
        if count.older > self._older.get(raw.uid, 0):
            self._events.tell(older_note(raw, count.older, count.older_example))
        self._older[raw.uid] = count.older

    def _forget(self, outcome: Outcome) -> None:
        for known in (self._written_at, self._written, self._told, self._older):
            for uid in [uid for uid in known if uid not in outcome.resources]:
                del known[uid]

    async def _write(self, raw: RawResource, status: Status, gate: asyncio.Semaphore) -> bool:
        async with gate:
            if not self._leading():
                return False
            plural = PLURALS[raw.kind]
            path = f"{path_of(API_VERSION, plural, raw.namespace, raw.name)}/status"
            body = {
                "apiVersion": API_VERSION,
                "kind": raw.kind,
                # With its uid: the status of one is never written to another of the same name.
                "metadata": {"name": raw.name, "namespace": raw.namespace, "uid": raw.uid},
                "status": status,
            }
            self._written_at[raw.uid] = time.monotonic()
            try:
                await self._kube.apply(path, body)
            except KubeError as error:
                if isinstance(error, ApiError) and error.status in (404, 409):
                    return True  # Gone, or made anew.
                metrics.ERRORS.labels("status").inc()
                log.warning(
                    "status not written", **{keys.RESOURCE: raw.reference, keys.ERROR: str(error)}
                )
                return False
            self._written[raw.uid] = status
            metrics.STATUS_WRITES.inc()
            return True


def _count(raw: RawResource, counts: Census, outcome: Outcome) -> Count:
    if raw.kind == CLASSIFICATION:
        return counts.of_database(raw.full_name, outcome.effective.last_valid.get(raw.uid))
    return counts.of_policy(raw.full_name)


def _says(status: Mapping[str, Any] | None, raw: RawResource, verdict: Verdict) -> bool:
    """Whether the status says it already: told by an earlier incarnation."""
    conditions: list[Mapping[str, Any]] = list((status or {}).get("conditions") or ())
    for one in conditions:
        if one.get("type") == "Compiled":
            return (
                one.get("observedGeneration") == raw.generation
                and one.get("reason") == verdict.reason
            )
    return False


def _new_denials(report: Report, last: int | None) -> list[Any]:
    newest = max((denial.number for denial in report.denials), default=0)
    if last is None or newest < last:  # Not seen before, or the replica counts from 1 again.
        return list(report.denials)
    return [denial for denial in report.denials if denial.number > last]
