"""Which version of each classification is in force, and which databases are denied whatever they say."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from sluice_operator.reconcile.candidates import Candidate, Version, internal, sentence, stand_in
from sluice_operator.reconcile.model import LastValid, Verdict
from sluice_operator.reconcile.ownership import ownership_problems
from sluice_policy.databases import Database, judge_databases
from sluice_policy.problems import Problem
from sluice_policy.resources import Resource

DELETED = "its DataClassification was deleted while this pod was running; start the pod anew."


@dataclass(slots=True)
class Databases:
    """The classifications, judged."""

    judged: dict[str, Database]
    """By full name; stand-ins are among them."""
    denied: dict[str, str]
    """Full name → why nobody may come, a sentence."""
    verdicts: dict[str, Verdict]
    """By uid."""
    in_force: dict[str, Version]
    """By uid; those of which nothing is in force are not among them."""
    tombstones: frozenset[str]
    """Full names of deleted classifications that are still denied."""


@dataclass(slots=True)
class _Choice:
    candidate: Candidate
    versions: list[Version]
    """Those that are sound by themselves, best first."""
    problems: list[Problem]
    """Of the present generation."""
    reason: str = "Invalid"
    conflict: list[Problem] = field(default_factory=list[Problem])


def _errors(problems: Iterable[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity == "error"]


def _choose(candidate: Candidate, external: Collection[str], domain: str) -> _Choice:
    """Judge the versions of one classification by themselves."""
    choice = _Choice(candidate, [], list(candidate.problems))
    for version in candidate.versions:
        resource = version.resource
        foreign: list[Problem] = []
        try:
            problems = _errors(judge_databases([resource])[resource.full_name].problems)
            if resource.namespace not in external:
                foreign = ownership_problems(resource, domain)
        except Exception as error:  # noqa: BLE001  One resource's bug is not everybody's.
            problems = [resource.problem((), internal(error))]
        if not problems and not foreign:
            choice.versions.append(version)
        elif not version.last:
            choice.problems += problems + foreign
            choice.reason = "Invalid" if problems else "NotOwner"
    return choice


def _settle(choices: list[_Choice], others: list[Resource]) -> dict[str, Database]:
    """Let the older of two claims win; the later one falls back to its last valid generation, then to nothing."""
    while True:
        chosen = [choice.versions[0].resource for choice in choices if choice.versions]
        judged = judge_databases([*chosen, *others])
        losers = [
            choice
            for choice in choices
            if choice.versions and not judged[choice.candidate.raw.full_name].sound
        ]
        for choice in losers:
            problems = _errors(judged[choice.candidate.raw.full_name].problems)
            if not choice.versions[0].last:
                choice.problems += problems
                choice.reason = "Conflict"
            choice.conflict = problems
        again = [choice for choice in losers if len(choice.versions) > 1]
        if not again:
            return judged
        for choice in again:
            del choice.versions[0]


def _tombstones(
    present: Collection[str], named: Collection[str], last_valid: Mapping[str, LastValid]
) -> dict[str, LastValid | None]:
    """Deleted classifications that pods still name."""
    gone = sorted(set(named) - set(present))
    known = {
        last.resource.full_name: last
        for _, last in sorted(last_valid.items())
        if last.resource.kind == "DataClassification"
    }
    return {name: known.get(name) for name in gone}


def judge_classifications(
    candidates: Iterable[Candidate],
    *,
    named: Collection[str],
    last_valid: Mapping[str, LastValid],
    external: Collection[str],
    domain: str,
) -> Databases:
    """Decide about every classification.

    Args:
        candidates: The classifications that are there.
        named: Full names that governed pods have as their databases.
        last_valid: Last valid generations by uid, of deleted resources too.
        external: Namespaces that may claim hosts that are not their own Services.
        domain: The cluster's domain.
    """
    choices = [_choose(candidate, external, domain) for candidate in candidates]
    denied: dict[str, str] = {}
    others: list[Resource] = []
    tombs = _tombstones({c.candidate.raw.full_name for c in choices}, named, last_valid)
    for name, last in tombs.items():
        denied[name] = DELETED
        namespace, _, bare = name.partition("/")
        others += _present(stand_in(namespace, bare, last.resource if last else None))
    for choice in choices:
        if not choice.versions:
            raw = choice.candidate.raw
            denied[raw.full_name] = f"the {raw.reference} is not valid."
            others += _present(stand_in(raw.namespace, raw.name, raw))
    judged = _settle(choices, others)
    for resource in others:
        database = judged[resource.full_name]
        if not database.classes:
            # Nothing is known of what is in it: no class is unknown there.
            unsound = (resource.problem((), "is not there"),)
            judged[resource.full_name] = replace(database, problems=unsound)
    result = Databases(judged, denied, {}, {}, frozenset(tombs))
    for choice in choices:
        _conclude(choice, result)
    return result


def _present(resource: Resource | None) -> list[Resource]:
    return [] if resource is None else [resource]


def _conclude(choice: _Choice, result: Databases) -> None:
    raw = choice.candidate.raw
    version = choice.versions[0] if choice.versions else None
    if version is not None and result.judged[raw.full_name].sound:
        result.in_force[raw.uid] = version
        if not version.last:
            result.verdicts[raw.uid] = Verdict(reason="Compiled", in_force=raw.generation)
            return
        held = f"; generation {version.raw.generation} stays in force"
    else:
        version, held = None, "; the database is denied to everybody"
    reason = choice.reason if choice.reason in ("Conflict", "NotOwner") else "Invalid"
    result.verdicts[raw.uid] = Verdict(
        reason=reason,
        message=sentence(choice.problems or choice.conflict) + held,
        in_force=version.raw.generation if version else None,
    )
