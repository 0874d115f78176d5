"""The key that signs bundles: ECDSA on P-256 (ES256)."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


def public_key_id(pem: str) -> str:
    """Return what names a public key in signatures.

    Raises:
        ValueError: It is none.
    """
    return _named(serialization.load_pem_public_key(pem.encode()))


def _named(public: PublicKeyTypes) -> str:
    content = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(content).hexdigest()[:16]


class SigningKey:
    """A private key. Its text form never shows the key."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        if not isinstance(key.curve, ec.SECP256R1):
            raise ValueError(f"bundles are signed with a P-256 key, not {key.curve.name}")  # noqa: TRY004
        self._key = key

    @classmethod
    def generate(cls) -> SigningKey:
        """A new random key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, pem: bytes | str) -> SigningKey:
        """Read an unencrypted PEM private key.

        Raises:
            ValueError: It is none, or not on P-256.
        """
        data = pem.encode() if isinstance(pem, str) else pem
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError):
            # The original error may quote the file.
            raise ValueError("not an unencrypted PEM private key") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("bundles are signed with a P-256 key")  # noqa: TRY004
        return cls(key)

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """The key itself, for signing."""
        return self._key

    @property
    def public_pem(self) -> str:
        """The public key, as OPA and the sidecar take it."""
        public = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return public.decode()

    @property
    def key_id(self) -> str:
        """Names the key in signatures: 16 hex digits of the public key's SHA-256."""
        return _named(self._key.public_key())

    def private_pem(self) -> bytes:
        """The private key as PEM (PKCS 8), unencrypted."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def __repr__(self) -> str:
        """Names the key without showing it."""
        return f"SigningKey({self.key_id})"
