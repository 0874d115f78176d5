"""``sluice-operator admission``: the life of the process."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Final

import structlog
from prometheus_client import REGISTRY, CollectorRegistry

from sluice_operator import log_keys as keys
from sluice_operator.admission.knowledge import Knowledge
from sluice_operator.admission.settings import Settings, read_settings
from sluice_operator.admission.webhooks import Webhooks
from sluice_operator.health import HealthServer
from sluice_operator.kube.client import Kube
from sluice_operator.kube.secrets import SecretWatch
from sluice_operator.serving import LiveCertificate, ended, make_server, started

__all__ = ["Settings", "read_settings", "run"]

log = structlog.get_logger(__name__)

CERTIFICATE: Final = "sluice-admission-tls"


class Admission:
    """The process while it lives."""

    def __init__(
        self, settings: Settings, kube: Kube, *, registry: CollectorRegistry = REGISTRY
    ) -> None:
        """Make it; ``run`` begins it."""
        home = settings.common.namespace
        self._settings = settings
        self._registry = registry
        self._leaving = False
        self.knowledge = Knowledge(kube, home, settings.common.cluster_domain)
        self._certificate = LiveCertificate()
        self._secret = SecretWatch(kube, home, CERTIFICATE, on_change=self._certificate.take)
        self._webhooks = Webhooks(self.knowledge, settings.injection, registry)
        self.serving = asyncio.Event()
        """Set once reviews are taken."""
        self.port = settings.listen[1]
        """Of the webhooks; when 0 was asked for, the one that was taken."""

    def live(self) -> str | None:
        """What is wrong so that only a new start helps."""
        return self.knowledge.stale()

    def ready(self) -> str | None:
        """Why no review should come now."""
        if self._leaving:
            return "ending"
        if not self.serving.is_set():
            return self._certificate.problem or "the webhooks are not served yet"
        expires_at = self._certificate.expires_at
        if expires_at is not None and expires_at < time.time():
            return "the certificate has expired"
        # Without trust we are ready all the same: it is for us to say that Sluice is starting.
        return self.knowledge.unread()

    async def run(self, ending: asyncio.Event) -> None:
        """Serve until ``ending`` is set.

        Raises:
            OSError: A port cannot be bound.
        """
        common = self._settings.common
        health = HealthServer(
            common.health, live=self.live, ready=self.ready, registry=self._registry
        )
        async with health:
            work = [
                asyncio.create_task(self.knowledge.run(), name="knowledge"),
                asyncio.create_task(self._secret.run(), name="certificate"),
                asyncio.create_task(self._serve(ending), name="webhooks"),
            ]
            try:
                done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in work:
                    task.cancel()
                await asyncio.gather(*work, return_exceptions=True)

    async def _serve(self, ending: asyncio.Event) -> None:
        if not await _first(self._certificate.ready, ending):
            return
        host, port = self._settings.listen
        server = make_server(
            self._webhooks.application(),
            host=host or "0.0.0.0",  # noqa: S104  Every interface of the pod.
            port=port,
            certificate=self._certificate,
        )
        task = await started(server)
        self.port = server.port
        self.serving.set()
        log.info("webhooks served", **{keys.PROCESS: "admission"}, port=self.port)
        try:
            await ending.wait()
            self._leaving = True
            log.info("ending", **{keys.PROCESS: "admission"})
            await asyncio.sleep(self._settings.leave_s)
        finally:
            await ended(server, task)


async def _first(wanted: asyncio.Event, ending: asyncio.Event) -> bool:
    """Wait for one of two; whether it is ``wanted``."""
    waits = {asyncio.create_task(event.wait()) for event in (wanted, ending)}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    return wanted.is_set() and not ending.is_set()


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        OSError: A port cannot be bound.
        UnavailableError: There is no way to the API server.
    """
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    async with Kube.connect(settings.common.kubeconfig) as kube:
        await Admission(settings, kube).run(ending)
