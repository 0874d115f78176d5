"""What is written into a pod and what decides about it: labels, annotations, names, places, numbers."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "sluice.dev/"
"""Of every label and annotation of ours."""
RESERVED: Final = "sluice-"
"""Of every container and volume of ours; nobody else's may begin so."""

INJECT: Final = "sluice.dev/inject"
GOVERN: Final = "sluice.dev/govern"
MAY_CLAIM_EXTERNAL: Final = "sluice.dev/may-claim-external"
UNGOVERNED_DATABASES: Final = "sluice.dev/ungoverned-databases"

INJECTED: Final = "sluice.dev/injected"
TEMPLATE_HASH: Final = "sluice.dev/template-hash"
DIGEST: Final = "sluice.dev/digest"
PROFILE: Final = "sluice.dev/profile"
IDENTITY: Final = "sluice.dev/identity"
DATABASES: Final = "sluice.dev/databases"
CAPTURE: Final = "sluice.dev/capture"
OPA_AUTHORIZATION: Final = "sluice.dev/opa-authorization"
"""The policy that guards OPA's API; the pod reads it as a file."""
WRITTEN: Final = (
    INJECTED,
    TEMPLATE_HASH,
    DIGEST,
    PROFILE,
    IDENTITY,
    DATABASES,
    CAPTURE,
    OPA_AUTHORIZATION,
)
"""Annotations that injection writes. ``capture`` may also be asked for."""

LOG_LEVEL: Final = "sluice.dev/log-level"
AUDIT_LOG: Final = "sluice.dev/audit-log"
SAFE_TO_EVICT: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
"""Without it, emptyDirs keep the cluster autoscaler from ever emptying a node."""

OPA: Final = "sluice-opa"
PROXY: Final = "sluice-proxy"
CONTAINERS: Final = (OPA, PROXY)
"""In their order, in front of the application's own init containers: a kubelet ends them the other way round."""
FORMER: Final = ("sluice-init",)
"""Of pods that an earlier version governed."""

RUN_VOLUME: Final = "sluice-run"
STATE_VOLUME: Final = "sluice-state"
SPOOL_VOLUME: Final = "sluice-spool"
TOKEN_VOLUME: Final = "sluice-token"  # noqa: S105  # The name of a volume.
EMPTY_VOLUME: Final = "sluice-empty"
"""Lies over the place of the application's API token: our containers have no use for it."""
OPA_VOLUME: Final = "sluice-opa"
CATALOG_VOLUME: Final = "sluice-catalog-"
TLS_VOLUME: Final = "sluice-tls-"
LOCAL_VOLUMES: Final = (RUN_VOLUME, STATE_VOLUME, SPOOL_VOLUME)

RUN_PATH: Final = "/run/sluice"
STATE_PATH: Final = "/var/lib/sluice/state"
SPOOL_PATH: Final = "/var/lib/sluice/spool"
TOKEN_PATH: Final = "/var/run/secrets/sluice"  # noqa: S105  # A folder.
OPA_PATH: Final = "/etc/sluice/opa"
AUTHORIZATION_FILE: Final = "authz.rego"
CATALOG_PATH: Final = "/etc/sluice/catalog"
TLS_PATH: Final = "/etc/sluice/tls"
SERVICE_ACCOUNT_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"

UID: Final = 16021
"""User and group of our containers. Nobody else of the pod may have it."""
BUNDLE_PORT: Final = 15280
HEALTH_PORT: Final = 15281
OPA_PORT: Final = 15282
PORTS: Final = frozenset({BUNDLE_PORT, HEALTH_PORT, OPA_PORT})

AUDIENCE: Final = "sluice"
"""Of the token that the bundle service takes."""
TOKEN_SECONDS: Final = 3600

LOOPBACK_FIRST: Final = 32
LOOPBACK_LAST: Final = 254
"""The last part of 127.0.0.x: one address for each server."""
