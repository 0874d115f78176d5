"""Serving certificates that somebody else issues: when one that is signed by another authority is served. Pure.

Whoever issues replaces a certificate at once, and its authority with it when that has changed. Served at once, it would
cut off every sidecar that was told of the old authority only. So what is issued and what is served are two Secrets:

- one of the same authority is served as soon as it is seen;
- one of another authority is first announced: the new one is trusted beside the old one, and the old certificate goes
  on serving. When everybody has been told, and an eighth of its life has passed, it is served;
- an eighth of its life later the old authority is trusted no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from sluice_operator.certificates.rotation import OVERLAP

LAST_MOMENT = 0.02
"""With so little left of its life, the old certificate is worth less than what was not announced long enough."""

_CERTIFICATE, _KEY, _AUTHORITIES, _SINCE = "tls.crt", "tls.key", "ca.crt", "since"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key, the way to its authority, and authorities to trust. Its text form shows no key."""

    chain: tuple[x509.Certificate, ...]
    """The certificate and what signed it, without an authority that is trusted by itself."""
    authorities: tuple[x509.Certificate, ...]
    data: Mapping[str, bytes]
    """As it was read."""
    since: datetime | None = None
    """Since when it is served like this: with these authorities, with this certificate."""

    @classmethod
    def load(cls, data: Mapping[str, bytes]) -> Self:
        """Read a Secret's data.

        Raises:
            ValueError: It cannot be read, or key and certificate do not belong together. The message shows no key.
        """
        missing = [name for name in (_CERTIFICATE, _KEY, _AUTHORITIES) if not data.get(name)]
        if missing:
            raise ValueError(f"{' and '.join(missing)} missing")
        chain = tuple(_certificates(data, _CERTIFICATE))
        authorities = tuple(_certificates(data, _AUTHORITIES))
        try:
            key = serialization.load_pem_private_key(data[_KEY], password=None)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{_KEY} cannot be read") from error
        if key.public_key() != chain[0].public_key():
            raise ValueError(f"{_KEY} is not that of {_CERTIFICATE}")
        try:
            since = datetime.fromisoformat(data.get(_SINCE, b"").decode())
        except ValueError:
            since = None
        return cls(chain, authorities, data, since)

    @property
    def leaf(self) -> x509.Certificate:
        """The serving certificate."""
        return self.chain[0]

    @property
    def expires_at(self) -> datetime:
        """The end of its life."""
        return self.leaf.not_valid_after_utc

    @property
    def life(self) -> timedelta:
        """From its beginning to its end."""
        return self.expires_at - self.leaf.not_valid_before_utc

    def problem(self, hosts: Iterable[str], now: datetime) -> str | None:
        """Return why a client that trusts its authorities would refuse it; None: it would not."""
        try:
            names = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound):
            return "it names no host"
        lacking = set(hosts) - set(names.get_values_for_type(x509.DNSName))
        if lacking:
            return f"it is not for {', '.join(sorted(lacking))}"
        if now >= self.expires_at:
            return f"it ended at {self.expires_at:%Y-%m-%dT%H:%M:%SZ}"
        if now < self.leaf.not_valid_before_utc:
            return f"it begins at {self.leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}"
        if not anchors(self.chain, self.authorities, now):
            return f"no authority in {_AUTHORITIES} has signed it; an issuer that gives none cannot be used"
        return None

    def dump(self) -> dict[str, bytes]:
        """Return it as a Secret's data."""
        data = {name: self.data[name] for name in (_CERTIFICATE, _KEY)}
        data[_AUTHORITIES] = pem_of(self.authorities).encode()
        if self.since is not None:
            data[_SINCE] = self.since.isoformat().encode()
        return data

    def __repr__(self) -> str:
        """Names the certificate without showing the key."""
        return f"Issued({self.leaf.serial_number:x})"


def served(issued: Issued, present: Issued | None, now: datetime, *, published: bool) -> Issued:
    """Return what is to be served now: equal authorities and certificate mean that nothing is to be done.

    Args:
        issued: The newest, which has no problem.
        present: What is served and has no problem; None: nothing.
        now: The moment.
        published: Whether everybody who is to trust ``present.authorities`` has been told.
    """
    if present is None:
        return _as(issued, issued.authorities, now)
    grace = min(issued.life, present.life) * OVERLAP
    waited = present.since is None or now >= present.since + grace
    if issued.leaf == present.leaf:
        if waited and published:  # Long enough: what else was trusted is trusted no more.
            return _as(issued, _joined(issued.authorities, (), now), now, unless=present)
        return _as(
            issued, _joined(issued.authorities, present.authorities, now), now, unless=present
        )
    everybody = _joined(present.authorities, issued.authorities, now)
    known = anchors(issued.chain, anchors(present.chain, present.authorities, now), now)
    announced = everybody == present.authorities and waited and published
    at_its_end = now >= present.expires_at - present.life * LAST_MOMENT
    if known or announced or at_its_end:
        return _as(issued, _joined(issued.authorities, present.authorities, now), now)
    return _as(present, everybody, now, unless=present)


def anchors(
    chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate], now: datetime
) -> tuple[x509.Certificate, ...]:
    """Return those authorities, still valid, that lead to the first certificate of a chain."""
    found: list[x509.Certificate] = []
    current, rest = chain[0], list(chain[1:])
    while True:
        signed = [
            one for one in authorities if _signed(current, one) and now < one.not_valid_after_utc
        ]
        found += [one for one in signed if one not in found]
        above = next((one for one in rest if _signed(current, one)), None)
        if above is None:
            return tuple(found)
        rest.remove(above)
        current = above


def pem_of(certificates: Iterable[x509.Certificate]) -> str:
    """Return certificates as text, one after the other, each once."""
    once = dict.fromkeys(certificates)
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in once)


def _as(
    which: Issued,
    authorities: tuple[x509.Certificate, ...],
    now: datetime,
    *,
    unless: Issued | None = None,
) -> Issued:
    """Return a certificate as served with these authorities, from now on, unless it is so already."""
    if (
        unless is not None
        and unless.leaf == which.leaf
        and unless.authorities == authorities
        and unless.since is not None
    ):
        return unless
    return Issued(which.chain, authorities, which.data, now)


def _joined(
    first: Iterable[x509.Certificate], second: Iterable[x509.Certificate], now: datetime
) -> tuple[x509.Certificate, ...]:
    """Return both, each once, without what has ended."""
    return tuple(one for one in dict.fromkeys([*first, *second]) if now < one.not_valid_after_utc)


def _certificates(data: Mapping[str, bytes], name: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data[name])
    except ValueError as error:
        raise ValueError(f"{name} cannot be read") from error


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
