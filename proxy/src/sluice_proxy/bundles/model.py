"""What a verified bundle is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


class BundleRefusedError(Exception):
    """A bundle that is not used. The message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose signature, files and manifest were checked."""

    raw: bytes
    """The gzipped tar as it came; OPA gets these bytes and checks them again."""
    revision: str
    sequence: int
    profile: str
    issued_at: datetime
    max_policy_age_s: float
    trust: Any = None
    """``metadata.trust`` of the manifest as it stands: whom to trust from now on, signed with the rest."""

    @property
    def etag(self) -> str:
        """HTTP entity tag. The sequence and not the revision: signing again makes a new one."""
        return f'"{self.sequence}-{self.revision[:16]}"'

    def age_s(self, now: datetime) -> float:
        """Seconds since it was issued; 0 when the clock stands before that."""
        return max(0.0, (now - self.issued_at).total_seconds())

    def too_old(self, now: datetime) -> bool:
        """Whether governed statements must be refused because nobody has confirmed the policy for too long."""
        return self.age_s(now) > self.max_policy_age_s
