"""Putting a sidecar together, starting and ending it. ``sluice run`` and the container's entry point both use this."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final

import structlog

from sluice_proxy import _native
from sluice_proxy import log_keys as keys
from sluice_proxy.brain import Brain
from sluice_proxy.bundles import Bundle, BundleClient, BundleSource
from sluice_proxy.contexts import Contexts
from sluice_proxy.databases import Databases
from sluice_proxy.decide import Decider
from sluice_proxy.health import HealthServer
from sluice_proxy.judge import Judge
from sluice_proxy.metrics import Metrics
from sluice_proxy.opa import check_version
from sluice_proxy.opa_files import OpaError
from sluice_proxy.policy_half import make_policy_half
from sluice_proxy.sessions import DenialObserver, Sessions
from sluice_proxy.settings import SidecarSettings
from sluice_proxy.start_errors import ListenError, PolicyStartError, SpoolError, StartError
from sluice_proxy.tls import Presented

log = structlog.get_logger(__name__)

SPOOL_STEP_S: Final = 0.5
SEGMENT_BYTES_MAX: Final = 16 << 20
"""A segment is shipped and checked as one."""


class Sidecar:
    """One sidecar in this process."""

    def __init__(
        self,
        settings: SidecarSettings,
        source: BundleSource,
        databases: Databases,
        denials: DenialObserver | None = None,
        weak: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """Make one; nothing is opened yet.

        Args:
            settings: What it is told.
            source: Where bundles come from.
            databases: The present set; whoever made it changes it.
            denials: Is told of refused sessions.
            weak: Returns what does not work fully outside of the sidecar itself, by part.
        """
        self._settings = settings
        self._databases = databases
        self._denials = denials
        self._weak = weak
        self.metrics = Metrics()
        self._policy = make_policy_half(settings, source)
        self._health = HealthServer(
            readiness=self.not_ready, degraded=self.degraded, metrics=self.metrics.text
        )
        self._plane: _native.DataPlane | None = None
        self._brain: Brain | None = None
        self._judge: Judge | None = None
        self._sessions: Sessions | None = None
        self._presented: Presented | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._draining = False
        self._failed: dict[str, str] = {}
        self.addresses: list[str] = []
        """Where clients connect, as bound."""
        self.health_address: str | None = None

    @property
    def bundles(self) -> BundleClient:
        """The bundle client, for status."""
        return self._policy.bundles

    @property
    def in_force(self) -> Bundle | None:
        """What the data plane works under, every session of it; None before the first."""
        return None if self._brain is None else self._brain.in_force()

    @property
    def incarnation(self) -> str | None:
        """Name of this run in the audit spool; None before it is open."""
        return None if self._plane is None else self._plane.spool_status().incarnation

    @property
    def opa_pid(self) -> int | None:
        """Process id of OPA while it runs."""
        return self._policy.opa.pid

    async def start(self) -> None:
        """Start everything; return when clients can connect.

        Raises:
            StartError: With the reason; ``stop`` must still be called.
            OpaError: OPA cannot be used.
        """
        await self._start_health()
        if self._settings.opa_program is not None:
            version = await check_version(self._settings.opa_program)
            log.info("OPA found", **{keys.VERSION: version})
        await self._start_policy()
        self._start_plane()
        self._present()
        self._listen()

    async def _start_health(self) -> None:
        if self._settings.health is None:
            return
        host, port = self._settings.health
        try:
            self.health_address = await self._health.start(host, port)
        except OSError as error:
            raise ListenError(
                f"--health {host}:{port} cannot be bound: {error.strerror}"
            ) from error

    async def _start_policy(self) -> None:
        policy = self._policy
        policy.bundles.load()
        try:
            await policy.server.start()
        except OSError as error:
            raise ListenError(f"the bundle service cannot be opened: {error}") from error
        policy.opa.prepare()
        await policy.client.__aenter__()
        self._begin("bundles", policy.bundles.run())
        self._begin("opa", policy.opa.run())
        self._begin("confirmation", policy.confirm())
        try:
            async with asyncio.timeout(self._settings.first_policy_s):
                await policy.first()
        except TimeoutError as error:
            if policy.opa.problem is not None:
                raise OpaError(policy.opa.problem) from error
            reasons = self.not_ready()
            raise PolicyStartError(f"no policy came into force: {reasons.get('bundle')}") from error

    def _start_plane(self) -> None:
        settings = self._settings
        try:
            settings.spool_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            plane = _native.DataPlane(
                spool_directory=str(settings.spool_directory),
                spool_bytes_max=settings.spool_bytes_max,
                segment_bytes_max=min(SEGMENT_BYTES_MAX, settings.spool_bytes_max // 4),
                sessions_max=settings.sessions_max,
                resolver=settings.resolver,
            )
        except OSError as error:
            raise SpoolError(
                f"the audit spool {settings.spool_directory} cannot be opened: {error}"
            ) from error
        self._plane = plane
        self._begin("spool", self._watch_spool(plane))
        contexts = Contexts()
        decider = Decider(
            self._policy.client, self._policy.bundles, settings.workload, self.metrics
        )
        self._sessions = Sessions(
            decider=decider,
            bundles=self._policy.bundles,
            databases=self._databases,
            contexts=contexts,
            workload=settings.workload,
            denials=self._denials,
        )
        self._judge = Judge(
            decider=decider,
            databases=self._databases,
            contexts=contexts,
            observer=self.metrics,
        )
        self._brain = Brain(
            plane,
            sessions=self._sessions,
            judge=self._judge,
            contexts=contexts,
            bundles=self._policy.bundles,
            databases=self._databases,
        )
        self._brain.start()
        self.metrics.add(plane, self)

    async def _watch_spool(self, plane: _native.DataPlane) -> None:
        """Log when the spool stops or starts to take records."""
        problem: str | None = None
        while True:
            status = plane.spool_status()
            now = None if status.writable else status.error or "not writable"
            if now != problem:
                if now is None:
                    log.info("audit spool takes records again")
                else:
                    log.error(
                        "audit spool takes no records, governed statements are refused",
                        **{keys.REASON: now, keys.PATH: str(self._settings.spool_directory)},
                    )
                problem = now
            await asyncio.sleep(SPOOL_STEP_S)

    def _present(self) -> None:
        pairs = {
            listener.name: listener.certificate
            for listener in self._settings.listeners
            if listener.certificate is not None
        }
        if pairs and self._plane is not None:
            self._presented = Presented(self._plane, pairs)
            self._presented.look()
            self._begin("certificates", self._presented.run())

    def _listen(self) -> None:
        plane = self._plane
        if plane is None:
            raise StartError("the data plane has not been started")
        for listener in self._settings.listeners:
            try:
                self.addresses.append(plane.listen(listener.name, listener.address))
            except (OSError, ValueError) as error:
                raise ListenError(
                    f"--listen {listener.address} cannot be bound: {error}"
                ) from error

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """Show a part that ended by itself: none of them should."""
        if task.cancelled() or self._draining:
            return
        error = task.exception()
        self._failed[task.get_name()] = f"ended by {type(error).__name__}: {error}"
        log.error("part ended", **{keys.PART: task.get_name(), keys.ERROR: str(error)})

    async def stop(self) -> int:
        """Close the listeners, let sessions end, then end everything else.

        Returns:
            How many sessions were cut because they took too long.
        """
        self._draining = True
        cut = 0
        plane = self._plane
        if plane is not None:
            plane.stop_listening()
            cut = await asyncio.to_thread(plane.drain, self._settings.drain_s)
        if self._brain is not None:
            await self._brain.stop()
        if plane is not None:
            await asyncio.to_thread(plane.stop)
        self._policy.server.end_polls()
        for task in self._tasks:
            task.cancel()
        # OPA ends before the server that it polls.
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._policy.client.close_connection()
        await self._policy.server.stop()
        await self._databases.stop()
        await self._health.stop()
        log.info("stopped", **{keys.SESSIONS_CUT: cut})
        return cut

    def cut(self) -> None:
        """End sessions that are still live without waiting for them."""
        if self._plane is not None:
            self._plane.stop()

    def not_ready(self) -> Mapping[str, str]:
        """Return what is missing, by part; empty when ready."""
        reasons = dict(self._failed)
        bundles, opa = self._policy.bundles, self._policy.opa
        if bundles.in_force is None:
            reasons["bundle"] = bundles.activation_error or bundles.refusal or "no bundle yet"
        elif bundles.too_old():
            reasons["bundle"] = "the policy in force is older than its maximum age"
        if opa.problem is not None:
            reasons["opa"] = opa.problem
        if self._draining:
            reasons["listener"] = "the sidecar is ending"
        elif len(self.addresses) < len(self._settings.listeners):
            reasons["listener"] = "not open yet"
        if self._plane is not None:
            spool = self._plane.spool_status()
            if not spool.writable:
                reasons["spool"] = spool.error or "not writable"
        return reasons

    def degraded(self) -> Mapping[str, str]:
        """Return what does not work fully although the sidecar is ready: a database may be down at any time."""
        problems = self._databases.catalog_problems()
        found = {f"catalog {name}": problem for name, problem in problems.items()}
        found |= self._weak()
        if self._presented is not None:
            found |= {f"TLS at {name}": why for name, why in self._presented.problems.items()}
        if self._policy.bundles.refusal is not None:
            found["newest bundle"] = self._policy.bundles.refusal
        elif self._policy.bundles.activation_error is not None:
            found["newest bundle"] = self._policy.bundles.activation_error
        return found

    def database_problems(self) -> Mapping[str, str]:
        """Return what of the policy does not fit a catalog, by database: for their owners, not for the kubelet."""
        return {} if self._sessions is None else self._sessions.database_problems()

    def gauges(self) -> Iterable[tuple[str, str, float]]:
        """Return what is measured at the moment of asking."""
        bundles = self._policy.bundles
        in_force = bundles.in_force
        yield ("ready", "1 when the sidecar is ready.", float(not self.not_ready()))
        yield ("opa_up", "1 while OPA runs.", float(self._policy.opa.problem is None))
        yield ("bundle_sequence", "Sequence in force.", in_force.sequence if in_force else 0)
        yield ("policy_age_seconds", "Since the policy was issued.", bundles.policy_age_s() or 0.0)
        ages = self._databases.catalog_ages_s().values()
        finite = [age for age in ages if age != float("inf")]
        yield ("catalog_age_seconds", "Oldest catalog snapshot.", max(finite, default=0.0))

    def counters(self) -> Iterable[tuple[str, str, float]]:
        """Return what was counted since the start."""
        counts = self._policy.bundles.counts
        yield ("bundles_accepted", "Bundles taken.", counts.accepted)
        yield ("bundles_refused", "Bundles refused.", counts.refused)
        yield ("bundles_activated", "Bundles that came into force.", counts.activated)
        yield ("bundles_not_activated", "Bundles that OPA refused.", counts.not_activated)
        yield ("opa_restarts", "Times OPA was started again.", self._policy.opa.restarts)
        errors = self._judge.errors if self._judge is not None else 0
        yield ("judge_errors", "Statements refused for an internal error.", errors)
