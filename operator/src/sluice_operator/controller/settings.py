"""What the controller is told. Each docstring names the variable."""

from __future__ import annotations

from dataclasses import dataclass

from sluice_operator.settings import (
    CommonSettings,
    Environment,
    SettingsError,
    common_settings,
)

DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The controller's settings."""

    common: CommonSettings
    opa: str | None = None
    """``SLUICE_OPA``: the OPA that tries bundles before they are published; None: ``opa`` of the PATH."""
    max_policy_age_s: int = DAY_S
    """``SLUICE_POLICY_AGE_SECONDS_MAX``: a sidecar that got no newer bundle for so long refuses governed statements.
    Bundles are signed again every quarter of it."""
    status_interval_s: float = 5.0
    """``SLUICE_STATUS_SECONDS``: least time between two writes of one resource's status."""
    lease_s: float = 15.0
    """``SLUICE_LEASE_SECONDS``: another replica takes over so long after the active one's last sign of life."""
    lease_renew_s: float = 2.0
    """``SLUICE_LEASE_RENEW_SECONDS``: between two signs of life."""
    bundle_idle_s: float = 3600.0
    """``SLUICE_BUNDLE_IDLE_SECONDS``: bundles of profiles without pods are removed after so long."""
    own_certificates: bool = True
    """``SLUICE_CERTIFICATES``: ``own``, or ``cert-manager``: it issues, and the two serving Secrets follow."""
    certificate_s: int = 30 * DAY_S
    """``SLUICE_CERTIFICATE_SECONDS``: life of a serving certificate; renewed at two thirds of it."""
    ca_s: int = 730 * DAY_S
    """``SLUICE_CA_SECONDS``: life of the authority; the next one is trusted from half of it on, and signs later."""
    signing_key_s: int = 90 * DAY_S
    """``SLUICE_SIGNING_KEY_SECONDS``: a signing key serves so long; the next one is known to sidecars all the while."""


def read_settings(environment: Environment) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: One cannot be used.
    """
    settings = Settings(
        common=common_settings(environment),
        opa=environment.optional("SLUICE_OPA"),
        max_policy_age_s=environment.integer(
            "SLUICE_POLICY_AGE_SECONDS_MAX", DAY_S, low=8, high=30 * DAY_S
        ),
        status_interval_s=environment.number("SLUICE_STATUS_SECONDS", 5.0, low=0.1, high=300),
        lease_s=environment.number("SLUICE_LEASE_SECONDS", 15.0, low=1, high=300),
        lease_renew_s=environment.number("SLUICE_LEASE_RENEW_SECONDS", 2.0, low=0.1, high=100),
        bundle_idle_s=environment.number(
            "SLUICE_BUNDLE_IDLE_SECONDS", 3600.0, low=1, high=30 * DAY_S
        ),
        own_certificates=environment.choice("SLUICE_CERTIFICATES", ("own", "cert-manager"), "own")
        == "own",
        certificate_s=environment.integer(
            "SLUICE_CERTIFICATE_SECONDS", 30 * DAY_S, low=4, high=397 * DAY_S
        ),
        ca_s=environment.integer("SLUICE_CA_SECONDS", 730 * DAY_S, low=16, high=3650 * DAY_S),
        signing_key_s=environment.integer(
            "SLUICE_SIGNING_KEY_SECONDS", 90 * DAY_S, low=4, high=3650 * DAY_S
        ),
    )
    environment.optional(
        "SLUICE_POD_UID"
    )  # The other processes need it; the chart gives it to all.
    if settings.lease_renew_s * 3 > settings.lease_s:
        raise SettingsError(
            "SLUICE_LEASE_SECONDS must be at least 3 times SLUICE_LEASE_RENEW_SECONDS"
        )
    if settings.certificate_s * 4 > settings.ca_s:
        raise SettingsError("SLUICE_CA_SECONDS must be at least 4 times SLUICE_CERTIFICATE_SECONDS")
    return settings
