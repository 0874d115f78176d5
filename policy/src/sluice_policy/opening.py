"""A signed bundle of ours → its content again, believed only when one of the given keys signed all of it."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections.abc import Mapping
from typing import Any

import jwt

from sluice_policy.bundles import MANIFEST_PATH, SIGNATURES_PATH, file_hash
from sluice_policy.compiler import DATA_PATH, Compiled, content_revision

_UNREADABLE = (tarfile.TarError, zlib.error, OSError, EOFError)


def opened(raw: bytes, *, keys: Mapping[str, str], profile_id: str) -> Compiled:
    """Return the content of a bundle that ``bundle`` made.

    Args:
        raw: The tar.gz.
        keys: Public keys (PEM) by key id.
        profile_id: Whom it must be for.

    Raises:
        ValueError: It is none, it is somebody else's, or none of the keys signed it as it is.
    """
    try:
        files = _unpacked(raw)
        token = json.loads(files.pop(SIGNATURES_PATH))["signatures"][0]
        key = keys[jwt.get_unverified_header(token)["kid"]]
        claims: dict[str, Any] = jwt.decode(token, key, algorithms=["ES256"])
        manifest: dict[str, Any] = json.loads(files[MANIFEST_PATH])
        signed = {one["name"]: one["hash"] for one in claims["files"]}
    except (*_UNREADABLE, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the bundle cannot be opened: {type(error).__name__}") from error
    except jwt.PyJWTError as error:
        raise ValueError(f"the bundle's signature does not hold: {error}") from error
    if signed != {path: file_hash(path, data) for path, data in files.items()}:
        raise ValueError("the bundle is not what was signed")
    if manifest.get("metadata", {}).get("profile") != profile_id:
        raise ValueError("the bundle is of another profile")
    del files[MANIFEST_PATH]
    revision = content_revision(files)
    return Compiled((), files.pop(DATA_PATH), revision, files)


def signing_key_id(raw: bytes) -> str | None:
    """Return which key a bundle says that it is signed by, unchecked; None when it does not say."""
    try:
        token = json.loads(_unpacked(raw)[SIGNATURES_PATH])["signatures"][0]
        return str(jwt.get_unverified_header(token)["kid"])
    except (*_UNREADABLE, ValueError, KeyError, TypeError, jwt.PyJWTError):
        return None


def _unpacked(raw: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:gz") as archive:
        members = [(one.name, archive.extractfile(one)) for one in archive.getmembers()]
        return {name: stream.read() for name, stream in members if stream is not None}
