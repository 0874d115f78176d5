"""One process of the bundle service: its parts put together, started and ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from sluice_operator import log_keys as keys
from sluice_operator.bundles.callers import Callers
from sluice_operator.bundles.measures import Measurement, registry_of
from sluice_operator.bundles.reports import Reports
from sluice_operator.bundles.service import BundleService
from sluice_operator.bundles.shelf import Shelf
from sluice_operator.health import HealthServer
from sluice_operator.kube.bundle_store import BundleStore
from sluice_operator.kube.errors import KubeError
from sluice_operator.serving import LiveCertificate, Server, ended, make_server, started
from sluice_operator.settings import CommonSettings

log = structlog.get_logger(__name__)

CERTIFICATE_SECRET: Final = "sluice-bundles-tls"  # noqa: S105
REPORT_STEP_S: Final = 2.0
REPORT_RENEW_S: Final = 60.0
WATCH_AGE_MAX_S: Final = 600.0
"""Watches end each minute. The API server away for so long: a new start may find another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundlesSettings:
    """What the bundle service is told."""

    common: CommonSettings
    pod_uid: str | None = None
    """``SLUICE_POD_UID``: owner of the report, so that it goes with the pod; None: nobody."""
    address: tuple[str | None, int] = (None, 8443)
    """``SLUICE_LISTEN``: host (None: every interface) and port."""
    connections_max: int = 20_000
    """``SLUICE_CONNECTIONS_MAX``: 10,000 governed pods on one replica, each with a poll and a report under way."""
    leave_s: float = 2.0
    """``SLUICE_LEAVE_SECONDS``: between the signal to end and the end of polls. Services need a moment to
    send new ones elsewhere."""


class Replica:
    """One process of the bundle service."""

    def __init__(self, settings: BundlesSettings, store: BundleStore) -> None:
        self._settings = settings
        self._store = store
        self.callers = Callers(store)
        self.shelf = Shelf(store.bundle)
        self.reports = Reports()
        self.service = BundleService(self.callers, self.shelf, self.reports)
        self.certificate = LiveCertificate()
        self._bundles = store.watch_bundles(self.shelf.put, self.shelf.drop)
        self._pods = store.watch_pods(self._pod_gone)
        self._secret = store.watch_secret(CERTIFICATE_SECRET, self.certificate.take)
        self._leaving = False
        self._failed: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._server: tuple[Server, asyncio.Task[None]] | None = None
        self._health = HealthServer(
            settings.common.health,
            live=self.dead,
            ready=self.not_ready,
            registry=registry_of(self.measurements),
        )

    @property
    def port(self) -> int:
        """Of the service, as bound."""
        return 0 if self._server is None else self._server[0].port

    @property
    def health_port(self) -> int:
        """Of health and metrics, as bound."""
        return self._health.port

    async def start(self) -> None:
        """Serve health at once, and bundles as soon as there is a certificate.

        Raises:
            OSError: A port cannot be bound.
        """
        await self._health.__aenter__()
        self._begin("bundles", self._bundles.run())
        self._begin("pods", self._pods.run())
        self._begin("certificate", self._secret.run())
        await self.certificate.ready.wait()
        host, port = self._settings.address
        server = make_server(
            self.service.application(),
            host=host,
            port=port,
            certificate=self.certificate,
            connections_max=self._settings.connections_max,
        )
        self._server = server, await started(server)
        self._begin("report", self._write_reports())
        log.info("serving", **{keys.PROCESS: "bundles"})

    async def stop(self) -> None:
        """Let Services send new polls elsewhere, answer those that wait, and end."""
        self._leaving = True
        if self._server is not None:
            await asyncio.sleep(self._settings.leave_s)
            self.service.ending = True
            self.shelf.end()
            await ended(*self._server)
        await self.shelf.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(KubeError):
            # What it counted is counted by the replicas that its sidecars go to.
            await self._store.delete_report(self._report_name)
        await self._health.__aexit__(None, None, None)

    def dead(self) -> str | None:
        """Return what only a new start helps against."""
        for name, reason in self._failed.items():
            return f"{name} {reason}"
        for name, age_s in (("bundles", self._bundles.age_s), ("pods", self._pods.age_s)):
            if age_s > WATCH_AGE_MAX_S:
                return f"the watch over {name} has heard nothing for {age_s:.0f} s"
        return None

    def not_ready(self) -> str | None:
        """Return why requests are not answered now; during a gap of a watch, what is known is served."""
        if self._leaving:
            return "it is ending"
        if not self._bundles.synced.is_set():
            return "the bundles have not been listed yet"
        if self.certificate.expires_at is None:
            return self.certificate.problem
        return self.dead() if self._server is not None else "not listening yet"

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
        age_s = max(self._bundles.age_s, self._pods.age_s)
        yield "sluice_bundles_watch_age_seconds", "Of the older watch.", age_s
        expires_at = self.certificate.expires_at or 0.0
        yield "sluice_bundles_certificate_expiry_seconds", "Since 1970.", expires_at

    @property
    def _report_name(self) -> str:
        return f"sluice-report-{self._settings.common.pod_name}"

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        self._failed[task.get_name()] = f"ended by {type(error).__name__}"
        log.error("part ended", **{keys.PART: task.get_name(), keys.ERROR: str(error)})

    def _pod_gone(self, uid: str) -> None:
        self.callers.pod_gone(uid)
        self.reports.pod_gone(uid)

    async def _write_reports(self) -> None:
        """Write the report when it changed, at most each 2 s, and each minute anyway."""
        owner = None
        if self._settings.pod_uid is not None:
            owner = (self._settings.common.pod_name, self._settings.pod_uid)
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
                    log.warning("report not written", **{keys.REASON: str(error)})
                problem = str(error)
            await asyncio.sleep(REPORT_STEP_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_RENEW_S - REPORT_STEP_S):
                    await self.reports.changed.wait()
