"""Who may claim which database: (host, port, name) belongs to one classification, hosts to a namespace. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sluice_crds import DataClassification
from sluice_operator.admission import names
from sluice_operator.admission.estate import full_name
from sluice_operator.admission.hostnames import is_loopback, service_name
from sluice_policy.hosts import host_forms

Claim = tuple[str, int, str]
"""Form of a host, port, name of the database."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A claim that somebody else has."""

    claim: Claim
    owner: DataClassification


def claims_of(model: DataClassification, domain: str = "cluster.local") -> frozenset[Claim]:
    """Every claim of a classification whose namespace is filled in."""
    database, namespace = model.spec.database, model.metadata.namespace or ""
    found: set[Claim] = set()
    for host in database.hosts:
        service = service_name(host, namespace, domain)
        # The policy compiler writes every Service in this domain, whatever the cluster's own is.
        forms = host_forms(host if service is None else f"{service}.svc.cluster.local", namespace)
        found |= {(form, database.port, database.name) for form in forms}
    return frozenset(found)


def taken_claim(
    model: DataClassification,
    others: Iterable[DataClassification],
    *,
    had: frozenset[Claim] = frozenset(),
    domain: str = "cluster.local",
) -> Taken | None:
    """The first new claim of ``model`` that another classification has; what it ``had`` before is not new."""
    new = claims_of(model, domain) - had
    for other in sorted(others, key=full_name):
        if full_name(other) == full_name(model):
            continue
        if both := new & claims_of(other, domain):
            return Taken(min(both), other)
    return None


def foreign_hosts(
    model: DataClassification, namespace_labels: Mapping[str, str], domain: str = "cluster.local"
) -> list[int]:
    """Indexes in ``spec.database.hosts`` of hosts that the classification's namespace may not claim.

    Its own Services (and their pods) it may; others when the namespace is labelled
    ``sluice.dev/may-claim-external: "true"``.
    """
    if namespace_labels.get(names.MAY_CLAIM_EXTERNAL) == "true":
        return []
    namespace = model.metadata.namespace or ""
    return [
        index
        for index, host in enumerate(model.spec.database.hosts)
        if not is_loopback(host) and not _own(host, namespace, domain)
    ]


def _own(host: str, namespace: str, domain: str) -> bool:
    service = service_name(host, namespace, domain)
    return service is not None and service.rpartition(".")[2] == namespace
