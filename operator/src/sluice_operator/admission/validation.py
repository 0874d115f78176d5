"""Both resources judged before they are stored, by the compiler's own rules. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sluice_crds import DatabaseAccessPolicy, DataClassification
from sluice_operator.admission import names
from sluice_operator.admission.advice import classification_advice, policy_advice
from sluice_operator.admission.claims import Claim, claims_of, foreign_hosts, taken_claim
from sluice_operator.admission.estate import Estate, full_name, host_names
from sluice_operator.admission.hostnames import API_SERVER, is_loopback, service_name
from sluice_operator.admission.model import Namespace
from sluice_policy import Problem, Resource
from sluice_policy.databases import judge_databases
from sluice_policy.policies import PolicyCompiler
from sluice_policy.problems import field_path
from sluice_policy.resources import Model, parse_resource


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said to whoever writes a resource."""

    errors: tuple[str, ...] = ()
    """Why it is refused, each with the path of the field; empty: it is accepted."""
    warnings: tuple[str, ...] = ()


def read_resource(raw: Mapping[str, Any], namespace: str) -> Resource | list[str]:
    """Parse a resource as the API has it; its status means nothing here."""
    fields = {key: value for key, value in raw.items() if key != "status"}
    metadata = dict(fields.get("metadata") or {})
    # Filled in by the API server, unknown before, and big.
    metadata.pop("managedFields", None)
    known = {k: v for k, v in metadata.items() if k != "selfLink"}
    parsed = parse_resource({**fields, "metadata": {**known, "namespace": namespace}})
    if isinstance(parsed, list):
        return [str(Problem(path=field_path(e.location), message=e.message)) for e in parsed]
    return Resource(model=parsed, namespace=namespace)


def judge_resource(
    new: Mapping[str, Any],
    old: Mapping[str, Any] | None,
    namespace: Namespace,
    known: Iterable[Resource],
    *,
    domain: str = "cluster.local",
) -> Verdict:
    """Judge a resource that is created or changed.

    Args:
        new: As it is to be stored.
        old: As it is stored; None when it is created.
        namespace: Of the resource.
        known: All other resources of the cluster, as far as they can be read. The present version
            of this one may be among them.
        domain: Of the cluster.
    """
    if old is not None and old.get("spec") == new.get("spec"):
        return Verdict()
    resource = read_resource(new, namespace.name)
    if isinstance(resource, list):
        return Verdict(errors=tuple(resource))
    present = list(known)
    others = [r for r in present if (r.kind, r.full_name) != (resource.kind, resource.full_name)]
    if isinstance(resource.model, DataClassification):
        before = read_resource(old, namespace.name) if old is not None else None
        was = before.model if isinstance(before, Resource) else None
        return _classification(resource, was, namespace, others, present=present, domain=domain)
    return _policy(resource, others)


def _problems(resource: Resource, everything: list[Resource]) -> list[Problem]:
    """What the compiler says of one policy."""
    _, problems = PolicyCompiler(resource, judge_databases(everything)).compile()
    return problems


def _later(problem: Problem) -> bool:
    """Whether another resource may still make it right: resources come in any order."""
    return problem.path.startswith("spec.databases.names[")


def _policy(resource: Resource, others: list[Resource]) -> Verdict:
    problems = _problems(resource, [*others, resource])
    model = resource.model
    assert isinstance(model, DatabaseAccessPolicy)  # noqa: S101
    errors = [_text(p) for p in problems if p.severity == "error" and not _later(p)]
    warnings = [_text(p) for p in problems if p.severity == "warning" or _later(p)]
    return Verdict(tuple(errors), (*warnings, *policy_advice(model)))


def _text(problem: Problem) -> str:
    return f"{problem.path}: {problem.message}" if problem.path else problem.message


def _classification(
    resource: Resource,
    was: Model | None,
    namespace: Namespace,
    others: list[Resource],
    *,
    present: list[Resource],
    domain: str,
) -> Verdict:
    model = resource.model
    assert isinstance(model, DataClassification)  # noqa: S101
    classified = [r.model for r in others if isinstance(r.model, DataClassification)]
    # Judged alone: whose claim is older is decided here by who is there, not by dates.
    alone = judge_databases([resource])[resource.full_name]
    errors = [_text(problem) for problem in alone.problems if problem.severity == "error"]
    errors += _place_errors(model, namespace, domain)
    errors += _claim_errors(model, was, classified, domain)
    if errors:
        return Verdict(tuple(errors))
    warnings = [
        *classification_advice(model, domain),
        *_shown_certificates(model, classified, domain),
        *_consequences(resource, others, present),
    ]
    return Verdict(warnings=tuple(warnings))


def _place_errors(model: DataClassification, namespace: Namespace, domain: str) -> list[str]:
    hosts = model.spec.database.hosts
    errors = [
        f"spec.database.hosts[{index}]: {host} is every pod itself, no database of the cluster; "
        "name its Service"
        for index, host in enumerate(hosts)
        if is_loopback(host)
    ]
    errors += [
        f"spec.database.hosts[{index}]: {host} is the API server; every governed pod would lose it"
        for index, host in enumerate(hosts)
        if service_name(host, namespace.name, domain) == API_SERVER
    ]
    return errors + [
        f"spec.database.hosts[{index}]: {hosts[index]} is no Service of the namespace "
        f"{namespace.name}; a namespace may classify other hosts when it is labelled "
        f'{names.MAY_CLAIM_EXTERNAL}: "true"'
        for index in foreign_hosts(model, namespace.labels, domain)
    ]


def _claim_errors(
    model: DataClassification,
    was: Model | None,
    classified: list[DataClassification],
    domain: str,
) -> list[str]:
    had: frozenset[Claim] = frozenset()
    if isinstance(was, DataClassification):
        had = claims_of(was, domain)
    taken = taken_claim(model, classified, had=had, domain=domain)
    if taken is not None:
        host, port, name = taken.claim
        message = (
            f"spec.database: the database {name} on {host}:{port} belongs to DataClassification "
            f"{full_name(taken.owner)}; one database has one DataClassification: have its owner add "
            "your namespace to spec.allowedNamespaces"
        )
        return [message]
    if claims_of(model, domain) <= had:
        return []
    # As the youngest: what was there before keeps its names.
    metadata = model.metadata.model_copy(update={"creation_timestamp": None})
    young = model.model_copy(update={"metadata": metadata})
    estate = Estate.of([*classified, young], domain=domain)
    if (overflow := estate.overflow()) is not None:
        return [f"spec.database: {overflow}: with this one no pod could be governed any more"]
    if missing := host_names(model, domain) - estate.server_of(full_name(model)).names:
        message = (
            f"spec.database.hosts: {min(missing)} and other hosts of it belong to servers that each "
            f"have a database of one name on port {model.spec.database.port}; a connection could not "
            "be told apart: name the hosts of one server only"
        )
        return [message]
    return []


def _shown_certificates(
    model: DataClassification, classified: list[DataClassification], domain: str
) -> list[str]:
    """Who else of its server has clients shown another certificate: TLS begins before a database is named."""
    reference = model.spec.database.client_tls_secret_ref
    if reference is None:
        return []
    found: list[str] = []
    for other in (
        Estate.of([*classified, model], domain=domain).server_of(full_name(model)).databases
    ):
        theirs = other.spec.database.client_tls_secret_ref
        near = other.spec.database.port == model.spec.database.port
        if theirs is not None and near and theirs.name != reference.name:
            first = min((full_name(model), reference.name), (full_name(other), theirs.name))[1]
            found.append(
                f"spec.database.clientTLSSecretRef: DataClassification {full_name(other)} of the same "
                f"server names {theirs.name}; clients are shown one certificate, that of {first} where "
                "both admit the pod: name the same Secret in both"
            )
    return found


def _consequences(resource: Resource, others: list[Resource], present: list[Resource]) -> list[str]:
    """Policies of its namespace that the change makes invalid."""
    found: list[str] = []
    for policy in others:
        if policy.namespace != resource.namespace or policy.kind == resource.kind:
            continue
        before = set(_problems(policy, present))
        after = _problems(policy, [*others, resource])
        found += [
            f"{policy.reference} becomes invalid, its last valid version stays in force: {_text(p)}"
            for p in after
            if p.severity == "error" and p not in before
        ]
    return found
