"""Values that the controller watches and wants: resources, pods, bundles, reports, verdicts, statuses, Events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sluice_crds.base import API_VERSION
from sluice_policy import Profile

CLASSIFICATION = "DataClassification"
POLICY = "DatabaseAccessPolicy"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawResource:
    """One of the two resources as the API server has it, unjudged."""

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    created: str
    """RFC 3339, as Kubernetes writes it."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    spec: Any = None
    """As it came: the schema may have changed since it was stored."""

    @property
    def full_name(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def reference(self) -> str:
        """``kind namespace/name``."""
        return f"{self.kind} {self.full_name}"

    def document(self) -> dict[str, Any]:
        """The resource as a document, without what the operator itself writes."""
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "uid": self.uid,
                "generation": self.generation,
                "creationTimestamp": self.created,
                "labels": dict(self.labels),
            },
            "spec": self.spec,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LastValid:
    """The last generation of a resource that could be in force."""

    resource: RawResource
    capture_generation: int = 0
    """Of a classification: the first generation with its present ``spec.database``. Pods that are older than it catch
    other hosts than it names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernedPod:
    """A pod that was injected, as its metadata tell. Mappings are shared by pods that have the same."""

    namespace: str
    name: str
    uid: str
    profile: Profile
    profile_id: str
    databases: Mapping[str, int]
    """Full name → generation, of the classifications that were there when it was created."""
    leaving: bool = False
    """It is being deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBundle:
    """A bundle that is published, by what is written on its ConfigMap."""

    profile_id: str
    name: str
    sequence: int
    since: int
    """First sequence with this revision."""
    revision: str
    issued_at: float
    """Seconds since 1970."""
    trust: str
    """Digest of whom it says to trust."""
    resource_version: str
    before: str = ""
    """Revision of the content that worked before, which is kept beside it; empty: none is."""
    apart: bool = False
    """That has a ConfigMap of its own."""
    held: str = ""
    """Revision of newer content that was withdrawn because sidecars could not activate it."""
    held_because: str = ""
    acquitted: str = ""
    """Revision that stays although sidecars fail with it: they fail with what worked before too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedActivation:
    """Sidecars of one profile whose OPA cannot activate a bundle."""

    profile_id: str
    sequence: int
    count: int
    namespace: str
    pod: str
    """One of them."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogFinding:
    """What sidecars of one profile say of one database's catalog."""

    profile_id: str
    database: str
    reachable: int
    unreachable: int
    message: str
    """Why it is not reachable."""
    sequence: int = 0
    """Of the policy under which columns were counted."""
    classified: int | None = None
    unreviewed: int = 0
    drift: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarProblem:
    """What a sidecar says is wrong."""

    profile_id: str
    pod: str
    """``namespace/name`` or the bare name."""
    database: str
    """Full name; empty: of the sidecar as a whole."""
    message: str
    policies: tuple[str, ...] = ()
    """Full names of those that hold there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """Statements that were denied, counted by a bundle server since it last said so."""

    number: int
    namespace: str
    pod: str
    database: str
    policy: str
    rule: str
    message: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one replica of the bundle service says."""

    replica: str
    at: float
    """Seconds since 1970."""
    counts: Mapping[str, Mapping[int, int]]
    """Profile id → sequence → sidecars that have it in force."""
    problems: tuple[SidecarProblem, ...] = ()
    denials: tuple[Denial, ...] = ()
    failed: tuple[FailedActivation, ...] = ()
    catalogs: tuple[CatalogFinding, ...] = ()


Reason = Literal[
    "Compiled", "Invalid", "Conflict", "NotOwner", "SmokeFailed", "TooLarge", "ActivationFailed"
]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a profile's content is not published."""

    reason: Literal["SmokeFailed", "TooLarge"]
    message: str
    """A sentence without its full stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How the present generation of a resource was judged, and what of the resource is in force."""

    reason: Reason
    message: str = ""
    """What is wrong; empty when nothing is."""
    in_force: int | None = None
    """Generation in force; None: nothing of it is."""
    remarks: tuple[str, ...] = ()
    """What is legal and worth knowing."""

    @property
    def sound(self) -> bool:
        """Whether the present generation is the one in force."""
        return self.reason == "Compiled"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventNote:
    """An Event to be written. Equal notes are one Event that is counted."""

    kind: str
    api_version: str
    namespace: str
    name: str
    uid: str
    type: Literal["Normal", "Warning"]
    reason: str
    note: str
    action: str = "Reconcile"
