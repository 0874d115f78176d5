"""What sidecars say they have in force, summed up for the controller."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sluice_operator.bundles.callers import Caller
from sluice_operator.bundles.refusals import Refusal, too_many
from sluice_operator.bundles.statuses import DenialReport, ProblemReport, StatusReport
from sluice_operator.bundles.summaries import databases_of, failed_of

STATUS_BYTES_MAX: Final = 256 << 10
SILENT_MAX_S: Final = 90.0
"""Sidecars report each 30 s; one that was silent for three of them is not counted."""
INTERVAL_MIN_S: Final = 0.2
"""Sidecars report at most once a second; more often than this is refused."""
DENIALS_MAX: Final = 100
PROBLEMS_MAX: Final = 200
"""The report is one ConfigMap: 1 MiB at most."""
PODS_MAX: Final = 50_000


@dataclass(slots=True)
class _Last:
    caller: Caller
    status: StatusReport
    at: float


@dataclass(slots=True)
class _Denial:
    number: int
    caller: Caller
    what: DenialReport
    count: int

    def document(self) -> dict[str, Any]:
        return {
            "n": self.number,
            "namespace": self.caller.namespace,
            "pod": self.caller.pod,
            "database": self.what.database,
            "policy": self.what.policy,
            "rule": self.what.rule,
            "message": self.what.message,
            "count": self.count,
        }


class Reports:
    """The last report of each pod that reports here."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, _Last] = {}
        self._denials: deque[_Denial] = deque(maxlen=DENIALS_MAX)
        # Numbers go up over restarts of this replica too.
        self._next = time.time_ns() // 1_000_000
        self._written = self._next - 1
        self.changed = asyncio.Event()
        """Set when the next document says something new."""

    def __len__(self) -> int:
        return len(self._last)

    def take(self, caller: Caller, status: StatusReport) -> None:
        """Take a sidecar's report.

        Raises:
            Refusal: It is not about the caller's profile, or comes too soon after the last.
        """
        if status.profile != caller.profile:
            raise Refusal(
                403, "NotGoverned", f"the status is of another profile than {caller.profile}"
            )
        now, last = self._clock(), self._last.get(caller.pod_uid)
        if last is not None and now - last.at < INTERVAL_MIN_S:
            raise too_many("this pod reports too often; once a second is enough")
        if last is None and len(self._last) >= PODS_MAX:
            raise too_many("more pods report than this replica takes")
        self._last[caller.pod_uid] = _Last(caller, status, now)
        for denial in status.denials:
            self._denied(caller, denial)
        if last is None or status.denials or _said(last.status) != _said(status):
            self.changed.set()

    def pod_gone(self, uid: str) -> None:
        """Forget a deleted pod."""
        if self._last.pop(uid, None) is not None:
            self.changed.set()

    def document(self) -> dict[str, Any]:
        """Return the report for the controller; what it says counts as written."""
        self.changed.clear()
        now = self._clock()
        for uid in [uid for uid, last in self._last.items() if now - last.at > SILENT_MAX_S]:
            del self._last[uid]
        profiles: dict[str, Counter[str]] = {}
        problems: list[dict[str, Any]] = []
        for last in self._last.values():
            counts = profiles.setdefault(last.status.profile, Counter())
            counts[str(last.status.counted_sequence)] += 1
            if len(problems) < PROBLEMS_MAX:
                problems += (_problem(last.caller, problem) for problem in last.status.problems)
        said = [(last.caller, last.status) for last in self._last.values()]
        self._written = self._next - 1
        return {
            "contract": 1,
            "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "profiles": {name: dict(counts) for name, counts in sorted(profiles.items())},
            "problems": problems[:PROBLEMS_MAX],
            "failed": failed_of(said),
            "databases": databases_of(said),
            "denials": [denial.document() for denial in self._denials],
        }

    def _denied(self, caller: Caller, what: DenialReport) -> None:
        """Number a denial; the same one that has not been written yet is counted together."""
        for kept in self._denials:
            same = kept.caller.pod_uid == caller.pod_uid and _key(kept.what) == _key(what)
            if same and kept.number > self._written:
                kept.count += what.count
                return
        self._denials.append(_Denial(self._next, caller, what, what.count))
        self._next += 1


def _said(status: StatusReport) -> tuple[object, ...]:
    return status.sequence, status.revision, status.problems, status.failed, status.databases


def _problem(caller: Caller, problem: ProblemReport) -> dict[str, Any]:
    return {
        "profile": caller.profile,
        "namespace": caller.namespace,
        "pod": caller.pod,
        "database": problem.database,
        "message": problem.message,
        "policies": problem.policies,
    }


def _key(what: DenialReport) -> tuple[str, ...]:
    return what.database, what.policy, what.rule, what.message
