"""All resources → what is in force: the heart of the controller. Pure.

Each resource stands for itself: an invalid generation leaves the last valid one of that resource in force and touches
no other. A policy that another resource's change made invalid keeps all that still has a meaning (``pruning``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sluice_operator.reconcile.candidates import Candidate, Version, candidate, internal, sentence
from sluice_operator.reconcile.databases import Databases, judge_classifications
from sluice_operator.reconcile.model import CLASSIFICATION, LastValid, RawResource, Verdict
from sluice_operator.reconcile.pruning import prune
from sluice_policy import Judged
from sluice_policy.policies import Policy, PolicyCompiler
from sluice_policy.problems import Problem
from sluice_policy.resources import Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """What is in force, and how every resource was judged."""

    judged: Judged
    denied: Mapping[str, str]
    """Databases (full names) that are denied whatever, with the reason."""
    verdicts: Mapping[str, Verdict]
    """By uid of the resources that are there."""
    last_valid: Mapping[str, LastValid]
    """What is to be kept from now on, by uid; what is not among it has no use any more."""
    tombstones: frozenset[str]
    """Full names of deleted classifications that governed pods still name."""


def decide(
    resources: Iterable[RawResource],
    *,
    last_valid: Mapping[str, LastValid],
    named: Collection[str],
    external: Collection[str],
    domain: str = "cluster.local",
) -> Effective:
    """Decide what is in force.

    Args:
        resources: Every resource of both kinds in the cluster; their order has no influence.
        last_valid: What earlier calls gave back, by uid.
        named: Databases (full names) that governed pods were created with.
        external: Namespaces that may claim hosts which are not their own Services.
        domain: The cluster's domain.
    """
    ordered = sorted(resources, key=lambda raw: (raw.kind, raw.full_name, raw.uid))
    candidates = [candidate(raw, last_valid.get(raw.uid)) for raw in ordered]
    databases = judge_classifications(
        [one for one in candidates if one.raw.kind == CLASSIFICATION],
        named=named,
        last_valid=last_valid,
        external=external,
        domain=domain,
    )
    policies: list[Policy] = []
    verdicts, in_force = dict(databases.verdicts), dict(databases.in_force)
    denied = dict(databases.denied)
    for one in candidates:
        if one.raw.kind == CLASSIFICATION:
            continue
        chosen = _judge_policy(one, databases)
        verdicts[one.raw.uid] = chosen.verdict
        if chosen.version is not None:
            in_force[one.raw.uid] = chosen.version
        if chosen.policy is not None:
            policies.append(chosen.policy)
        for name in chosen.denied:
            denied.setdefault(name, f"the {one.raw.reference} cannot be compiled any more.")
    return Effective(
        judged=Judged(databases.judged, tuple(policies)),
        denied=denied,
        verdicts=verdicts,
        last_valid=_kept(candidates, in_force, databases, last_valid),
        tombstones=databases.tombstones,
    )


@dataclass(frozen=True, slots=True)
class _Chosen:
    verdict: Verdict
    version: Version | None = None
    policy: Policy | None = None
    denied: tuple[str, ...] = ()


def _compiled(
    resource: Resource, databases: Databases
) -> tuple[Policy | None, list[Problem], tuple[str, ...]]:
    try:
        policy, problems = PolicyCompiler(resource, databases.judged).compile()
    except Exception as error:  # noqa: BLE001  One resource's bug is not everybody's.
        policy, problems = None, [resource.problem((), internal(error))]
    errors = [problem for problem in problems if problem.severity == "error"]
    remarks = [p.message for p in problems if p.severity == "warning"]
    selected = policy.databases if policy is not None else ()
    remarks += [f"{name} is denied to everybody" for name in selected if name in databases.denied]
    return policy, errors, tuple(remarks)


def _judge_policy(one: Candidate, databases: Databases) -> _Chosen:
    raw, problems = one.raw, list(one.problems)
    for version in one.versions:
        policy, errors, remarks = _compiled(version.resource, databases)
        if policy is None:
            if not version.last:
                problems += errors
            continue
        if not version.last:
            verdict = Verdict(reason="Compiled", in_force=raw.generation, remarks=remarks)
            return _Chosen(verdict, version, policy)
        held = f"; generation {version.raw.generation} stays in force"
        return _Chosen(_invalid(problems, held, version.raw.generation), version, policy)
    if one.known is None:
        return _Chosen(_invalid(problems, "; nothing of it is in force", None))
    return _remainder(one.known.resource, databases, problems)


def _remainder(last: RawResource, databases: Databases, problems: list[Problem]) -> _Chosen:
    """What is left of a policy that was valid and is not any more, through no change of its own.

    The stored generation stays the last valid one: when what it misses comes back, all of it is in force again.
    """
    try:
        pruned = prune(last.document(), databases.judged)
    except (KeyError, TypeError, AttributeError):
        pruned, selected = None, _selected_by(last, databases)
    else:
        selected = () if pruned is None else _selected_by(last, databases)
    if pruned is not None:
        policy, errors, _ = _compiled(pruned, databases)
        if policy is not None:
            held = f"; what has a meaning of generation {last.generation} stays in force"
            return _Chosen(_invalid(problems, held, last.generation), None, policy)
        problems = problems or errors
    if not selected:
        return _Chosen(_invalid(problems, "; it selects no database", None))
    held = f"; denied to everybody until it is mended: {', '.join(selected)}"
    return _Chosen(_invalid(problems, held, None), denied=selected)


def _selected_by(raw: RawResource, databases: Databases) -> tuple[str, ...]:
    """Databases that a policy may select; all of its namespace when that cannot be told."""
    own = [d for d in databases.judged.values() if d.resource.namespace == raw.namespace]
    try:
        wanted: Any = raw.spec["databases"]["names"]
    except (KeyError, TypeError):
        return tuple(sorted(database.name for database in own))
    return tuple(sorted(d.name for d in own if d.resource.name in wanted))


def _invalid(problems: list[Problem], held: str, in_force: int | None) -> Verdict:
    return Verdict(reason="Invalid", message=sentence(problems) + held, in_force=in_force)


def _kept(
    candidates: list[Candidate],
    in_force: Mapping[str, Version],
    databases: Databases,
    last_valid: Mapping[str, LastValid],
) -> dict[str, LastValid]:
    """The last valid generations after this: the ones in force, and those that tombstones are made of."""
    kept: dict[str, LastValid] = {}
    for one in candidates:
        version = in_force.get(one.raw.uid)
        if version is None or version.last:
            # A generation that lost a conflict or its meaning is still the last one that was valid.
            if one.known is not None:
                kept[one.raw.uid] = one.known
            continue
        kept[one.raw.uid] = _last_valid(version.raw, one.known)
    for uid, last in last_valid.items():
        gone = last.resource.full_name in databases.tombstones
        if uid not in kept and gone and last.resource.kind == CLASSIFICATION:
            kept[uid] = last
    return kept


def _last_valid(raw: RawResource, known: LastValid | None) -> LastValid:
    if raw.kind != CLASSIFICATION:
        return LastValid(resource=raw)
    same = known is not None and known.resource.spec.get("database") == raw.spec.get("database")
    capture = known.capture_generation if known is not None and same else raw.generation
    return LastValid(resource=raw, capture_generation=capture)
