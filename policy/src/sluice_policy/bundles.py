"""Compiled content → a signed OPA bundle, in OPA's own format.

Source: OPA documentation, "Bundle File Format" and "Signing".
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import jwt

from sluice_policy.compiler import CONTRACT, DATA_PATH, Compiled, canonical
from sluice_policy.keys import SigningKey

ROOTS = ("sluice", "sluice_data")
"""Only ours: a bundle that owned the empty root would remove OPA's authorization policy."""

MANIFEST_PATH = ".manifest"
SIGNATURES_PATH = ".signatures.json"


def _structure(value: object) -> str:
    """What OPA hashes of a structured file: its value as Go's encoding/json writes it."""
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        inner = (f"{_structure(key)}:{_structure(fields[key])}" for key in sorted(fields))
        return "{" + ",".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_structure(item) for item in cast("list[object]", value)) + "]"
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if isinstance(value, str):
        # Go escapes these two for the sake of JavaScript, Python does not.
        text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return text


def file_hash(path: str, data: bytes) -> str:
    """What the signature says of a file: its SHA-256 in hex, of structured files by their value."""
    if path in (DATA_PATH, MANIFEST_PATH):
        data = _structure(json.loads(data)).encode()
    return hashlib.sha256(data).hexdigest()


def _signatures(files: Mapping[str, bytes], key: SigningKey) -> bytes:
    listed = [
        {"name": path, "hash": file_hash(path, files[path]), "algorithm": "SHA-256"}
        for path in sorted(files)
    ]
    token = jwt.encode({"files": listed}, key.key, algorithm="ES256", headers={"kid": key.key_id})
    return canonical({"signatures": [token]})


def _archive(files: Mapping[str, bytes]) -> bytes:
    """A tar.gz that depends on nothing but names and content."""
    tar_bytes = io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(files):
            entry = tarfile.TarInfo(path)
            entry.size = len(files[path])
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(files[path]))
    return gzip.compress(tar_bytes.getvalue(), compresslevel=6, mtime=0)


def _issued(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("issued_at needs its time zone")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def bundle(
    compiled: Compiled,
    *,
    sequence: int,
    issued_at: datetime,
    profile_id: str,
    max_policy_age_s: int,
    key: SigningKey,
    trust: Mapping[str, Any] | None = None,
) -> bytes:
    """Pack and sign.

    Args:
        compiled: The content; its revision goes into the manifest unchanged.
        sequence: Number of the bundle, from 1, strictly increasing for each profile.
        issued_at: When it was signed, with time zone.
        profile_id: Whom it is for; a sidecar refuses another profile's.
        max_policy_age_s: Seconds after ``issued_at`` for which it may stay in force.
        key: Signs every file, the manifest included.
        trust: Whom sidecars are to trust from now on: ``{"ca_pem": …, "keys": {id: PEM}}``; None says nothing.

    Returns:
        A tar.gz; equal arguments give equal bytes but for the signature.
    """
    if sequence < 1:
        raise ValueError("sequences count from 1")
    metadata: dict[str, Any] = {
        "contract": CONTRACT,
        "profile": profile_id,
        "sequence": sequence,
        "issued_at": _issued(issued_at),
        "max_policy_age_s": max_policy_age_s,
    }
    if trust is not None:
        metadata["trust"] = dict(trust)
    manifest = {"revision": compiled.revision, "roots": list(ROOTS), "metadata": metadata}
    files = {DATA_PATH: compiled.data, MANIFEST_PATH: canonical(manifest), **compiled.modules}
    return _archive({**files, SIGNATURES_PATH: _signatures(files, key)})
