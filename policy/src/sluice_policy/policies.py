"""DatabaseAccessPolicies → their entries in ``data.json``, or problems."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sluice_crds import DatabaseAccessPolicy
from sluice_crds.hours import parse_hours
from sluice_crds.policies import Rule, Subject, When, WorkloadSelector
from sluice_policy.databases import Database
from sluice_policy.expressions import Refusal, compile_filter, compile_mask
from sluice_policy.problems import Problem
from sluice_policy.resources import Location, Resource
from sluice_policy.unsupported import unsupported

EXEMPT_PARTS: list[Any] = ["(TRUE)"]
"""What ``exempt: true`` compiles to: the policy's own filter for that view, which hides nothing."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One DatabaseAccessPolicy, compiled."""

    resource: Resource
    model: DatabaseAccessPolicy
    databases: tuple[str, ...]
    document: Mapping[str, Any]
    """Its entry in ``data.json`` but for databases and subjects, which depend on the profile."""


class PolicyCompiler:
    """Compiles one policy and collects everything that is wrong with it."""

    def __init__(self, resource: Resource, databases: Mapping[str, Database]) -> None:
        assert isinstance(resource.model, DatabaseAccessPolicy)  # noqa: S101
        self._resource = resource
        self._spec = resource.model.spec
        self._model = resource.model
        self._all = databases
        self._problems: list[Problem] = list(unsupported(resource))

    def compile(self) -> tuple[Policy | None, list[Problem]]:
        """The policy when nothing is wrong with it, and its problems."""
        selected = self._databases()
        if not selected and not self._problems:
            message = "selects no DataClassification of its namespace: it does nothing"
            self._problems.append(self._resource.problem(("spec", "databases"), message, "warning"))
        self._check_classes(selected)
        document: dict[str, Any] = {
            "name": self._resource.full_name,
            "mode": self._spec.mode,
            "rules": [rule_document(rule) for rule in self._spec.rules or ()],
            "masks": self._masks(),
            "row_filters": self._row_filters(selected),
            "guardrails": self._guardrails(),
            "write_oracles": self._write_oracles(),
        }
        if any(problem.severity == "error" for problem in self._problems):
            return None, self._problems
        names = tuple(sorted(database.name for database in selected))
        return Policy(self._resource, self._model, names, document), self._problems

    def _error(self, location: Location, message: str) -> None:
        self._problems.append(self._resource.problem(location, message))

    def _databases(self) -> list[Database]:
        """The databases that names and labels select."""
        selector = self._spec.databases
        namespace = self._resource.namespace
        own = {d.resource.name: d for d in self._all.values() if d.resource.namespace == namespace}
        if selector is None:
            return list(own.values())
        chosen = own
        if selector.names is not None:
            for index, name in enumerate(selector.names):
                if name not in own:
                    place = ("spec", "databases", "names", index)
                    self._error(place, self._unknown_database(name, own))
            chosen = {name: own[name] for name in selector.names if name in own}
        labels = (selector.match_labels or {}).items()
        return [d for d in chosen.values() if labels <= d.model.metadata.labels.items()]

    def _unknown_database(self, name: str, own: Iterable[str]) -> str:
        namespace = self._resource.namespace
        elsewhere = sorted(
            d.resource.namespace for d in self._all.values() if d.resource.name == name
        )
        if elsewhere:
            return (
                f"no valid DataClassification {name} in namespace {namespace}; there is one in "
                f"{elsewhere[0]}: a policy lives in the namespace of the database it names"
            )
        return f"no valid DataClassification {name} in namespace {namespace}" + _near(
            name, sorted(own)
        )

    def _check_classes(self, selected: list[Database]) -> None:
        sound = [database for database in selected if database.sound]
        if not sound:
            return
        known = {c for database in sound for c in database.classes}
        covering = {".".join(c.split(".")[: n + 1]) for c in known for n in range(c.count(".") + 1)}
        allowed = covering | {"*", "unreviewed"}
        named: list[tuple[Location, str]] = [
            (("spec", "masks", index, "class"), mask.class_)
            for index, mask in enumerate(self._spec.masks or ())
        ]
        for index, rule in enumerate(self._spec.rules or ()):
            named += [
                (("spec", "rules", index, "classes", place), name)
                for place, name in enumerate(rule.classes or ())
            ]
        where = ", ".join(sorted(database.name for database in sound))
        for location, name in named:
            if name not in allowed:
                self._error(
                    location,
                    f"no column of {where} has the class {name}, nor one below it"
                    + _near(name, sorted(allowed - {"*"})),
                )

    def _masks(self) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        for index, entry in enumerate(self._spec.masks or ()):
            parts = None
            if entry.mask.expression is not None:
                compiled = compile_mask(entry.mask.expression)
                if isinstance(compiled, Refusal):
                    place = ("spec", "masks", index, "mask", "expression")
                    self._error(place, compiled.message)
                    continue
                parts = compiled
            out.append({"class": entry.class_, "mask": entry.mask.contract(parts)})
        return sorted(out, key=repr)

    def _row_filters(self, selected: list[Database]) -> list[dict[str, Any]]:
        def readable(table: str) -> str | None:
            for database in selected:
                if not database.names_table(table):
                    return (
                        f"the sub-select reads {table}, of which {database.resource.reference} "
                        "has no entry: filters read tables of their own classification"
                    )
            return None

        out: list[dict[str, Any]] = []
        for index, row_filter in enumerate(self._spec.row_filters or ()):
            place = ("spec", "rowFilters", index)
            if row_filter.where is None:
                if "*" in row_filter.table:
                    self._error((*place, "table"), "exempt names one view, without *")
                out.append({"table": row_filter.table, "parts": EXEMPT_PARTS})
                continue
            compiled = compile_filter(row_filter.where, readable)
            if isinstance(compiled, Refusal):
                self._error((*place, "where"), compiled.message)
                continue
            out.append({"table": row_filter.table, "parts": compiled})
        return sorted(out, key=repr)

    def _guardrails(self) -> dict[str, Any]:
        guardrails = self._spec.guardrails
        out: dict[str, Any] = {}
        if guardrails is None:
            return out
        for name in ("unfiltered_writes", "drop", "truncate"):
            if getattr(guardrails, name) == "deny":
                out[name] = "deny"
        if guardrails.bulk_export is not None:
            out["bulk_export"] = {"rows": guardrails.bulk_export.rows}
        return out

    def _write_oracles(self) -> dict[str, str]:
        oracles = self._spec.write_oracles
        if oracles is None:
            return {}
        # Only what is spelled: what is not comes from other policies or the defaults.
        given = oracles.model_fields_set
        return {name: getattr(oracles, name) for name in ("keys", "row_values") if name in given}


def rule_document(rule: Rule) -> dict[str, Any]:
    """A rule as the Rego library reads it."""
    out: dict[str, Any] = {"name": rule.name, "effect": rule.effect}
    for name in ("actions", "tables", "classes"):
        if (values := getattr(rule, name)) is not None:
            out[name] = sorted(set(values))
    if rule.limits is not None:
        limits = {
            "rows_per_statement": rule.limits.rows_per_statement,
            "statement_seconds": rule.limits.statement_seconds,
        }
        if known := {name: value for name, value in limits.items() if value is not None}:
            out["limits"] = known
    if rule.when is not None:
        out["when"] = _when_document(rule.when)
    return out


def _when_document(when: When) -> dict[str, Any]:
    hours = parse_hours(when.hours)
    window = {
        "days": [day + 1 for day in hours.days],
        "from": hours.start_minute,
        "to": hours.end_minute,
    }
    return {"text": when.hours, "time_zone": when.time_zone, "windows": [window]}


def subject_document(subject: Subject) -> dict[str, Any]:
    """A subject as the Rego library reads it."""
    out: dict[str, Any] = {}
    if subject.workload is not None:
        out["workload"] = _lists(subject.workload, ("namespaces", "service_accounts"))
        if subject.workload.pod_labels is not None:
            out["workload"]["pod_labels"] = dict(subject.workload.pod_labels)
    if subject.actor is not None:
        out["actor"] = _lists(subject.actor, ("names", "groups", "kinds"))
    if subject.role is not None:
        out["role"] = _lists(subject.role, ("names",))
    return out


def _lists(selector: object, names: Iterable[str]) -> dict[str, Any]:
    found = {name: getattr(selector, name) for name in names}
    return {name: sorted(set(values)) for name, values in found.items() if values is not None}


def admits_workload(
    selector: WorkloadSelector | None,
    namespace: str,
    service_account: str,
    labels: Mapping[str, str],
) -> bool:
    """Whether a workload selector matches a profile."""
    if selector is None:
        return True
    if selector.namespaces is not None and namespace not in selector.namespaces:
        return False
    if selector.service_accounts is not None and service_account not in selector.service_accounts:
        return False
    return (selector.pod_labels or {}).items() <= labels.items()


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; there are {', '.join(known[:10])}" if known else "; there are none"
