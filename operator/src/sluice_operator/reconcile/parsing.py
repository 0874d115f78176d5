"""Raw objects of the API server → values. What cannot be read is None, and for the caller to log."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from sluice_operator.admission import names
from sluice_operator.bundle_names import (
    ACQUITTED,
    APART,
    BEFORE,
    HELD,
    HELD_BECAUSE,
    ISSUED_AT,
    REVISION,
    SEQUENCE,
    SINCE,
    TRUST,
)
from sluice_operator.reconcile.model import (
    CatalogFinding,
    Denial,
    FailedActivation,
    GovernedPod,
    LastValid,
    RawResource,
    Report,
    SidecarProblem,
    StoredBundle,
)
from sluice_policy import Profile

LAST_VALID_KEY = "resource.json.gz"
LAST_VALID_BYTES_MAX = 8 * 2**20
"""Unpacked; etcd takes objects of 1.5 MiB."""


def raw_resource(item: Mapping[str, Any]) -> RawResource:
    """Read one of the two resources from a raw object."""
    metadata = item["metadata"]
    return RawResource(
        kind=item["kind"],
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata["uid"],
        generation=int(metadata.get("generation") or 0),
        created=metadata.get("creationTimestamp") or "",
        labels=metadata.get("labels") or {},
        spec=item.get("spec"),
    )


class PodReader:
    """Reads governed pods from their metadata; what many pods have in common is kept once."""

    def __init__(self) -> None:
        self._profiles: dict[tuple[str, str], tuple[Profile, str]] = {}
        self._databases: dict[str, Mapping[str, int]] = {}

    def read(self, item: Mapping[str, Any]) -> GovernedPod | None:
        """Return the pod; None when it was not injected, or its annotations do not agree with each other."""
        metadata = item["metadata"]
        annotations: Mapping[str, str] = metadata.get("annotations") or {}
        wanted, identity = annotations.get(names.PROFILE), annotations.get(names.IDENTITY)
        if names.INJECTED not in annotations or not wanted or not identity:
            return None
        known = self._profile(metadata.get("namespace", ""), identity)
        databases = self._known_databases(annotations.get(names.DATABASES, "{}"))
        if known is None or databases is None or known[1] != wanted:
            return None
        profile, profile_id = known
        return GovernedPod(
            namespace=profile.namespace,
            name=metadata["name"],
            uid=metadata["uid"],
            profile=profile,
            profile_id=profile_id,
            databases=databases,
            leaving=metadata.get("deletionTimestamp") is not None,
        )

    def _profile(self, namespace: str, identity: str) -> tuple[Profile, str] | None:
        known = self._profiles.get((namespace, identity))
        if known is not None:
            return known
        fields = _object(identity)
        account, labels = fields.get("serviceAccount"), fields.get("labels")
        if not isinstance(account, str) or not isinstance(labels, dict):
            return None
        pairs = cast("dict[Any, Any]", labels)
        if not all(isinstance(value, str) for value in pairs.values()):
            return None
        profile = Profile(namespace, account, cast("dict[str, str]", labels))
        known = self._profiles[namespace, identity] = profile, profile.id
        return known

    def _known_databases(self, text: str) -> Mapping[str, int] | None:
        known = self._databases.get(text)
        if known is None:
            fields = _object(text)
            if not all(isinstance(value, int) for value in fields.values()):
                return None
            known = self._databases[text] = cast("dict[str, int]", fields)
        return known


def _object(text: str) -> dict[str, Any]:
    try:
        value: Any = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def seconds_of(text: str) -> float:
    """RFC 3339 → seconds since 1970; 0 when it is not a time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def time_text(seconds: float, *, digits: int = 0) -> str:
    """Seconds since 1970 → RFC 3339 in UTC, with 0, 3 or 6 digits of the second's fraction."""
    timespec = {0: "seconds", 3: "milliseconds", 6: "microseconds"}[digits]
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec=timespec).replace("+00:00", "Z")


def stored_bundle(item: Mapping[str, Any]) -> StoredBundle | None:
    """Read what is written on a bundle's ConfigMap (its metadata are enough)."""
    metadata = item["metadata"]
    notes: Mapping[str, str] = metadata.get("annotations") or {}
    try:
        sequence = int(notes[SEQUENCE])
        return StoredBundle(
            profile_id=notes[names.PROFILE],
            name=metadata["name"],
            sequence=sequence,
            since=int(notes.get(SINCE, sequence)),
            revision=notes[REVISION],
            issued_at=seconds_of(notes[ISSUED_AT]),
            trust=notes.get(TRUST, ""),
            resource_version=metadata["resourceVersion"],
            before=notes.get(BEFORE, ""),
            apart=APART in notes,
            held=notes.get(HELD, ""),
            held_because=notes.get(HELD_BECAUSE, ""),
            acquitted=notes.get(ACQUITTED, ""),
        )
    except (KeyError, ValueError):
        return None


def report(item: Mapping[str, Any]) -> Report | None:
    """Read a replica's report; None when it has another form."""
    data: Mapping[str, str] = item.get("data") or {}
    fields = _object(data.get("report.json", ""))
    try:
        if fields["contract"] != 1:
            return None
        counts = {
            str(profile): {int(sequence): int(count) for sequence, count in by.items()}
            for profile, by in fields.get("profiles", {}).items()
        }
        problems = tuple(
            SidecarProblem(
                profile_id=str(one["profile"]),
                pod=str(one["pod"]),
                database=str(one["database"]),
                message=str(one["message"]),
                policies=tuple(str(name) for name in one.get("policies") or ()),
            )
            for one in fields.get("problems") or ()
        )
        denials = tuple(_denial(one) for one in fields.get("denials") or ())
        return Report(
            replica=item["metadata"]["name"],
            at=seconds_of(str(fields["at"])),
            counts=counts,
            problems=problems,
            denials=denials,
            failed=tuple(_failed(one) for one in fields.get("failed") or ()),
            catalogs=tuple(_catalog(one) for one in fields.get("databases") or ()),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _failed(fields: Mapping[str, Any]) -> FailedActivation:
    return FailedActivation(
        profile_id=str(fields["profile"]),
        sequence=int(fields["sequence"]),
        count=int(fields["count"]),
        namespace=str(fields["namespace"]),
        pod=str(fields["pod"]),
        message=str(fields["message"]),
    )


def _catalog(fields: Mapping[str, Any]) -> CatalogFinding:
    columns: Mapping[str, Any] = fields.get("columns") or {}
    return CatalogFinding(
        profile_id=str(fields["profile"]),
        database=str(fields["database"]),
        reachable=int(fields["reachable"]),
        unreachable=int(fields["unreachable"]),
        message=str(fields["message"]),
        sequence=int(fields["sequence"]),
        classified=int(columns["classified"]) if columns else None,
        unreviewed=int(columns.get("unreviewed", 0)),
        drift=tuple(str(text) for text in fields.get("drift") or ()),
    )


def _denial(fields: Mapping[str, Any]) -> Denial:
    return Denial(
        number=int(fields["n"]),
        namespace=str(fields["namespace"]),
        pod=str(fields["pod"]),
        database=str(fields["database"]),
        policy=str(fields["policy"]),
        rule=str(fields["rule"]),
        message=str(fields["message"]),
        count=int(fields["count"]),
    )


def pack_last_valid(last: LastValid) -> bytes:
    """A last valid generation as it is stored; equal ones give equal bytes."""
    document = {"resource": last.resource.document(), "captureGeneration": last.capture_generation}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)


def unpack_last_valid(data: bytes) -> LastValid | None:
    """Read it back; None when it cannot be read."""
    try:
        with gzip.open(io.BytesIO(data)) as stream:
            fields = _object(stream.read(LAST_VALID_BYTES_MAX).decode())
        return LastValid(
            resource=raw_resource(fields["resource"]),
            capture_generation=int(fields.get("captureGeneration") or 0),
        )
    except (OSError, EOFError, KeyError, TypeError, ValueError):
        return None
