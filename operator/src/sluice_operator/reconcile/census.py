"""Governed pods and reports → how many sidecars come under each resource, and how many are up to date."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from sluice_operator.reconcile.model import (
    CatalogFinding,
    GovernedPod,
    LastValid,
    Report,
    SidecarProblem,
    StoredBundle,
)

REPORT_AGE_MAX_S = 180.0
"""A report that was not renewed for so long counts for nothing."""


@dataclass(slots=True)
class Crowd:
    """Pods that nothing here tells apart: one profile, one list of databases."""

    profile_id: str
    namespace: str
    databases: Mapping[str, int]
    count: int = 0
    example: str = ""
    """Name of one of them, the first by name."""


@dataclass(slots=True)
class Reach:
    """What a profile comes under, by its present bundle."""

    policies: frozenset[str]
    """Full names."""
    databases: frozenset[str]
    """Full names of those that admit it."""


@dataclass(frozen=True, slots=True)
class CatalogState:
    """What the sidecars that read one database's catalog found, together."""

    reachable: int = 0
    unreachable: int = 0
    message: str = ""
    """Why it is not reachable, from one of them."""
    columns: tuple[int, int] | None = None
    """Classified and unreviewed ones; None: none of them has counted yet."""
    drift: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Count:
    """``status.sidecars`` of one resource, and why the stale ones are."""

    expected: int = 0
    current: int = 0
    older: int = 0
    """Pods that are older than the classification, or than its present hosts: they must be started anew."""
    older_example: str = ""
    problems: tuple[str, ...] = ()
    """What sidecars report of this resource, sorted."""
    excuses: tuple[str, ...] = ()
    """What sidecars report of themselves, sorted: why stale ones may be."""
    catalog: CatalogState | None = None
    """Of a classification: what sidecars found in its database's catalog; None: none of them looked."""

    @property
    def stale(self) -> int:
        """Expected and not current."""
        return self.expected - self.current


@dataclass(slots=True)
class Census:
    """All counts, made once for all resources."""

    crowds: list[Crowd]
    reach: Mapping[str, Reach]
    current: Mapping[str, int]
    """By profile: sidecars that report the newest content."""
    problems: tuple[SidecarProblem, ...] = ()
    catalogs: Mapping[str, CatalogState] = field(default_factory=dict[str, CatalogState])
    """By database."""
    _totals: Counter[str] = field(default_factory=Counter[str])

    def __post_init__(self) -> None:
        for crowd in self.crowds:
            self._totals[crowd.profile_id] += crowd.count

    def of_policy(self, name: str) -> Count:
        """Count the sidecars that a policy selects."""
        profiles = [p for p, reach in self.reach.items() if name in reach.policies]
        expected = sum(self._totals[p] for p in profiles)
        current = sum(min(self.current.get(p, 0), self._totals[p]) for p in profiles)
        found = {one.message for one in self.problems if name in one.policies}
        return Count(
            expected, current, problems=tuple(sorted(found)), excuses=self._excuses(set(profiles))
        )

    def of_database(self, name: str, last: LastValid | None) -> Count:
        """Count the sidecars that a classification admits."""
        expected = current = older = 0
        example = ""
        admitted = {p for p, reach in self.reach.items() if name in reach.databases}
        by_profile: Counter[str] = Counter()
        for crowd in self.crowds:
            if crowd.profile_id not in admitted:
                continue
            expected += crowd.count
            seen = crowd.databases.get(name)
            if seen is None or (last is not None and seen < last.capture_generation):
                older += crowd.count
                here = f"{crowd.namespace}/{crowd.example}"
                example = min(example, here) if example else here
            else:
                by_profile[crowd.profile_id] += crowd.count
        for profile, fitting in by_profile.items():
            current += min(self.current.get(profile, 0), fitting)
        found = {one.message for one in self.problems if one.database == name}
        return Count(
            expected,
            current,
            older,
            example,
            problems=tuple(sorted(found)),
            excuses=self._excuses(admitted),
            catalog=self.catalogs.get(name),
        )

    def _excuses(self, profiles: Collection[str]) -> tuple[str, ...]:
        found = {
            f"{one.pod}: {one.message}"
            for one in self.problems
            if not one.database and one.profile_id in profiles
        }
        return tuple(sorted(found))


def crowds_of(pods: Iterable[GovernedPod]) -> list[Crowd]:
    """Group pods; those that are being deleted do not count."""
    found: dict[tuple[str, int], Crowd] = {}
    for pod in pods:
        if pod.leaving:
            continue
        key = (pod.profile_id, id(pod.databases))
        crowd = found.get(key)
        if crowd is None:
            crowd = found[key] = Crowd(pod.profile_id, pod.namespace, pod.databases)
            crowd.example = pod.name
        crowd.count += 1
        crowd.example = min(crowd.example, pod.name)
    return list(found.values())


def census(
    pods: Iterable[GovernedPod],
    reports: Iterable[Report],
    present: Mapping[str, StoredBundle],
    reach: Mapping[str, Reach],
    now: float,
) -> Census:
    """Count everything once."""
    current: Counter[str] = Counter()
    problems: set[SidecarProblem] = set()
    catalogs: list[CatalogFinding] = []
    for report in reports:
        if abs(now - report.at) > REPORT_AGE_MAX_S:
            continue
        # A sidecar is heard about databases that admit it, and about no others.
        problems.update(
            one for one in report.problems if _heard(one.profile_id, one.database, reach)
        )
        catalogs += (one for one in report.catalogs if _heard(one.profile_id, one.database, reach))
        for profile, by_sequence in report.counts.items():
            stored = present.get(profile)
            if stored is None:
                continue
            # Signed again is not stale: any sequence with the present revision is current.
            current[profile] += sum(n for seq, n in by_sequence.items() if seq >= stored.since)
    ordered = tuple(sorted(problems, key=lambda one: (one.database, one.message, one.pod)))
    return Census(crowds_of(pods), reach, current, ordered, _together(catalogs))


def _heard(profile: str, database: str, reach: Mapping[str, Reach]) -> bool:
    return profile in reach and (not database or database in reach[profile].databases)


def _together(findings: Iterable[CatalogFinding]) -> dict[str, CatalogState]:
    """Sum up by database; columns are counted by whoever works under the newest policy."""
    by_database: dict[str, list[CatalogFinding]] = {}
    for one in findings:
        by_database.setdefault(one.database, []).append(one)
    return {name: _state(many) for name, many in by_database.items()}


def _state(many: list[CatalogFinding]) -> CatalogState:
    messages = sorted(one.message for one in many if one.unreachable and one.message)
    counted = [one for one in many if one.classified is not None]
    best = max(counted, key=lambda one: (one.sequence, one.profile_id), default=None)
    return CatalogState(
        reachable=sum(one.reachable for one in many),
        unreachable=sum(one.unreachable for one in many),
        message=messages[0] if messages else "",
        columns=None if best is None else (best.classified or 0, best.unreviewed),
        drift=() if best is None else best.drift,
    )
