"""Putting the bundle service together, starting and ending it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Final

import structlog

from sluice_operator.bundles.app import BundleService
from sluice_operator.bundles.callers import Callers
from sluice_operator.bundles.health import Measurement, health_application
from sluice_operator.bundles.reports import Reports
from sluice_operator.bundles.settings import CERTIFICATE_SECRET, BundlesSettings
from sluice_operator.bundles.shelf import Shelf
from sluice_operator.kube.api import KubeApi, KubeError
from sluice_operator.kube.bundle_store import BundleStore
from sluice_operator.kube.metadata import Listed, Seen
from sluice_operator.serving import LiveCertificate, Server, ended, make_server, started

log = structlog.get_logger(__name__)

REPORT_STEP_S: Final = 2.0
REPORT_RENEW_S: Final = 60.0
WATCH_AGE_MAX_S: Final = 600.0
"""Bookmarks come each minute. The API server away for so long: a new start may find another one."""


async def run(settings: BundlesSettings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    try:
        api = await KubeApi.connect(settings.kubeconfig)
    except KubeError as error:
        log.error("cannot start", reason=str(error))  # noqa: TRY400
        return 1
    try:
        replica = Replica(settings, BundleStore(api, settings.namespace))
        try:
            await replica.start()
        except OSError as error:
            log.error("cannot start", reason=str(error))  # noqa: TRY400
            return 1
        await ending.wait()
        log.info("ending")
        await replica.stop()
    finally:
        await api.close()
    return 0


class Replica:
    """One process of the bundle service."""

    def __init__(self, settings: BundlesSettings, store: BundleStore) -> None:
        self._settings = settings
        self._store = store
        self.callers = Callers(store)
        self.shelf = Shelf(store.bundle)
        self.reports = Reports()
        self.service = BundleService(self.callers, self.shelf, self.reports)
        self.certificate = LiveCertificate(lambda: store.certificate(CERTIFICATE_SECRET))
        self._bundles = store.watch_bundles()
        self._pods = store.watch_pods()
        self._synced = False
        self._leaving = False
        self._failed: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._servers: list[tuple[Server, asyncio.Task[None]]] = []

    @property
    def ports(self) -> tuple[int, int]:
        """Of the service and of health, as bound."""
        return self._servers[1][0].port, self._servers[0][0].port

    async def start(self) -> None:
        """Serve health at once, and bundles as soon as there is a certificate.

        Raises:
            OSError: A port cannot be bound.
        """
        health = health_application(
            dead=self.dead, not_ready=self.not_ready, measure=self.measurements
        )
        await self._begin_server(
            make_server(health, host=self._settings.host, port=self._settings.health_port)
        )
        self._begin("bundles", self._follow_bundles())
        self._begin("pods", self._follow_pods())
        await self.certificate.wait()
        self._begin("certificate", self.certificate.follow())
        await self._begin_server(
            make_server(
                self.service.application(),
                host=self._settings.host,
                port=self._settings.port,
                certificate=self.certificate,
                connections_max=self._settings.connections_max,
            )
        )
        self._begin("report", self._write_reports())
        log.info("serving", port=self.ports[0])

    async def stop(self) -> None:
        """Let Services send new polls elsewhere, answer those that wait, and end."""
        self._leaving = True
        await asyncio.sleep(self._settings.leave_s)
        self.service.ending = True
        self.shelf.end()
        for server, task in reversed(self._servers):
            await ended(server, task)
        await self.shelf.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(KubeError):
            # What it counted is counted by the replicas that its sidecars go to.
            await self._store.delete_report(self._report_name)

    def dead(self) -> Mapping[str, str]:
        """Return what only a new start helps against."""
        reasons = dict(self._failed)
        for name, watch in (("bundles", self._bundles), ("pods", self._pods)):
            if watch.age_s > WATCH_AGE_MAX_S:
                reasons[name] = f"the watch has heard nothing for {watch.age_s:.0f} s"
        return reasons

    def not_ready(self) -> Mapping[str, str]:
        """Return why requests are not answered now; during a gap of a watch, what is known is served."""
        reasons = dict(self._failed)
        if not self._synced:
            reasons["bundles"] = self._bundles.problem or "not listed yet"
        if self.certificate.expires_at is None:
            reasons["certificate"] = self.certificate.problem or "none yet"
        if self._leaving:
            reasons["service"] = "it is ending"
        return reasons

    def measurements(self) -> Iterable[Measurement]:
        """Return what is measured."""
        yield "sluice_bundles_polls", "Long polls that wait.", self.shelf.polls
        yield "sluice_bundles_profiles", "Profiles with a bundle.", self.shelf.profiles
        yield "sluice_bundles_callers", "Tokens that are known.", len(self.callers)
        yield "sluice_bundles_reporting", "Sidecars that report here.", len(self.reports)
        yield "sluice_bundles_token_reviews_total", "TokenReviews.", self.callers.reviews
        yield "sluice_bundles_served_total", "Bundles served.", self.service.served
        yield "sluice_bundles_refused_total", "Requests refused.", self.service.refused
        yield "sluice_bundles_reads_total", "Bundles read from the API server.", self.shelf.fetches
        yield "sluice_bundles_watch_age_seconds", "Of the older watch.", self._age_s()
        expires_at = self.certificate.expires_at or 0.0
        yield "sluice_bundles_certificate_expiry_seconds", "Since 1970.", expires_at

    def _age_s(self) -> float:
        return max(self._bundles.age_s, self._pods.age_s)

    @property
    def _report_name(self) -> str:
        return f"sluice-report-{self._settings.pod_name}"

    async def _begin_server(self, server: Server) -> None:
        self._servers.append((server, await started(server)))

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        self._failed[task.get_name()] = f"ended by {type(error).__name__}"
        log.error("part ended", part=task.get_name(), error=str(error))

    async def _follow_bundles(self) -> None:
        async with contextlib.aclosing(self._bundles.follow()) as changes:
            async for change in changes:
                self.shelf.take(change)
                if isinstance(change, Listed):
                    self._synced = True

    async def _follow_pods(self) -> None:
        async with contextlib.aclosing(self._pods.follow()) as changes:
            async for change in changes:
                if isinstance(change, Listed):
                    self.callers.keep_only(change.uids)
                    self.reports.keep_only(change.uids)
                elif not isinstance(change, Seen):
                    self.callers.pod_gone(change.meta.uid)
                    self.reports.pod_gone(change.meta.uid)

    async def _write_reports(self) -> None:
        """Write the report when it changed, at most each 2 s, and each minute anyway."""
        owner = None
        if self._settings.pod_uid is not None:
            owner = (self._settings.pod_name, self._settings.pod_uid)
        problem: str | None = None
        while True:
            try:
                await self._store.write_report(
                    self._report_name, self.reports.document(), owner=owner
                )
                problem = None
            except KubeError as error:
                self.reports.changed.set()
                if str(error) != problem:
                    log.warning("report not written", reason=str(error))
                problem = str(error)
            await asyncio.sleep(REPORT_STEP_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_RENEW_S - REPORT_STEP_S):
                    await self.reports.changed.wait()
