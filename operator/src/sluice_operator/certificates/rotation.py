"""When an authority is followed by the next one, and when a serving certificate is made anew. Pure.

The life of an authority, with an overlap at both ends:

- from half of its life on there is a *next* one, trusted everywhere before it signs anything;
- when the next one has been trusted for long enough (``trusted_at`` is known, and an eighth of a life has passed), it
  becomes the *current* one, and all serving certificates are made anew;
- the *previous* one loses its key at once, and stays trusted until the last certificate that it signed has expired.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

from cryptography import x509

from sluice_operator.certificates.authority import BACKDATE, Authority

NEXT_FROM = 0.5
OVERLAP = 0.125
RENEW_AT = 2 / 3


@dataclass(frozen=True, slots=True)
class Lives:
    """How long things live."""

    authority: timedelta
    leaf: timedelta


@dataclass(frozen=True, slots=True)
class Authorities:
    """All authorities at one time."""

    current: Authority
    """Signs."""
    next: Authority | None = None
    """Trusted, does not sign yet."""
    trusted_at: datetime | None = None
    """Since when the next one has been trusted everywhere; None: it is not yet."""
    previous: Authority | None = None
    """Trusted, signs no more."""
    since: datetime | None = None
    """Since when the current one has signed in place of the previous one."""

    @classmethod
    def load(cls, data: Mapping[str, bytes]) -> Self:
        """Read them from a Secret's data.

        Raises:
            ValueError: They cannot be read.
        """
        if "current.crt" not in data or "current.key" not in data:
            raise ValueError("there is no current authority in it")
        upcoming = previous = trusted_at = since = None
        if "next.crt" in data and "next.key" in data:
            upcoming = Authority.load(data["next.crt"], data["next.key"])
            if "next.trusted-at" in data:
                trusted_at = datetime.fromisoformat(data["next.trusted-at"].decode())
        if "previous.crt" in data:
            previous = Authority.load(data["previous.crt"], None)
            since = datetime.fromisoformat(data["current.since"].decode())
        current = Authority.load(data["current.crt"], data["current.key"])
        return cls(current, upcoming, trusted_at, previous, since)

    def dump(self) -> dict[str, bytes]:
        """Return them as a Secret's data."""
        data = {"current.crt": self.current.pem, "current.key": self.current.key_pem or b""}
        if self.next is not None:
            data |= {"next.crt": self.next.pem, "next.key": self.next.key_pem or b""}
            if self.trusted_at is not None:
                data["next.trusted-at"] = self.trusted_at.isoformat().encode()
        if self.previous is not None:
            data["previous.crt"] = self.previous.pem
            data["current.since"] = (self.since or self.current.issued_at).isoformat().encode()
        return data

    @property
    def trusted(self) -> tuple[Authority, ...]:
        """Whom clients are to trust, the one that signs first."""
        others = (self.next, self.previous)
        return (self.current, *(one for one in others if one is not None))

    @property
    def bundle_pem(self) -> str:
        """Their certificates, one after the other."""
        return "".join(one.pem.decode() for one in self.trusted)


def rotated(
    present: Authorities | None, now: datetime, lives: Lives, *, published: bool
) -> Authorities:
    """Return the authorities as they are to be now; equal ones mean that nothing is to be done.

    Args:
        present: As they are; None: there is none yet.
        now: The moment.
        lives: How long things live.
        published: Whether everybody who is to trust ``present.trusted`` has been told.
    """
    if present is None or now >= present.current.expires_at:
        # Too late for overlap: the operator was away for all of it.
        return Authorities(Authority.create(now, lives.authority))
    result = present
    if result.next is None and now >= result.current.issued_at + lives.authority * NEXT_FROM:
        return replace(result, next=Authority.create(now, lives.authority), trusted_at=None)
    if result.next is not None and result.trusted_at is None and published:
        result = replace(result, trusted_at=now)
    if (
        result.next is not None
        and result.trusted_at is not None
        and now >= result.trusted_at + lives.authority * OVERLAP
    ):
        return Authorities(result.next, previous=result.current.without_key(), since=now)
    if result.previous is not None and now >= _last_leaf_ends(result, lives):
        result = replace(result, previous=None, since=None)
    return result


def _last_leaf_ends(authorities: Authorities, lives: Lives) -> datetime:
    """When nothing that the previous authority signed can be valid any more."""
    since = authorities.since or authorities.current.issued_at
    expires = authorities.previous.expires_at if authorities.previous else since
    return min(expires, since + lives.leaf)


def leaf_problem(
    leaf_pem: bytes | None, authorities: Authorities, hosts: Iterable[str], now: datetime
) -> str | None:
    """Return why a serving certificate is to be made anew; None when it is good."""
    if not leaf_pem:
        return "there is none"
    try:
        leaf = x509.load_pem_x509_certificate(leaf_pem)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return "it cannot be read"
    if not authorities.current.signed(leaf):
        return "another authority signs now"
    if set(names.get_values_for_type(x509.DNSName)) != set(hosts):
        return "it is for other names"
    issued_at = leaf.not_valid_before_utc + BACKDATE
    if now >= issued_at + (leaf.not_valid_after_utc - issued_at) * RENEW_AT:
        return "two thirds of its life are over"
    return None
