"""What the bundle service is told at its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CERTIFICATE_SECRET: Final = "sluice-bundles-tls"  # noqa: S105


class SettingsError(Exception):
    """A variable is missing or cannot be read; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundlesSettings:
    """Read once, at the edge."""

    namespace: str
    """Of the release: bundles, certificate and report are there."""
    pod_name: str
    """Names the report."""
    pod_uid: str | None = None
    """Owner of the report, so that it goes with the pod; None: nobody."""
    host: str = "0.0.0.0"  # noqa: S104
    port: int = 8443
    health_port: int = 8081
    kubeconfig: Path | None = None
    """None: the cluster that the process runs in."""
    connections_max: int = 20_000
    """10,000 governed pods on one replica, each with a poll and a report under way."""
    leave_s: float = 2.0
    """Between the signal to end and the end of polls: Services need a moment to send new ones elsewhere."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> BundlesSettings:
        """Return the settings.

        Raises:
            SettingsError: Naming the variable.
        """
        given: dict[str, str] = {}
        for name in ("SLUICE_NAMESPACE", "SLUICE_POD_NAME"):
            if not environment.get(name):
                raise SettingsError(f"{name} is not set; the chart sets it by the downward API")
            given[name] = environment[name]
        kubeconfig = environment.get("SLUICE_KUBECONFIG")
        return cls(
            namespace=given["SLUICE_NAMESPACE"],
            pod_name=given["SLUICE_POD_NAME"],
            pod_uid=environment.get("SLUICE_POD_UID") or None,
            kubeconfig=Path(kubeconfig) if kubeconfig else None,
        )
