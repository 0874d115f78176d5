"""Between the data plane's queue and the judgements: takes requests, answers each, and tells of changes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Final

import structlog

from sluice_proxy import _native, memory
from sluice_proxy import log_keys as keys
from sluice_proxy.bundles.client import BundleClient
from sluice_proxy.bundles.model import Bundle
from sluice_proxy.catalog.model import Catalog
from sluice_proxy.contexts import Contexts
from sluice_proxy.databases import Databases
from sluice_proxy.judge import INTERNAL, Judge
from sluice_proxy.reports import ClientError, ErrorReport
from sluice_proxy.session_refusals import error_fields
from sluice_proxy.sessions import Sessions

log = structlog.get_logger(__name__)

CONCURRENCY_MAX: Final = 64
"""Requests worked on at once; more would only wait for OPA's connections."""
TIMER_STEP_MAX_S: Final = 3600.0
"""Timers are set anew at least so often, so that a changed clock is noticed."""

_Request = (
    _native.SessionOpenRequest
    | _native.SessionStateRequest
    | _native.PlanRequest
    | _native.CatalogCheckRequest
)


class Brain:
    """Answers one data plane."""

    def __init__(
        self,
        plane: _native.DataPlane,
        *,
        sessions: Sessions,
        judge: Judge,
        contexts: Contexts,
        bundles: BundleClient,
        databases: Databases,
    ) -> None:
        self._plane = plane
        self._sessions = sessions
        self._judge = judge
        self._contexts = contexts
        self._bundles = bundles
        self._gate = asyncio.Semaphore(CONCURRENCY_MAX)
        self._working: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._epochs: deque[tuple[int, Bundle]] = deque()
        self._in_force: Bundle | None = bundles.in_force
        bundles.on_activated(self._policy_changed)
        databases.on_catalog(self._catalog_changed)

    def start(self) -> None:
        """Begin to take requests, in the running loop."""
        memory.settle()
        asyncio.get_running_loop().add_reader(self._plane.event_fd(), self._take)
        self._set_timer()
        self._take()

    async def stop(self) -> None:
        """Take no more requests, and give up those being worked on."""
        asyncio.get_running_loop().remove_reader(self._plane.event_fd())
        if self._timer is not None:
            self._timer.cancel()
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)

    def in_force(self) -> Bundle | None:
        """Return the newest bundle that every live session of the data plane works under."""
        if self._epochs:
            reached = self._plane.epoch_reached()
            while self._epochs and self._epochs[0][0] <= reached:
                self._in_force = self._epochs.popleft()[1]
        return self._in_force

    def _take(self) -> None:
        for request in self._plane.requests():
            if isinstance(request, _native.SessionClosed):
                self._sessions.closed(request.session)
                continue
            task = asyncio.create_task(self._work(request), name=type(request).__name__)
            self._working.add(task)
            task.add_done_callback(self._working.discard)

    async def _work(self, request: _Request) -> None:
        statement = isinstance(request, _native.PlanRequest | _native.CatalogCheckRequest)
        severity = "ERROR" if statement else "FATAL"
        try:
            async with self._gate:
                answer = await self._answer(request)
        except ClientError as error:
            if severity == "FATAL":
                self._log_refusal(request, error.report)
            answer = error_fields(error.report, severity)
        except Exception as error:
            log.exception("request failed", **{keys.ERROR_TYPE: type(error).__name__})
            answer = error_fields(INTERNAL, severity)
        self._plane.complete(request.id, answer)

    async def _answer(
        self, request: _Request
    ) -> _native.SessionAdmission | _native.SessionState | _native.Plan | _native.CatalogChecked:
        if isinstance(request, _native.PlanRequest):
            return await self._judge.plan(request)
        if isinstance(request, _native.CatalogCheckRequest):
            return await self._judge.check_catalog(request)
        if isinstance(request, _native.SessionStateRequest):
            answer: Any = await self._sessions.state(request)
        else:
            answer = await self._sessions.open(request)
        self._set_timer()
        return answer

    def _log_refusal(self, request: _Request, report: ErrorReport) -> None:
        log.warning(
            "session refused",
            **{
                keys.SESSION: request.session,
                keys.SQLSTATE: report.sqlstate.value,
                keys.REASON: report.message,
            },
        )

    def _policy_changed(self, bundle: Bundle) -> None:
        self._contexts.forget_other_revisions(bundle.revision)
        self._sessions.forget_decisions()
        self._epochs.append((self._plane.advance_epoch(), bundle))
        self._set_timer()

    def _catalog_changed(self, _name: str, _catalog: Catalog) -> None:
        self._plane.advance_epoch()

    def _set_timer(self) -> None:
        """Wake when time alone changes what holds: a decision's end, or the policy's maximum age."""
        if self._timer is not None:
            self._timer.cancel()
        now = time.time()
        moments: list[float] = [now + TIMER_STEP_MAX_S]
        change = self._sessions.next_change_ns()
        if change is not None:
            moments.append(change / 1e9)
        bundle = self._bundles.in_force
        if bundle is not None and not self._bundles.too_old():
            moments.append(bundle.issued_at.timestamp() + bundle.max_policy_age_s)
        # A little late rather than early: woken early, everything would still hold.
        delay = max(0.0, min(moments) - now) + 0.005
        self._timer = asyncio.get_running_loop().call_later(delay, self._time_passed)

    def _time_passed(self) -> None:
        change = self._sessions.next_change_ns()
        ended = change is not None and time.time_ns() >= change
        if ended:
            self._sessions.forget_decisions()
        if ended or self._bundles.too_old():
            self._plane.advance_epoch()
        self._set_timer()
