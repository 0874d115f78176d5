"""Resources and a profile → the content of a bundle. Pure, and the same for every order of arguments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sluice_crds import DatabaseAccessPolicy
from sluice_policy.databases import Database, database_document, judge_databases
from sluice_policy.library import library
from sluice_policy.policies import Policy, PolicyCompiler, admits_workload, subject_document
from sluice_policy.problems import Problem
from sluice_policy.resources import Resource

CONTRACT = 1
"""Version of the documents between OPA and the brain."""

DATA_PATH = "data.json"


@dataclass(frozen=True, slots=True)
class Profile:
    """What a workload is known by; pods that share it share a bundle."""

    namespace: str
    service_account: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def id(self) -> str:
        """``namespace/service account/digest of the labels``."""
        text = json.dumps(dict(self.labels), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return f"{self.namespace}/{self.service_account}/{digest}"


@dataclass(frozen=True, slots=True)
class Compiled:
    """The content of a bundle, and all that is wrong with the resources."""

    problems: tuple[Problem, ...]
    """Of every resource, selected by the profile or not; a resource with an error is left out."""
    data: bytes
    """``data.json``, canonical."""
    revision: str
    """Content hash, hex: SHA-256 over ``sha256sum`` lines of data.json and the modules, by path."""
    modules: Mapping[str, bytes]
    """Path in the bundle → Rego text."""

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that left a resource out."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no space."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def content_revision(files: Mapping[str, bytes]) -> str:
    """The hash that names a bundle's content: ``sha256sum $(sort paths) | sha256sum``."""
    lines = "".join(f"{_digest(files[path])}  {path}\n" for path in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def _digest(data: bytes) -> str:
    # The library's modules are the same in every bundle: hashed once, not for each of many profiles.
    return _module_digests().get(data) or hashlib.sha256(data).hexdigest()


@cache
def _module_digests() -> Mapping[bytes, str]:
    return {data: hashlib.sha256(data).hexdigest() for data in library().values()}


def _distinct(resources: Iterable[Resource]) -> tuple[list[Resource], list[Problem]]:
    """One resource for each kind and name; the first by file and line stays."""
    kept: dict[tuple[str, str], Resource] = {}
    problems: list[Problem] = []
    ordered = sorted(
        resources,
        key=lambda r: (r.file or "", r.line or 0, r.kind, r.full_name, r.model.model_dump_json()),
    )
    for resource in ordered:
        key = (resource.kind, resource.full_name)
        if key in kept:
            problems.append(resource.problem((), "given twice; the first one is kept"))
        else:
            kept[key] = resource
    return list(kept.values()), problems


def _selected(
    policy: Policy, databases: Mapping[str, Database], profile: Profile
) -> dict[str, Any] | None:
    """The policy's entry for a profile; None when it can never select it."""
    reachable = [n for n in policy.databases if databases[n].admits(profile.namespace)]
    if not reachable:
        return None
    document = {**policy.document, "databases": reachable}
    subjects = policy.model.spec.subjects
    if subjects is None:
        return document
    possible = [
        subject_document(subject)
        for subject in subjects
        if admits_workload(
            subject.workload, profile.namespace, profile.service_account, profile.labels
        )
    ]
    if not possible:
        return None
    return {**document, "subjects": sorted(possible, key=repr)}


@dataclass(frozen=True, slots=True)
class Judged:
    """Resources whose every problem is known: what any number of profiles is compiled from."""

    databases: Mapping[str, Database]
    """By full name; those that are not sound are among them, and denied to everybody."""
    policies: tuple[Policy, ...]
    """Those without errors, by full name."""
    problems: tuple[Problem, ...] = ()
    """Of every resource, in reading order."""
    _documents: dict[tuple[str, bool], Mapping[str, Any]] = field(
        default_factory=dict[tuple[str, bool], Mapping[str, Any]], repr=False, compare=False
    )

    def _database(self, database: Database, namespace: str) -> Mapping[str, Any]:
        """Its entry, which is the same for all namespaces that it admits, and for all others."""
        key = (database.name, database.admits(namespace))
        if key not in self._documents:
            self._documents[key] = database_document(database, namespace)
        return self._documents[key]

    def document(self, profile: Profile, denied: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What one profile comes under, as ``data.json`` has it below ``sluice_data``.

        Databases that do not admit the profile's namespace are left out: they are refused, and what
        becomes of them is no news to this profile's sidecars.

        Args:
            profile: The workload.
            denied: Databases (full names) that are denied whatever their classification says, with
                the reason, a sentence.
        """
        selected = (_selected(policy, self.databases, profile) for policy in self.policies)
        namespace, reasons = profile.namespace, denied or {}
        databases: dict[str, Mapping[str, Any]] = {
            name: self._database(database, namespace)
            for name, database in self.databases.items()
            if name not in reasons and database.concerns(namespace)
        }
        for name, reason in reasons.items():
            database = self.databases.get(name)
            own = name.startswith(f"{namespace}/")
            if own or (database is not None and database.admits(namespace)):
                databases[name] = {"state": "denied", "reason": reason}
        return {
            "contract": CONTRACT,
            "profile": profile.id,
            "databases": databases,
            "policies": [entry for entry in selected if entry is not None],
        }

    def compile(self, profile: Profile, denied: Mapping[str, str] | None = None) -> Compiled:
        """Compile what one profile comes under; the arguments are those of ``document``."""
        return compile_document(self.document(profile, denied), self.problems)


def compile_document(document: Mapping[str, Any], problems: tuple[Problem, ...] = ()) -> Compiled:
    """The content of a bundle with a profile's document, and its revision."""
    data = canonical({"sluice_data": document})
    modules = library()
    revision = content_revision({DATA_PATH: data, **modules})
    return Compiled(problems=problems, data=data, revision=revision, modules=modules)


def judge(resources: Iterable[Resource]) -> Judged:
    """Judge resources against each other.

    A resource that is not valid is left out, with its problems, and the others still count; a
    database whose classification is not valid is denied to everybody.
    """
    distinct, problems = _distinct(resources)
    databases = judge_databases(distinct)
    for database in databases.values():
        problems += database.problems
    policies: list[Policy] = []
    for resource in sorted(distinct, key=lambda resource: resource.full_name):
        if not isinstance(resource.model, DatabaseAccessPolicy):
            continue
        policy, found = PolicyCompiler(resource, databases).compile()
        problems += found
        if policy is not None:
            policies.append(policy)
    ordered = tuple(sorted(set(problems), key=_reading_order))
    return Judged(databases, tuple(policies), ordered)


def compile_profile(resources: Iterable[Resource], profile: Profile) -> Compiled:
    """Compile what one profile comes under: ``judge`` and ``Judged.compile`` in one.

    Who calls decides whether a result with errors may come into force.
    """
    return judge(resources).compile(profile)


def _reading_order(problem: Problem) -> tuple[str, int, str, str, str]:
    return (
        problem.file or "",
        problem.line or 0,
        problem.resource,
        problem.path,
        problem.message,
    )
