"""An authority of our own: P-256, a few certificates, and what they sign. Pure but for the random keys."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BACKDATE = timedelta(minutes=5)
"""Certificates are valid from so long before they were made: clocks of nodes differ."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that signs others. Its text form never shows the key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | None
    """None: it only has to be trusted any more."""

    @classmethod
    def create(cls, now: datetime, life: timedelta) -> Self:
        """Make a new one."""
        key = ec.generate_private_key(ec.SECP256R1())
        # The moment in the name: two authorities are never confused for one.
        name = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, f"sluice {now:%Y-%m-%dT%H:%M:%S.%fZ}")]
        )
        certificate = (
            _builder(name, name, key.public_key(), now, now + life)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, certificate_pem: bytes, key_pem: bytes | None) -> Self:
        """Read one.

        Raises:
            ValueError: It cannot be read, or key and certificate do not belong together.
        """
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        if key_pem is None:
            return cls(certificate, None)
        key = serialization.load_pem_private_key(key_pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the authority's key is not an EC key")  # noqa: TRY004
        if key.public_key() != certificate.public_key():
            raise ValueError("the authority's key is not that of its certificate")
        return cls(certificate, key)

    @property
    def issued_at(self) -> datetime:
        """When it was made."""
        return self.certificate.not_valid_before_utc + BACKDATE

    @property
    def expires_at(self) -> datetime:
        """The moment after which it is worth nothing."""
        return self.certificate.not_valid_after_utc

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes | None:
        """The private key, unencrypted."""
        return None if self.key is None else _key_pem(self.key)

    def without_key(self) -> Self:
        """The same, only to be trusted."""
        return type(self)(self.certificate, None)

    def issue(self, hosts: Iterable[str], now: datetime, life: timedelta) -> tuple[bytes, bytes]:
        """Return a new serving certificate and its key, PEM.

        Raises:
            ValueError: This authority signs no more.
        """
        if self.key is None:
            raise ValueError("this authority signs no more")
        names = list(hosts)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        until = min(now + life, self.expires_at)
        certificate = (
            _builder(subject, self.certificate.subject, key.public_key(), now, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key)

    def signed(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate is this authority's."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def __repr__(self) -> str:
        """Names the authority without showing the key."""
        return f"Authority({self.certificate.serial_number:x})"


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def utc(seconds: float) -> datetime:
    """Seconds since 1970 → a moment, to the second: what certificates know."""
    return datetime.fromtimestamp(int(seconds), UTC)
