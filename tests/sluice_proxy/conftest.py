"""Signed bundles made by hand, not by the compiler, and a sidecar in this process that takes them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sluice_dev.forging import packed
from sluice_proxy.databases import Database, Databases
from sluice_proxy.decide import Workload
from sluice_proxy.run import Sidecar
from sluice_proxy.settings import Listener, SidecarSettings
from sluice_proxy.tls import ServerTls

PROFILE = "support.desk"

SESSION_REGO = """\
package sluice.session

decision := object.union(data.sluice_data.session, {
    "contract": 1,
    "revision": data.system.bundles.sluice.manifest.revision,
    "sequence": data.system.bundles.sluice.manifest.metadata.sequence,
})
"""
STATEMENT_REGO = """\
package sluice.statement

decision := object.union(data.sluice_data.statement, {
    "contract": 1,
    "revision": data.system.bundles.sluice.manifest.revision,
    "sequence": data.system.bundles.sluice.manifest.metadata.sequence,
})
"""
NO_LIMITS = {"rows_per_statement": None, "statement_seconds": None}


def session_document(**changes: Any) -> dict[str, Any]:
    return {
        "valid_until": None,
        "allow": True,
        "level": "open",
        "enforcement": "enforce",
        "policies": ["shop/support"],
        "reasons": [],
        "classification": {"columns": [], "unreviewed": "allow"},
        "masks": {},
        "row_filters": [],
        "limits": NO_LIMITS,
        "trusted": {"functions": [], "channels": []},
        "write_oracles": {"keys": "accept", "row_values": "deny"},
    } | changes


def statement_document(**changes: Any) -> dict[str, Any]:
    return {
        "valid_until": None,
        "allow": True,
        "policies": ["shop/support"],
        "reasons": [],
        "limits": NO_LIMITS,
        "warnings": [],
        "would": [],
    } | changes


@dataclass
class Signer:
    """A key and the archives signed with it."""

    key_id: str = "k1"
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    @property
    def public_pem(self) -> str:
        encoding = serialization.Encoding.PEM
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(encoding, form).decode()

    @property
    def keys(self) -> dict[str, str]:
        return {self.key_id: self.public_pem}

    def token(self, files: Mapping[str, bytes], **claims: Any) -> str:
        listed = [
            {"name": name, "algorithm": "SHA-256", "hash": hashlib.sha256(body).hexdigest()}
            for name, body in files.items()
        ]
        payload = {"files": listed} | claims
        return jwt.encode(payload, self.key, algorithm="ES256", headers={"kid": self.key_id})

    def bundle(
        self,
        sequence: int,
        *,
        session: Mapping[str, Any] | None = None,
        statement: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        manifest: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> bytes:
        contents = self.contents(
            sequence, session=session, statement=statement, metadata=metadata, manifest=manifest
        )
        contents |= files or {}  # Before they are signed.
        return packed(contents | signatures(self.token(contents)))

    def contents(
        self,
        sequence: int,
        *,
        session: Mapping[str, Any] | None = None,
        statement: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        manifest: Mapping[str, Any] | None = None,
    ) -> dict[str, bytes]:
        data = canonical(
            {
                "sluice_data": {
                    "session": session or session_document(),
                    "statement": statement or statement_document(),
                }
            }
        )
        document = {
            "revision": hashlib.sha256(data).hexdigest(),
            "roots": ["sluice", "sluice_data"],
            "metadata": {
                "contract": 1,
                "profile": PROFILE,
                "sequence": sequence,
                "issued_at": datetime.now(UTC).isoformat(),
                "max_policy_age_s": 86400,
            }
            | (metadata or {}),
        } | (manifest or {})
        return {
            "data.json": data,
            "sluice/session.rego": SESSION_REGO.encode(),
            "sluice/statement.rego": STATEMENT_REGO.encode(),
            ".manifest": canonical(document),
        }


def canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def signatures(*tokens: str) -> dict[str, bytes]:
    return {".signatures.json": canonical({"signatures": list(tokens)})}


@dataclass
class Making:
    """What the tests make bundles with."""

    signer: Signer = field(default_factory=Signer)
    profile: str = PROFILE
    archive = staticmethod(packed)
    signatures = staticmethod(signatures)
    session = staticmethod(session_document)
    statement = staticmethod(statement_document)
    Signer = Signer


@pytest.fixture(scope="session")
def making() -> Making:
    return Making()


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A private directory whose path is short enough for unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="sl-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


class Queue:
    def __init__(self) -> None:
        self.bundles: asyncio.Queue[bytes] = asyncio.Queue()

    async def next(self, after_sequence: int | None) -> bytes:
        del after_sequence
        return await self.bundles.get()


@dataclass
class Running:
    sidecar: Sidecar
    databases: Databases
    queue: Queue
    dsn: str

    async def publish(self, raw: bytes) -> None:
        counted = self.sidecar.bundles.counts.activated
        self.queue.bundles.put_nowait(raw)
        async with asyncio.timeout(10):
            while self.sidecar.bundles.counts.activated == counted:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def connect(self, **parameters: object) -> psycopg.AsyncConnection:
        info = psycopg.conninfo.conninfo_to_dict(self.dsn)
        host, _, port = self.sidecar.addresses[0].rpartition(":")
        info |= {"host": host, "port": port, "sslmode": "disable"} | parameters
        return await psycopg.AsyncConnection.connect(**info, autocommit=True)


@pytest.fixture
async def start(making, opa, short_directory: Path) -> AsyncIterator[Callable]:
    stack = contextlib.AsyncExitStack()

    async def starting(
        dsn: str,
        first: bytes,
        *,
        catalog: str | None = "",
        tls: ServerTls | None = None,
        **more,
    ) -> Running:
        info = psycopg.conninfo.conninfo_to_dict(dsn)
        databases = Databases()
        databases.replace(
            [
                Database(
                    name="shop/shop",
                    database_name=info["dbname"],
                    upstream=f"127.0.0.1:{info['port']}",
                    catalog_dsn=dsn if catalog == "" else catalog,
                    tls=tls,
                )
            ]
        )
        workload = Workload(
            namespace="support", service_account="desk", pod=None, labels={}, assurance="asserted"
        )
        listeners = (
            Listener(name="", address="127.0.0.1:0"),
            Listener(name="shop/shop", address=f"unix:{short_directory}/.s.PGSQL.5432"),
        )
        settings = SidecarSettings(
            workload=workload,
            profile=making.profile,
            spool_directory=short_directory / "spool",
            state_directory=short_directory / "state",
            runtime_directory=short_directory / "run",
            opa_program=opa,
            bundle_keys=making.signer.keys,
            drain_s=1,
            **({"listeners": listeners} | more),
        )
        queue = Queue()
        queue.bundles.put_nowait(first)
        sidecar = Sidecar(settings, queue, databases)
        stack.push_async_callback(sidecar.stop)
        await sidecar.start()
        return Running(sidecar, databases, queue, dsn)

    async with stack:
        yield starting
