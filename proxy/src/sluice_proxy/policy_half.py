"""The half of a sidecar that decides: bundles and OPA, and how the first policy comes into force."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from sluice_proxy.bundles import BundleClient, BundleServer, BundleSource
from sluice_proxy.decide import UnixOpaClient, active_policy
from sluice_proxy.opa import OpaConfig, OpaProcess
from sluice_proxy.opa_files import OpaError, socket_path
from sluice_proxy.opa_outside import OutsideOpa
from sluice_proxy.settings import SidecarSettings
from sluice_proxy.start_errors import PolicyStartError

START_ATTEMPTS: Final = 4
"""So often may OPA fail to start, or to activate, before the start is given up."""
START_STEP_S: Final = 0.1
CONFIRM_MIN_S: Final = 0.3
CONFIRM_MAX_S: Final = 5.0


@dataclass(slots=True)
class PolicyHalf:
    """Its parts."""

    settings: SidecarSettings
    bundles: BundleClient
    server: BundleServer
    opa: OpaProcess | OutsideOpa
    client: UnixOpaClient

    async def confirm(self) -> None:
        """Ask OPA what it decides with while it has not said that it activated what it was offered.

        It says so once: an OPA that is older than this process, or whose word was lost, would never say it again.
        """
        bundles, delay = self.bundles, CONFIRM_MIN_S
        while True:
            await asyncio.sleep(delay)
            if bundles.offered is bundles.in_force or self.opa.problem is not None:
                delay = CONFIRM_MIN_S
                continue
            active = await active_policy(self.client, self.settings.workload)
            if active is not None:
                bundles.decided_with(*active)
            delay = min(delay * 2, CONFIRM_MAX_S)

    async def first(self) -> None:
        """Wait for the first policy in force.

        Raises:
            PolicyStartError: OPA said again and again that it cannot activate it.
            OpaError: OPA ended again and again.
        """
        bundles, opa = self.bundles, self.opa
        first = asyncio.ensure_future(bundles.wait_in_force())
        try:
            while not first.done():
                await asyncio.wait({first}, timeout=START_STEP_S)
                if self.settings.first_policy_s is None:
                    continue  # A later bundle, or OPA's next start, may do.
                if bundles.counts.not_activated >= START_ATTEMPTS and not first.done():
                    raise PolicyStartError(f"OPA refuses the policy: {bundles.activation_error}")
                if opa.restarts >= START_ATTEMPTS and not first.done():
                    raise OpaError(opa.problem or "OPA ends as soon as it is started")
        finally:
            first.cancel()


def make_policy_half(settings: SidecarSettings, source: BundleSource) -> PolicyHalf:
    """Make one; nothing is started yet."""
    for directory in (settings.state_directory, settings.runtime_directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if settings.opa_program is not None:
        # A pod's volume is not ours to change; the application does not mount it.
        settings.runtime_directory.chmod(0o700)
    bundles = BundleClient(
        directory=settings.state_directory,
        profile=settings.profile,
        keys=settings.bundle_keys,
        source=source,
    )
    server = BundleServer(
        bundles,
        settings.runtime_directory,
        port=settings.bundle_port,
        listener=settings.bundle_listener,
    )
    socket = socket_path(settings.runtime_directory)
    if settings.opa_program is None:
        return PolicyHalf(settings, bundles, server, OutsideOpa(socket), UnixOpaClient(socket))
    config = OpaConfig(
        program=settings.opa_program,
        directory=settings.runtime_directory,
        server=server,
        keys=settings.bundle_keys,
    )
    return PolicyHalf(settings, bundles, server, OpaProcess(config), UnixOpaClient(socket))
