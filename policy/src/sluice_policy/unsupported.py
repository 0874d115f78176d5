"""What the schema accepts and this version does not enforce: refused, never ignored."""

from __future__ import annotations

from collections.abc import Iterator

from sluice_crds import DatabaseAccessPolicy, DataClassification
from sluice_policy.problems import Problem
from sluice_policy.resources import Location, Resource


def _classification(model: DataClassification) -> Iterator[tuple[Location, str]]:
    database = model.spec.database
    if database.brokered is not None:
        yield ("spec", "database", "brokered"), "brokered credentials"
    if model.spec.discovery is not None and model.spec.discovery.mode != "off":
        yield ("spec", "discovery", "mode"), f"discovery {model.spec.discovery.mode}"
    if model.spec.audit is not None and model.spec.audit.literals:
        yield ("spec", "audit", "literals"), "recording literals"


def _policy(model: DatabaseAccessPolicy) -> Iterator[tuple[Location, str]]:
    for index, rule in enumerate(model.spec.rules or ()):
        if rule.effect == "requireApproval":
            yield ("spec", "rules", index, "effect"), "requireApproval"
        if rule.limits is not None and rule.limits.rows_per_hour is not None:
            yield ("spec", "rules", index, "limits", "rowsPerHour"), "rowsPerHour"
    oracles = model.spec.write_oracles
    if oracles is not None and oracles.key_violations_per_hour is not None:
        yield ("spec", "writeOracles", "keyViolationsPerHour"), "keyViolationsPerHour"
    if model.spec.copy_in == "unfiltered":
        yield ("spec", "copyIn"), "copyIn: unfiltered"


def unsupported(resource: Resource) -> list[Problem]:
    """One problem for each field that would have to be ignored."""
    model = resource.model
    found = _classification(model) if isinstance(model, DataClassification) else _policy(model)
    return [
        resource.problem(location, f"not supported yet: {what}; leave it out")
        for location, what in found
    ]
