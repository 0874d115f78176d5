"""Certificates and kubeconfigs of a local cluster: EC keys, one authority for each kind of caller."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = dt.timedelta(days=3650)
_SKEW = dt.timedelta(minutes=5)


def write_private(path: Path, data: bytes) -> Path:
    """Write a file that only we can read, never there half written; return its path."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(data)
    fresh.replace(path)
    return path


@dataclass(frozen=True, slots=True)
class Pair:
    """Files of a certificate and its key, PEM."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority whose files are in a folder: NAME.crt and NAME.key."""

    def __init__(self, files: Pair) -> None:
        """Load it."""
        self.files = files
        self._certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{files.key} is no EC key")
        self._key = key

    @classmethod
    def at(cls, folder: Path, name: str) -> Self:
        """Return the authority kept in the folder, made first when it is not there."""
        files = Pair(folder / f"{name}.crt", folder / f"{name}.key")
        if not (files.certificate.exists() and files.key.exists()):
            key = ec.generate_private_key(ec.SECP256R1())
            subject = _name(f"sluice-{name}")
            constraints = x509.BasicConstraints(ca=True, path_length=0)
            certificate = _builder(subject, subject, key).add_extension(constraints, critical=True)
            _write(files, key, certificate.sign(key, hashes.SHA256()))
        return cls(files)

    def issue(
        self,
        folder: Path,
        file: str,
        *,
        name: str,
        groups: Sequence[str] = (),
        addresses: Sequence[str] = (),
    ) -> Pair:
        """Return a certificate for a user or a server, made anew when its files are not there.

        Args:
            folder: Where its files go.
            file: Their name without suffix.
            name: Common name: the user's name.
            groups: Organisations: the user's groups.
            addresses: IP addresses and DNS names of a server.
        """
        files = Pair(folder / f"{file}.crt", folder / f"{file}.key")
        if files.certificate.exists() and files.key.exists():
            return files
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        certificate = (
            _builder(_name(name, groups), self._certificate.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if addresses:
            alternatives = x509.SubjectAlternativeName([_general(one) for one in addresses])
            certificate = certificate.add_extension(alternatives, critical=False)
        _write(files, key, certificate.sign(self._key, hashes.SHA256()))
        return files


def signing_key(path: Path) -> Path:
    """Return the key file that signs service account tokens, made when it is not there."""
    if not path.exists():
        write_private(path, _key_pem(ec.generate_private_key(ec.SECP256R1())))
    return path


def kubeconfig(
    path: Path,
    server: str,
    authority: Path,
    *,
    user: Pair | None = None,
    token: str | None = None,
    name: str = "sluice",
) -> Path:
    """Write a kubeconfig (as JSON, which is YAML) that needs no other file; return its path."""
    login: dict[str, str] = {}
    if user is not None:
        login["client-certificate-data"] = _encoded(user.certificate)
        login["client-key-data"] = _encoded(user.key)
    if token is not None:
        login["token"] = token
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": server, "certificate-authority-data": _encoded(authority)}}
        ],
        "users": [{"name": name, "user": login}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }  # fmt: skip
    return write_private(path, json.dumps(document, indent=1).encode())


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _name(common: str, groups: Sequence[str] = ()) -> x509.Name:
    organisations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organisations, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFE)
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    # The traditional form: every Go program reads it.
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _write(files: Pair, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    write_private(files.key, _key_pem(key))
    write_private(files.certificate, certificate.public_bytes(serialization.Encoding.PEM))
