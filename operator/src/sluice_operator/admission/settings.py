"""Settings of the admission process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, cast

from sluice_operator.admission.model import (
    OPA_RESOURCES,
    PROXY_RESOURCES,
    InjectionSettings,
    Resources,
    Trust,
)
from sluice_operator.admission.quantities import amount
from sluice_operator.admission.reading import section
from sluice_operator.admission.tuning import LOG_LEVELS
from sluice_operator.settings import CommonSettings, Environment, SettingsError, common_settings

_RESOURCES = "SLUICE_SIDECAR_RESOURCES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the admission process is told."""

    common: CommonSettings
    injection: InjectionSettings
    """With nobody trusted: that is read from the ConfigMap ``sluice-trust``."""
    listen: tuple[str | None, int] = (None, 8443)
    """``SLUICE_LISTEN``: where the webhooks are served, over TLS."""
    leave_s: float = 3.0
    """``SLUICE_LEAVE_SECONDS``: for the cluster to stop sending reviews once we are not ready."""


def read_settings(environment: Environment) -> Settings:
    """Read them.

    Raises:
        SettingsError: One cannot be used.
    """
    common = common_settings(environment)
    service = f"https://sluice-bundles.{common.namespace}.svc"
    given = _resources(environment)
    injection = InjectionSettings(
        version=version("sluice-operator"),
        proxy_image=environment.text("SLUICE_PROXY_IMAGE"),
        opa_image=environment.text("SLUICE_OPA_IMAGE"),
        bundles_url=environment.text("SLUICE_BUNDLES_URL", service).rstrip("/"),
        trust=Trust("", {}),
        image_pull_policy=environment.choice(
            "SLUICE_IMAGE_PULL_POLICY", ("IfNotPresent", "Always", "Never"), "IfNotPresent"
        ),
        cluster_domain=common.cluster_domain,
        log_level=environment.choice("SLUICE_SIDECAR_LOG_LEVEL", LOG_LEVELS, "info"),
        spool_bytes_max=environment.integer(
            "SLUICE_SPOOL_BYTES_MAX", 64 * 1024 * 1024, low=1024 * 1024, high=1 << 40
        ),
        drain_seconds=environment.integer("SLUICE_DRAIN_SECONDS", 25, low=0, high=3600),
        proxy=given.get("proxy", PROXY_RESOURCES),
        opa=given.get("opa", OPA_RESOURCES),
    )
    return Settings(
        common=common,
        injection=injection,
        listen=environment.address("SLUICE_LISTEN", ":8443"),
        leave_s=environment.number("SLUICE_LEAVE_SECONDS", 3.0, low=0, high=60),
    )


def _resources(environment: Environment) -> dict[str, Resources]:
    text = environment.text(_RESOURCES, "{}")
    try:
        document = json.loads(text)
    except ValueError:
        raise SettingsError(f"{_RESOURCES} is no JSON") from None
    if not isinstance(document, dict):
        raise SettingsError(f'{_RESOURCES} must be {{"proxy": …, "opa": …}}')
    fields = cast("dict[str, Any]", document)
    if unknown := sorted(set(fields) - {"proxy", "opa"}):
        raise SettingsError(f"{_RESOURCES} has {unknown[0]!r}; there are proxy and opa")
    return {name: _one(name, value) for name, value in fields.items() if value}


def _one(name: str, value: object) -> Resources:
    if not isinstance(value, dict):
        raise SettingsError(f"{_RESOURCES}: {name} must have requests and limits")
    fields = cast("dict[str, Any]", value)
    found: dict[str, str] = {}
    for kind, suffix in (("requests", ""), ("limits", "_limit")):
        for key, quantity in section(fields, kind).items():
            if key not in ("cpu", "memory") or amount(quantity) is None:
                raise SettingsError(
                    f"{_RESOURCES}: {name}.{kind}.{key} must be a quantity of cpu or memory"
                )
            found[f"{key}{suffix}"] = str(quantity)
    return Resources(**found)
