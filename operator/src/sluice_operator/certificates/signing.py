"""The keys that sign bundles: the present one and the next, so that sidecars know a key before it signs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from sluice_policy import SigningKey
from sluice_policy.keys import public_key_id


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """Both keys, and since when the present one has served."""

    present: SigningKey
    next: SigningKey
    since: datetime
    retired: str = ""
    """Public key (PEM) of the one before the present one: what it signed is still known as ours, here only."""

    @classmethod
    def create(cls, now: datetime) -> Self:
        """Make the first two."""
        return cls(SigningKey.generate(), SigningKey.generate(), now)

    @classmethod
    def load(cls, data: Mapping[str, bytes]) -> Self:
        """Read them from a Secret's data.

        Raises:
            ValueError: They cannot be read.
        """
        try:
            return cls(
                SigningKey.load(data["present.pem"]),
                SigningKey.load(data["next.pem"]),
                datetime.fromisoformat(data["since"].decode()),
                data.get("retired.pub", b"").decode(),
            )
        except KeyError as error:
            raise ValueError(f"{error.args[0]} is missing") from None

    def dump(self) -> dict[str, bytes]:
        """Return them as a Secret's data."""
        return {
            "present.pem": self.present.private_pem(),
            "next.pem": self.next.private_pem(),
            "since": self.since.isoformat().encode(),
            **({"retired.pub": self.retired.encode()} if self.retired else {}),
        }

    def rotated(self, now: datetime, life: timedelta) -> SigningKeys:
        """Return the keys as they are to be now; the same object when nothing is to be done."""
        if now < self.since + life:
            return self
        return SigningKeys(self.next, SigningKey.generate(), now, self.present.public_pem)

    @property
    def public(self) -> dict[str, str]:
        """Key id → PEM, of both."""
        return {key.key_id: key.public_pem for key in (self.present, self.next)}

    @property
    def ours(self) -> dict[str, str]:
        """Key id → PEM of all that may have signed what is stored."""
        if not self.retired:
            return self.public
        return {**self.public, public_key_id(self.retired): self.retired}
