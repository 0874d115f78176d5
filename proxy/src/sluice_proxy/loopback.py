"""Certificate and token of the bundle service that OPA polls over the loopback address."""

from __future__ import annotations

import ipaddress
import secrets
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sluice_proxy.files import write_atomically

ADDRESS: Final = "127.0.0.1"
TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class LoopbackFiles:
    """In a private directory that the proxy and OPA share."""

    directory: Path

    @property
    def ca(self) -> Path:
        """The certificate that OPA must trust, and no other."""
        return self.directory / "ca.pem"

    @property
    def token(self) -> Path:
        """OPA's bearer token."""
        return self.directory / "token"

    @property
    def _server(self) -> Path:
        return self.directory / "server.pem"

    def make(self) -> None:
        """Make all of them anew."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = _certificate(key).public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_atomically(self._server, private + public)
        write_atomically(self.ca, public)
        write_atomically(self.token, secrets.token_urlsafe(TOKEN_BYTES).encode())

    def context(self) -> ssl.SSLContext:
        """Return the server's side of TLS.

        Raises:
            OSError: The files are not there.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self._server)
        return context

    def forget_key(self) -> None:
        """Remove the private key: nobody needs to read it again."""
        self._server.unlink(missing_ok=True)


def _certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sluice bundle service")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        # Made anew at every start; ten years, so that no running sidecar outlives it.
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ADDRESS))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
