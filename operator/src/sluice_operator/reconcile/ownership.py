"""Which hosts a namespace may claim: its own Services, and others only with its owner's leave."""

from __future__ import annotations

from sluice_crds import DataClassification
from sluice_operator.admission import names
from sluice_operator.admission.hostnames import service_name
from sluice_policy.problems import Problem
from sluice_policy.resources import Resource


def foreign_hosts(model: DataClassification, namespace: str, domain: str) -> list[tuple[int, str]]:
    """Return index and name of the hosts that are no Services of the classification's own namespace."""
    found: list[tuple[int, str]] = []
    for index, host in enumerate(model.spec.database.hosts):
        service = service_name(host, namespace, domain)
        if service is None or service.rpartition(".")[2] != namespace:
            found.append((index, host))
    return found


def ownership_problems(resource: Resource, domain: str) -> list[Problem]:
    """Return what a namespace without the label may not claim."""
    assert isinstance(resource.model, DataClassification)  # noqa: S101
    return [
        resource.problem(
            ("spec", "database", "hosts", index),
            f"{host} is not a Service of namespace {resource.namespace}; a namespace may claim others when it is "
            f'labelled {names.MAY_CLAIM_EXTERNAL}: "true", which its administrator does',
        )
        for index, host in foreign_hosts(resource.model, resource.namespace, domain)
    ]
