"""Judging a bundle: bounds, signature, every file's digest, manifest.

Digests follow OPA's rules (documentation, "Signature Format"): structured files (``data.json``, ``.manifest``) are
hashed in canonical form, all others as they are. Where this form and OPA's could differ, the bundle is refused.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

import jwt

from sluice_proxy.bundles.model import Bundle, BundleRefusedError

ROOTS: Final = ("sluice", "sluice_data")
CONTRACT: Final = 1

BUNDLE_BYTES_MAX: Final = 32 << 20
"""Of the compressed archive: hundreds of policies make some hundred kilobytes."""
CONTENT_BYTES_MAX: Final = 256 << 20
"""Of the archive unpacked, so that a small archive cannot fill the memory."""
FILES_MAX: Final = 1000

_SIGNATURES = ".signatures.json"
_MANIFEST = ".manifest"


class _Number(str):
    """A JSON number in its own spelling: OPA hashes it as it is written."""

    __slots__ = ()


def verify_bundle(raw: bytes, *, keys: Mapping[str, str], profile: str) -> Bundle:
    """Return the bundle when all of it is signed by one of the keys and it is meant for this profile.

    Args:
        raw: Gzipped tar.
        keys: Public keys in PEM by key id: the present one and, while keys are rotated, the next.
        profile: The only profile taken.

    Raises:
        BundleRefusedError: With the reason.
    """
    files = _unpack(raw)
    _check_digests(files, _signed_digests(files, keys))
    return _read_manifest(files, raw, profile)


def _unpack(raw: bytes) -> dict[str, bytes]:
    if len(raw) > BUNDLE_BYTES_MAX:
        raise BundleRefusedError(
            f"the bundle has {len(raw)} bytes, the limit is {BUNDLE_BYTES_MAX}"
        )
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
            content = packed.read(CONTENT_BYTES_MAX + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BundleRefusedError(f"the bundle is no gzip archive: {error}") from error
    if len(content) > CONTENT_BYTES_MAX:
        raise BundleRefusedError(f"the bundle unpacks to more than {CONTENT_BYTES_MAX} bytes")
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for name, body in _members(archive):
                if name in files:
                    raise BundleRefusedError(f"the bundle holds {name} twice")
                files[name] = body
                if len(files) > FILES_MAX:
                    raise BundleRefusedError(f"the bundle holds more than {FILES_MAX} files")
    except tarfile.TarError as error:
        raise BundleRefusedError(f"the bundle is no tar archive: {error}") from error
    return files


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        name = member.name.removeprefix("./").removeprefix("/")
        if member.isdir():
            continue
        if not member.isreg() or not name or ".." in name.split("/"):
            raise BundleRefusedError(f"the bundle holds {member.name!r}, which is no plain file")
        if name.endswith("patch.json"):
            raise BundleRefusedError(
                "delta bundles are not taken: the whole policy is signed at once"
            )
        body = archive.extractfile(member)
        if body is None:
            raise BundleRefusedError(f"the bundle's {name} cannot be read")
        yield name, body.read()


def _signed_digests(files: Mapping[str, bytes], keys: Mapping[str, str]) -> dict[str, str]:
    """Return SHA-256 digests in hex by file name, as the verified token lists them."""
    if _SIGNATURES not in files:
        raise BundleRefusedError("the bundle is not signed (it has no .signatures.json)")
    document = _json_object(files[_SIGNATURES], _SIGNATURES)
    tokens = document.get("signatures")
    if not isinstance(tokens, list) or len(cast("list[Any]", tokens)) != 1:
        raise BundleRefusedError(".signatures.json must hold exactly one signature")
    token = cast("list[Any]", tokens)[0]
    if not isinstance(token, str) or document.get("plugin"):
        raise BundleRefusedError(".signatures.json must hold one JWT of OPA's default kind")
    claims = _verify_token(token, keys)
    digests: dict[str, str] = {}
    for item in cast("list[dict[str, Any]]", claims.get("files") or []):
        if item.get("algorithm") != "SHA-256":
            raise BundleRefusedError(f"{item.get('name')} is signed by another digest than SHA-256")
        digests[str(item.get("name")).lstrip("/")] = str(item.get("hash"))
    return digests


def _verify_token(token: str, keys: Mapping[str, str]) -> dict[str, Any]:
    try:
        key_id = jwt.get_unverified_header(token).get("kid")
        if not isinstance(key_id, str) or key_id not in keys:
            raise BundleRefusedError(
                f"the bundle is signed by the key {key_id!r}, which is not trusted here: "
                "keys are those of the pod's creation, so start the pod anew"
            )
        # The one algorithm is ours to choose, never the token's: HS256 with a public key as the secret is refused.
        claims = jwt.decode(
            token,
            keys[key_id],
            algorithms=["ES256"],
            options={"verify_aud": False, "verify_iat": False},
        )
    except jwt.PyJWTError as error:
        raise BundleRefusedError(f"the bundle's signature does not hold: {error}") from error
    if claims.get("scope"):
        raise BundleRefusedError(f"the bundle is signed for the scope {claims['scope']!r}")
    return claims


def _check_digests(files: Mapping[str, bytes], digests: Mapping[str, str]) -> None:
    present = set(files) - {_SIGNATURES}
    if _MANIFEST not in present:
        raise BundleRefusedError("the bundle has no .manifest")
    if unsigned := sorted(present - set(digests)):
        raise BundleRefusedError(f"the signature does not cover {', '.join(unsigned)}")
    if missing := sorted(set(digests) - present):
        raise BundleRefusedError(f"the bundle lacks {', '.join(missing)}, which is signed")
    for name in sorted(present):
        if _digest(name, files[name]) != digests[name].lower():
            raise BundleRefusedError(f"{name} is not what was signed")


def _digest(name: str, body: bytes) -> str:
    base = name.rpartition("/")[2]
    if base in {"data.yaml", "data.yml"}:
        raise BundleRefusedError(f"the bundle holds {name}: data is taken as JSON only")
    if base in {"data.json", _MANIFEST}:
        try:
            value = json.loads(body, parse_int=_Number, parse_float=_Number)
        except (ValueError, RecursionError) as error:
            raise BundleRefusedError(f"{name} is no JSON: {error}") from error
        body = _canonical(value).encode()
    return hashlib.sha256(body).hexdigest()


def _canonical(value: Any) -> str:
    """Return JSON with sorted keys and without white space, strings as Go's encoder writes them."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        items = sorted(cast("dict[str, Any]", value).items())
        return "{" + ",".join(f"{_string(key)}:{_canonical(item)}" for key, item in items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_canonical(item) for item in cast("list[Any]", value)) + "]"
    if isinstance(value, str):
        return _string(value)
    return json.dumps(value)


def _string(value: str) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _read_manifest(files: Mapping[str, bytes], raw: bytes, profile: str) -> Bundle:
    manifest = _json_object(files[_MANIFEST], _MANIFEST)
    metadata = manifest.get("metadata")
    revision = manifest.get("revision")
    if not isinstance(metadata, dict) or not isinstance(revision, str) or not revision:
        raise BundleRefusedError(".manifest lacks revision or metadata")
    fields = cast("dict[str, Any]", metadata)
    roots = manifest.get("roots")
    if not isinstance(roots, list) or sorted(cast("list[str]", roots)) != list(ROOTS):
        raise BundleRefusedError(f".manifest must own the roots {', '.join(ROOTS)} and no other")
    if fields.get("contract") != CONTRACT:
        raise BundleRefusedError(
            f"the bundle speaks contract {fields.get('contract')!r}, this sidecar speaks {CONTRACT}"
        )
    if fields.get("profile") != profile:
        raise BundleRefusedError(
            f"the bundle is for the profile {fields.get('profile')!r}, this is {profile!r}"
        )
    sequence, age = fields.get("sequence"), fields.get("max_policy_age_s")
    if not isinstance(sequence, int) or isinstance(sequence, bool) or sequence < 1:
        raise BundleRefusedError(".manifest lacks a sequence")
    if not isinstance(age, int | float) or isinstance(age, bool) or age <= 0:
        raise BundleRefusedError(".manifest lacks max_policy_age_s")
    return Bundle(
        raw=raw,
        revision=revision,
        sequence=sequence,
        profile=profile,
        issued_at=_moment(fields.get("issued_at")),
        max_policy_age_s=float(age),
        trust=fields.get("trust"),
    )


def _moment(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise BundleRefusedError(".manifest lacks issued_at (RFC 3339)") from error
    if moment.tzinfo is None:
        raise BundleRefusedError(".manifest's issued_at has no time zone")
    return moment.astimezone(UTC)


def _json_object(body: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BundleRefusedError(f"{name} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise BundleRefusedError(f"{name} is no JSON object")
    return cast("dict[str, Any]", value)
