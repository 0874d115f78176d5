"""How bundles are stored: the ConfigMap of a profile and its annotations. The controller writes, `bundles` reads."""

from __future__ import annotations

import hashlib
from typing import Final

SEQUENCE: Final = "sluice.dev/sequence"
SINCE: Final = "sluice.dev/revision-since"
REVISION: Final = "sluice.dev/revision"
ISSUED_AT: Final = "sluice.dev/issued-at"
TRUST: Final = "sluice.dev/trust"
BEFORE: Final = "sluice.dev/before-revision"
APART: Final = "sluice.dev/before-apart"
"""What worked before has a ConfigMap of its own."""
HELD: Final = "sluice.dev/held-revision"
HELD_BECAUSE: Final = "sluice.dev/held-because"
ACQUITTED: Final = "sluice.dev/acquitted-revision"


def bundle_name(profile_id: str) -> str:
    """Return the name of the ConfigMap that holds a profile's bundle."""
    return f"sluice-bundle-{_digest(profile_id)}"


def before_name(profile_id: str) -> str:
    """Return the name of the ConfigMap that holds what worked before, when both do not fit one."""
    return f"sluice-before-{_digest(profile_id)}"


def _digest(profile_id: str) -> str:
    return hashlib.sha256(profile_id.encode()).hexdigest()[:24]
