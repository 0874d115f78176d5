"""DataClassifications → databases: which are sound, who owns what, what the data document says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sluice_crds import DataClassification
from sluice_policy.hosts import host_forms
from sluice_policy.problems import Problem
from sluice_policy.resources import Resource
from sluice_policy.tls import tls_contradictions
from sluice_policy.unsupported import unsupported


@dataclass(frozen=True, slots=True)
class Database:
    """One DataClassification, judged."""

    resource: Resource
    model: DataClassification
    problems: tuple[Problem, ...]
    tables: tuple[re.Pattern[str], ...] = field(repr=False)

    @property
    def name(self) -> str:
        """``namespace/name``."""
        return self.resource.full_name

    @property
    def sound(self) -> bool:
        """Whether it can be in force."""
        return not any(problem.severity == "error" for problem in self.problems)

    @property
    def classes(self) -> frozenset[str]:
        """Classes that its entries give, without public."""
        return frozenset(e.class_ for e in self.model.spec.columns or ()) - {"public"}

    def admits(self, namespace: str) -> bool:
        """Whether workloads of a namespace may come."""
        allowed = self.model.spec.allowed_namespaces or ()
        return namespace == self.resource.namespace or namespace in allowed

    def concerns(self, namespace: str) -> bool:
        """Whether bundles of a namespace speak of it; a database that a bundle does not name is refused.

        Where nobody is refused (``observe``), bundles of all namespaces say so.
        """
        observed = self.sound and self.model.spec.enforcement == "observe"
        return observed or self.admits(namespace)

    def names_table(self, table: str) -> bool:
        """Whether an entry speaks of ``schema.table``."""
        return any(pattern.fullmatch(table) for pattern in self.tables)


def pattern(text: str) -> re.Pattern[str]:
    """A pattern of a policy as a regular expression: ``*`` is any run of characters."""
    return re.compile(".*".join(re.escape(piece) for piece in text.split("*")), re.DOTALL)


def _contradictions(resource: Resource, model: DataClassification) -> list[Problem]:
    seen: dict[tuple[str, str], tuple[int, str]] = {}
    out: list[Problem] = []
    for index, entry in enumerate(model.spec.columns or ()):
        first = seen.setdefault((entry.table, entry.column), (index, entry.class_))
        if first[1] != entry.class_:
            out.append(
                resource.problem(
                    ("spec", "columns", index),
                    f"contradicts spec.columns[{first[0]}]: {entry.table} {entry.column} is "
                    f"{first[1]} there and {entry.class_} here",
                )
            )
    return out


def _seniority(resource: Resource) -> tuple[Any, ...]:
    """Orders claims: the older first, then as the files are; never by the order of the arguments."""
    created = resource.model.metadata.creation_timestamp
    place = (resource.file or "", resource.line or 0)
    return (created is None, created or "", *place, resource.namespace, resource.name)


def _claims(resource: Resource, model: DataClassification) -> Iterable[tuple[str, int, str]]:
    database = model.spec.database
    for host in database.hosts:
        for form in host_forms(host, resource.namespace):
            yield form, database.port, database.name


def _conflicts(ordered: Iterable[tuple[Resource, DataClassification]]) -> dict[str, Problem]:
    """Full name of each later claimant → its problem."""
    owners: dict[tuple[str, int, str], Resource] = {}
    out: dict[str, Problem] = {}
    for resource, model in ordered:
        claims = sorted(_claims(resource, model))
        taken = [claim for claim in claims if claim in owners]
        if not taken:
            owners.update(dict.fromkeys(claims, resource))
            continue
        owner, (host, port, name) = owners[taken[0]], taken[0]
        out[resource.full_name] = resource.problem(
            ("spec", "database"),
            f"the database {name} on {host}:{port} belongs to {owner.reference}, which is older "
            "or comes first; one database has one DataClassification",
        )
    return out


def judge_databases(resources: Iterable[Resource]) -> dict[str, Database]:
    """Judge every DataClassification; by full name, sorted."""
    pairs = [
        (resource, resource.model)
        for resource in resources
        if isinstance(resource.model, DataClassification)
    ]
    pairs.sort(key=lambda pair: _seniority(pair[0]))
    conflicts = _conflicts(pairs)
    out: dict[str, Database] = {}
    for resource, model in sorted(pairs, key=lambda pair: pair[0].full_name):
        problems = [
            *unsupported(resource),
            *tls_contradictions(resource, model),
            *_contradictions(resource, model),
        ]
        if resource.full_name in conflicts:
            problems.append(conflicts[resource.full_name])
        tables = tuple({pattern(entry.table) for entry in model.spec.columns or ()})
        out[resource.full_name] = Database(resource, model, tuple(problems), tables)
    return out


def database_document(database: Database, namespace: str) -> Mapping[str, Any]:
    """The database's entry in ``data.json``, for workloads of a namespace."""
    if not database.sound:
        return {"state": "denied", "reason": f"the {database.resource.reference} is not valid."}
    spec = database.model.spec
    allowed = database.admits(namespace)
    # Whoever is not admitted learns nothing of what is in the database.
    columns = (spec.columns or ()) if allowed else ()
    entries = {(entry.table, entry.column, entry.class_) for entry in columns}
    trusted = spec.trusted if allowed else None
    return {
        "state": "active",
        "enforcement": spec.enforcement,
        "allowed": allowed,
        "columns": [
            {"table": table, "column": column, "class": class_}
            for table, column, class_ in sorted(entries)
        ],
        "unreviewed": spec.unreviewed_columns,
        "trusted": {
            "functions": sorted(set(trusted.functions or ())) if trusted else [],
            "channels": sorted(set(trusted.channels or ())) if trusted else [],
        },
    }
