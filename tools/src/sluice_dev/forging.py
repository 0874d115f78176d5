"""Bundles as an attacker would make them: taken apart, changed, signed anew by whatever key there is."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

import jwt

from sluice_policy import SigningKey

SIGNATURES = ".signatures.json"
MANIFEST = ".manifest"

Files = dict[str, bytes]


def unpacked(raw: bytes) -> Files:
    """Return a bundle's files by name."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(raw))) as archive:
        found = {member.name: archive.extractfile(member) for member in archive.getmembers()}
    return {name: file.read() for name, file in found.items() if file is not None}


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return files as a bundle."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(out.getvalue())


def altered(files: Files) -> Files:
    """Show what a mask hides, under the old signature."""
    return {name: content.replace(b'"redact"', b'"none"') for name, content in files.items()}


def signed(files: Files, key: SigningKey, *, key_id: str | None = None) -> Files:
    """Sign what is there by a key; the digests of files that were signed before are kept.

    Args:
        files: Of a bundle with a signature.
        key: Signs.
        key_id: What the signature says of its key; None: the truth.
    """
    token = jwt.encode(
        _claims(files), key.key, algorithm="ES256", headers={"kid": key_id or key.key_id}
    )
    return {**files, SIGNATURES: _document(token)}


def signed_by_public_key(files: Files, key_id: str, public_pem: str) -> Files:
    """Sign by HMAC, with the public key's text as the shared secret: the classic confusion of algorithms."""
    head = _base64(json.dumps({"alg": "HS256", "typ": "JWT", "kid": key_id}).encode())
    body = f"{head}.{_base64(json.dumps(_claims(files)).encode())}"
    mac = hmac.new(public_pem.encode(), body.encode(), hashlib.sha256).digest()
    return {**files, SIGNATURES: _document(f"{body}.{_base64(mac)}")}


def key_id_of(files: Files) -> str:
    """Return which key a bundle says that it is signed by."""
    token = json.loads(files[SIGNATURES])["signatures"][0]
    return str(jwt.get_unverified_header(token)["kid"])


def _claims(files: Files) -> dict[str, Any]:
    token = json.loads(files[SIGNATURES])["signatures"][0]
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    known = {item["name"]: item for item in claims["files"]}
    listed: list[dict[str, str]] = []
    for name in sorted(set(files) - {SIGNATURES}):
        digest = hashlib.sha256(files[name]).hexdigest()
        listed.append(known.get(name) or {"name": name, "hash": digest, "algorithm": "SHA-256"})
    return {"files": listed}


def _document(token: str) -> bytes:
    return json.dumps({"signatures": [token]}).encode()


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
