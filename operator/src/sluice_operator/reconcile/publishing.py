"""Which bundles are to be written, under which numbers, and which have served their time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sluice_operator.reconcile.model import StoredBundle

Cause = Literal["new", "content", "trust", "age", "withdrawn", "acquitted"]


def trust_digest(trust: Mapping[str, Any]) -> str:
    """Return what tells one trust document from another, short enough for an annotation."""
    text = json.dumps(trust, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cause(
    revision: str, present: StoredBundle | None, *, trust: str, now: float, renew_s: float
) -> Cause | None:
    """Return why a profile's bundle is to be written; None when the present one is right.

    Args:
        revision: Of the content that is to be in force.
        present: What is published.
        trust: Digest of whom sidecars are to trust.
        now: Seconds since 1970.
        renew_s: Age at which a bundle is signed again.
    """
    if present is None:
        return "new"
    if revision not in (present.revision, present.held):
        return "content"
    if present.trust != trust:
        return "trust"
    # Not all in the same second: up to a tenth earlier, by the name.
    early = 0.1 * int(hashlib.sha256(present.profile_id.encode()).hexdigest()[:4], 16) / 0xFFFF
    if now - present.issued_at >= renew_s * (1.0 - early):
        return "age"
    # A clock that was ahead must not keep a bundle from ever being renewed.
    return "age" if present.issued_at - now > renew_s else None


def next_sequence(last: int | None, now: float) -> int:
    """Return the number of the next bundle: never lower than one that was lost."""
    return max((last or 0) + 1, int(now))


@dataclass(slots=True)
class Idle:
    """Remembers since when profiles have had no pod."""

    keep_s: float = 3600.0
    """Their bundles are kept so long: a Deployment scaled to nothing and back finds its bundle."""
    _since: dict[str, float] = field(default_factory=dict[str, float])

    def expired(self, present: Mapping[str, StoredBundle], used: set[str], now: float) -> list[str]:
        """Return the profiles whose bundles have served their time."""
        self._since = {p: self._since.get(p, now) for p in present if p not in used}
        return sorted(p for p, at in self._since.items() if now - at >= self.keep_s)
