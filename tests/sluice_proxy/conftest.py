"""Signed bundles made by hand, so that what the sidecar checks is not what the compiler wrote."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sluice_dev.forging import packed

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
