"""Values that injection takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Pod = dict[str, Any]
"""A pod as the API server sends it. Never parsed into a model: fields that are not known here must survive."""

Operation = dict[str, Any]
"""One operation of a JSON patch (RFC 6902)."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """Where a pod is created."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a sidecar believes when its pod is created; public."""

    ca_pem: str
    """The authorities of the bundle service."""
    keys: Mapping[str, str]
    """Key id → PEM of the keys that sign bundles: the present and the next."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What one container asks for and may take, as quantities; None: not said."""

    cpu: str | None = None
    memory: str | None = None
    cpu_limit: str | None = None
    memory_limit: str | None = None


PROXY_RESOURCES = Resources(cpu="50m", memory="192Mi", memory_limit="512Mi")
OPA_RESOURCES = Resources(cpu="20m", memory="96Mi", memory_limit="256Mi")


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionSettings:
    """What is the same for every pod of the cluster."""

    version: str
    proxy_image: str
    opa_image: str
    bundles_url: str
    trust: Trust
    image_pull_policy: str = "IfNotPresent"
    cluster_domain: str = "cluster.local"
    log_level: str = "info"
    spool_bytes_max: int = 64 * 1024 * 1024
    drain_seconds: int = 25
    proxy: Resources = PROXY_RESOURCES
    opa: Resources = OPA_RESOURCES


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pod is not admitted."""

    message: str
    """What, why, and what to do, in sentences."""
    passing: bool = False
    """It may be over at once: somebody knew more, or less, than we do now."""


@dataclass(frozen=True, slots=True)
class Injection:
    """The pod is admitted."""

    patch: tuple[Operation, ...] = ()
    """What turns it into the governed pod; empty when it is already, or needs nothing."""
    warnings: tuple[str, ...] = ()
