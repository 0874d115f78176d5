"""The controller, put together: watches always, work only while leading."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import Awaitable
from typing import Final

import structlog

from sluice_operator import log_keys as keys
from sluice_operator.controller import metrics
from sluice_operator.controller.building import Builder
from sluice_operator.controller.estate import Estate
from sluice_operator.controller.feed import ResourceFeed
from sluice_operator.controller.memory import LastValidStore
from sluice_operator.controller.opa import LocalOpa, find_opa
from sluice_operator.controller.publisher import Publisher
from sluice_operator.controller.reconciler import Reconciler
from sluice_operator.controller.settings import Settings, read_settings
from sluice_operator.controller.smoke import Smoke, smoke_modules
from sluice_operator.controller.tellers import Teller
from sluice_operator.controller.trust import TrustKeeper
from sluice_operator.health import HealthServer
from sluice_operator.kube.client import Kube, path_of
from sluice_operator.kube.events import EventWriter
from sluice_operator.kube.keeping import KIND_LABEL, Keeper
from sluice_operator.kube.leases import Leadership
from sluice_operator.kube.watch import Watch

__all__ = ["read_settings", "run"]

log = structlog.get_logger(__name__)

LEASE: Final = "sluice-controller"
WATCH_AGE_MAX_S: Final = 180.0
"""Watches end and begin anew every minute: one that was silent for so long is dead."""
INJECTED_PODS: Final = "sluice.dev/inject=true"
UNFINISHED: Final = "status.phase!=Succeeded,status.phase!=Failed"
MAY_CLAIM: Final = "sluice.dev/may-claim-external=true"


class Controller:
    """One replica."""

    def __init__(self, kube: Kube, opa: LocalOpa, settings: Settings) -> None:
        """Make one on an OPA that runs."""
        self._kube = kube
        self._settings = settings
        common = settings.common
        self._identity = f"{common.pod_name}_{secrets.token_hex(4)}"
        self.estate = Estate()
        self._feed = ResourceFeed(kube, self.estate)
        self._watches = self._make_watches()
        self._smoke = Smoke(opa)
        self.leadership = Leadership(
            kube,
            common.namespace,
            LEASE,
            self._identity,
            duration_s=settings.lease_s,
            renew_s=settings.lease_renew_s,
        )
        self.reconciler: Reconciler | None = None
        """While leading."""

    def _make_watches(self) -> list[Watch]:
        kube, estate = self._kube, self.estate
        config_maps = path_of("v1", "configmaps", self._settings.common.namespace)
        return [
            Watch(
                kube,
                path_of("v1", "pods"),
                put=estate.put_pod,
                drop=estate.drop_pod,
                label_selector=INJECTED_PODS,
                field_selector=UNFINISHED,
                metadata_only=True,
            ),
            Watch(
                kube,
                path_of("v1", "namespaces"),
                put=estate.put_namespace,
                drop=estate.drop_namespace,
                label_selector=MAY_CLAIM,
                metadata_only=True,
            ),
            Watch(
                kube,
                config_maps,
                put=estate.put_bundle,
                drop=estate.drop_bundle,
                label_selector=f"{KIND_LABEL}=bundle",
                metadata_only=True,
            ),
            Watch(
                kube,
                config_maps,
                put=estate.put_report,
                drop=estate.drop_report,
                label_selector=f"{KIND_LABEL}=report",
            ),
        ]

    def live(self) -> str | None:
        """What is wrong with the watches."""
        for watch in (*self._watches, *self._feed.watches):
            metrics.WATCH_AGE.labels(watch.path).set(watch.age_s)
            if watch.age_s > WATCH_AGE_MAX_S:
                return f"nothing was heard of {watch.path} for {watch.age_s:.0f} s"
        return None

    def ready(self) -> str | None:
        """What is missing: everything listed, and when leading, published."""
        waiting = [w.path for w in self._watches if not w.synced.is_set()]
        if not self._feed.synced.is_set():
            waiting.append("the resources")
        if waiting:
            return f"waiting for {', '.join(waiting)}"
        if self.reconciler is not None and self.reconciler.outcome is None:
            return "leading, and not everything has been published yet"
        return None

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            ExceptionGroup: Something failed that cannot be tried again.
        """
        async with asyncio.TaskGroup() as tasks:
            for watch in self._watches:
                tasks.create_task(watch.run(), name=f"watch {watch.path}")
            tasks.create_task(self._feed.run(), name="resources")
            await self._synced()
            tasks.create_task(self.leadership.run(self._work), name="leadership")

    async def _synced(self) -> None:
        """Nothing is decided on half of the cluster: a policy not seen yet may be the one that denies."""
        for watch in self._watches:
            await watch.synced.wait()
        await self._feed.synced.wait()
        log.info(
            "all listed",
            **{keys.COUNT: len(self.estate.pods), keys.RESOURCE: len(self.estate.resources)},
        )

    async def _work(self) -> None:
        settings, kube = self._settings, self._kube
        keeper = Keeper(kube, settings.common.namespace)
        reconciler = Reconciler(
            estate=self.estate,
            publisher=Publisher(kube, keeper, self.estate, settings),
            builder=Builder(self._smoke),
            memory=LastValidStore(keeper),
            trust=TrustKeeper(kube, keeper, settings),
            settings=settings,
            leading=lambda: self.leadership.leading,
        )
        events = EventWriter(kube, "sluice.dev/controller", settings.common.pod_name)
        teller = Teller(
            kube=kube,
            estate=self.estate,
            events=events,
            outcome=lambda: reconciler.outcome,
            leading=lambda: self.leadership.leading,
            interval_s=settings.status_interval_s,
        )
        self.reconciler = reconciler
        self.estate.writing = True
        metrics.LEADING.set(1)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(reconciler.run(), name="reconciler")
                tasks.create_task(teller.run(), name="statuses")
                tasks.create_task(events.run(), name="events")
        finally:
            self.reconciler = None
            self.estate.writing = False
            metrics.LEADING.set(0)


async def run(settings: Settings, *, stop: asyncio.Event | None = None) -> None:
    """Run one replica until SIGTERM or SIGINT, or until ``stop`` is set.

    Raises:
        UnavailableError: There is no way to the API server.
        OpaError: There is no OPA, or it does not start.
    """
    ended = stop or asyncio.Event()
    if stop is None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
    opa = LocalOpa(find_opa(settings.opa, os.environ), smoke_modules())
    async with Kube.connect(settings.common.kubeconfig) as kube, opa.running():
        controller = Controller(kube, opa, settings)
        async with HealthServer(
            settings.common.health, live=controller.live, ready=controller.ready
        ) as health:
            log.info("controller starts", **{keys.PATH: f":{health.port}"})
            await _until(controller.run(), ended)
    log.info("controller stopped")


async def _until(work: Awaitable[None], ended: asyncio.Event) -> None:
    working = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(ended.wait())
    try:
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        if not working.done():
            working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
