"""What the controller measures."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

LEADING: Final = Gauge("sluice_controller_leading", "1 while this replica is the active one.")
RESOURCES: Final = Gauge("sluice_controller_resources", "Policies and classifications.", ["kind"])
INVALID: Final = Gauge(
    "sluice_controller_resources_invalid", "Resources whose present generation is not in force."
)
PODS: Final = Gauge("sluice_controller_pods", "Governed pods.")
PROFILES: Final = Gauge("sluice_controller_profiles", "Profiles that governed pods have.")
PUBLISHED: Final = Counter(
    "sluice_controller_bundles_published", "Bundles written, by cause.", ["cause"]
)
PUBLISH_SECONDS: Final = Histogram(
    "sluice_controller_publish_seconds",
    "From the first sign of a change to the last bundle written for it.",
    buckets=(0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
SMOKE_FAILED: Final = Counter(
    "sluice_controller_smoke_failed", "Contents that were not published: OPA did not answer well."
)
STATUS_WRITES: Final = Counter("sluice_controller_status_writes", "Statuses written.")
ERRORS: Final = Counter(
    "sluice_controller_errors", "Work that failed and is tried again.", ["part"]
)
WATCH_AGE: Final = Gauge(
    "sluice_controller_watch_age_seconds",
    "Since the API server was last heard of, by watch.",
    ["path"],
)
CERTIFICATE_EXPIRES: Final = Gauge(
    "sluice_controller_certificate_expires_timestamp_seconds",
    "End of a certificate's life.",
    ["name"],
)
