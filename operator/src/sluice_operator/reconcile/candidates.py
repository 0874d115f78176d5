"""One resource → the versions of it that could be in force: the present one, else its last valid one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sluice_crds import DataClassification
from sluice_crds.base import API_VERSION
from sluice_operator.reconcile.model import LastValid, RawResource
from sluice_policy.problems import Problem, field_path
from sluice_policy.resources import Resource, parse_resource

PROBLEMS_MAX = 8
"""Problems that one message names; a status is read by people."""
MESSAGE_CHARS_MAX = 2048
STANDING = ("allowedNamespaces", "columns")
"""What a stand-in keeps of a classification: who is told why it is denied, and which classes are known."""


@dataclass(frozen=True, slots=True)
class Version:
    """One generation of a resource, parsed."""

    raw: RawResource
    resource: Resource
    last: bool = False
    """It is the last valid one, not the present one."""


def internal(error: Exception) -> str:
    """What is said of a resource on which the compiler fails; its text stays out of statuses."""
    return f"cannot be compiled: {type(error).__name__}; this is a bug of Sluice, please report it"


def parse(raw: RawResource) -> Resource | list[Problem]:
    """Return the resource, or what its schema has against it."""
    try:
        parsed = parse_resource(raw.document())
    except Exception as error:  # noqa: BLE001  One resource's bug is not everybody's.
        return [Problem(resource=raw.reference, message=internal(error))]
    if isinstance(parsed, list):
        return [
            Problem(resource=raw.reference, path=field_path(e.location), message=e.message)
            for e in parsed
        ]
    return Resource(parsed, raw.namespace)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A resource with its versions, best first."""

    raw: RawResource
    versions: tuple[Version, ...]
    problems: tuple[Problem, ...]
    """Of the present generation, when its schema refuses it."""
    known: LastValid | None


def candidate(raw: RawResource, known: LastValid | None) -> Candidate:
    """Parse a resource and its last valid generation, if there is another one."""
    versions: list[Version] = []
    problems: tuple[Problem, ...] = ()
    present = parse(raw)
    if isinstance(present, list):
        problems = tuple(present)
    else:
        versions.append(Version(raw, present))
    if known is not None and known.resource != raw:
        last = parse(known.resource)
        if not isinstance(last, list):
            versions.append(Version(known.resource, last, last=True))
    return Candidate(raw, tuple(versions), problems, known)


def stand_in(namespace: str, name: str, raw: RawResource | None = None) -> Resource | None:
    """Return what takes a denied classification's place: all but its hosts and what they mean.

    Policies that name it stay valid and keep what they say about other databases; nobody's claim is disputed.
    """
    labels: Mapping[str, str] = {}
    given: dict[str, Any] = {}
    if raw is not None:
        labels = raw.labels
        whole: Any = raw.spec
        if isinstance(whole, dict):
            given = {f: v for f, v in cast("dict[str, Any]", whole).items() if f in STANDING}
    # Field by field, as far as the schema takes what is there.
    for fields in (STANDING, STANDING[:1], STANDING[1:], ()):
        spec: dict[str, Any] = {
            "database": {"hosts": [f"denied-{len(name)}.invalid"], "name": name[:63]},
            **{field: given[field] for field in fields if field in given},
        }
        metadata = {"name": name, "namespace": namespace, "labels": dict(labels)}
        parsed = parse_resource(
            {
                "apiVersion": API_VERSION,
                "kind": "DataClassification",
                "metadata": metadata,
                "spec": spec,
            }
        )
        if isinstance(parsed, DataClassification):
            return Resource(parsed, namespace)
    return None


def sentence(problems: Iterable[Problem]) -> str:
    """One message of many problems; the same for every order of them."""
    texts = sorted({f"{p.path}: {p.message}" if p.path else p.message for p in problems})
    text = "; ".join(texts[:PROBLEMS_MAX])
    if len(texts) > PROBLEMS_MAX:
        text += f"; and {len(texts) - PROBLEMS_MAX} more"
    return text[:MESSAGE_CHARS_MAX]
