from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import ipaddress
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sluice_dev.postgres import Server, find
from sluice_proxy.tls import ServerTls

_NOW = dt.datetime.now(dt.UTC)


@dataclasses.dataclass
class Authority:
    """A certificate authority with its key."""

    name: str

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(self.name, self.key, [], authority=True)

    def _sign(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        names: list[x509.GeneralName],
        *,
        authority: bool = False,
        days: int = 2,
    ) -> x509.Certificate:
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOW - dt.timedelta(days=10))
            .not_valid_after(_NOW + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def pem(self, path: Path) -> Path:
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def pair(self, folder: Path, name: str, *, days: int = 2) -> Path:
        """Write tls.crt and tls.key for a host name or address, or a user."""
        try:
            names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(name))]
        except ValueError:
            names = [x509.DNSName(name)]
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key, names, days=days)
        folder.mkdir(exist_ok=True)
        pem = serialization.Encoding.PEM
        (folder / "tls.crt").write_bytes(certificate.public_bytes(pem))
        (folder / "tls.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return folder


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("the database's authority")


@pytest.fixture(scope="module")
def secured(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes connections with TLS only, from ``certified`` with a certificate only."""
    made = tmp_path_factory.mktemp("server")
    folder = authority.pair(made / "pair", "shop-pg.shop.svc")
    hba = (
        "hostnossl all app,certified all reject",
        "hostssl all certified all cert",
        "hostssl all all all scram-sha-256",
    )
    with Server(find(), hba=hba) as server:
        for source, name in (
            (folder / "tls.crt", "server.crt"),
            (folder / "tls.key", "server.key"),
            (authority.pem(made / "ca.crt"), "ca.crt"),
        ):
            target = server.directory / name
            shutil.copy(source, target)
            target.chmod(0o600)
            owner = server.directory.stat()
            shutil.chown(target, owner.st_uid, owner.st_gid)
        with psycopg.connect(server.admin_dsn, autocommit=True) as admin:
            for name, value in (
                ("ssl_cert_file", "server.crt"),
                ("ssl_key_file", "server.key"),
                ("ssl_ca_file", "ca.crt"),
                ("ssl", "on"),
            ):
                path = value if value == "on" else str(server.directory / value)
                admin.execute(f"ALTER SYSTEM SET {name} = '{path}'")
            admin.execute("SELECT pg_reload_conf()")
            admin.execute("CREATE ROLE app LOGIN PASSWORD 'pw'")
            admin.execute("CREATE ROLE certified LOGIN")
        yield server


@pytest.fixture
async def reach(start, making, secured: Server) -> AsyncIterator[Callable]:
    """Connect through a sidecar whose hop to a server is as given."""
    async with contextlib.AsyncExitStack() as stack:
        sidecars: list = []

        async def reaching(tls: ServerTls, **parameters: object) -> psycopg.AsyncConnection:
            if not sidecars:
                first = making.signer.bundle(1, session=making.session(level="open"))
                dsn = secured.dsn(user="app", password="pw")
                sidecars.append(await start(dsn, first, catalog=None))
            (running,) = sidecars
            running.databases.replace([dataclasses.replace(*running.databases, tls=tls)])
            connection = await running.connect(**({"user": "app", "password": "pw"} | parameters))
            stack.push_async_callback(connection.close)
            return connection

        yield reaching


@pytest.fixture(scope="session")
def new_authority() -> type[Authority]:
    return Authority


@pytest.fixture(scope="session")
def seen_by_server() -> Callable:
    """What the server says of the hop: encrypted, version, the certificate shown to it."""
    return _seen_by_server


async def _seen_by_server(connection: psycopg.AsyncConnection) -> tuple:
    cursor = await connection.execute(
        "SELECT ssl, version, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    )
    row = await cursor.fetchone()
    assert row is not None
    return row
