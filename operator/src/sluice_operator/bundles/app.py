"""``sluice-operator bundles``: settings and the life of the process."""

from __future__ import annotations

import asyncio
import signal

import structlog

from sluice_operator import log_keys as keys
from sluice_operator.bundles.replica import BundlesSettings, Replica
from sluice_operator.kube.bundle_store import BundleStore
from sluice_operator.kube.client import Kube
from sluice_operator.settings import Environment, common_settings

log = structlog.get_logger(__name__)


def read_settings(environment: Environment) -> BundlesSettings:
    """Return the settings of this process.

    Raises:
        SettingsError: One cannot be used.
    """
    return BundlesSettings(
        common=common_settings(environment),
        pod_uid=environment.optional("SLUICE_POD_UID"),
        address=environment.address("SLUICE_LISTEN", ":8443"),
        connections_max=environment.integer(
            "SLUICE_CONNECTIONS_MAX", 20_000, low=10, high=1_000_000
        ),
        leave_s=environment.number("SLUICE_LEAVE_SECONDS", 2.0, low=0, high=60),
    )


async def run(settings: BundlesSettings) -> None:
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
        replica = Replica(settings, BundleStore(kube, settings.common.namespace))
        starting = asyncio.create_task(replica.start(), name="start")
        signalled = asyncio.create_task(ending.wait(), name="signal")
        try:
            await asyncio.wait({starting, signalled}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
            await signalled
            log.info("ending", **{keys.PROCESS: "bundles"})
        finally:
            starting.cancel()
            signalled.cancel()
            await asyncio.gather(starting, signalled, return_exceptions=True)
            await replica.stop()
