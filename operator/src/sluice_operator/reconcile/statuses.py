"""Verdicts and counts → the status of a resource: conditions with reasons that people can act on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sluice_operator.reconcile.census import Count
from sluice_operator.reconcile.model import CLASSIFICATION, RawResource, Verdict

MESSAGE_CHARS_MAX = 1024
PROBLEMS_MAX = 3

Condition = dict[str, Any]
Status = dict[str, Any]


def _compiled(verdict: Verdict, kind: str) -> Condition:
    if verdict.sound:
        what = "classification" if kind == CLASSIFICATION else "policy"
        message = f"the {what} is valid and published"
        if verdict.remarks:
            message = f"{message}; {'; '.join(sorted(verdict.remarks))}"
        return {"type": "Compiled", "status": "True", "reason": "Compiled", "message": message}
    return {
        "type": "Compiled",
        "status": "False",
        "reason": verdict.reason,
        "message": verdict.message,
    }


def _enforced(verdict: Verdict, count: Count) -> Condition:
    def made(status: str, reason: str, message: str) -> Condition:
        return {"type": "Enforced", "status": status, "reason": reason, "message": message}

    if verdict.in_force is None:
        return made("False", "NotInForce", "nothing of it is in force; see the condition Compiled")
    if count.older:
        return made(
            "False",
            "PodsOlder",
            f"{count.older} of {count.expected} governed pods are older than the classification or its present hosts "
            f"and do not catch connections to it, for example {count.older_example}; start them anew",
        )
    if count.problems:
        text = "; ".join(count.problems[:PROBLEMS_MAX])
        more = len(count.problems) - PROBLEMS_MAX
        return made("False", "SidecarProblems", f"{text}; and {more} more" if more > 0 else text)
    if count.stale:
        return made(
            "False",
            "SidecarsStale",
            f"{count.current} of {count.expected} sidecars report it to be in force{_because(count)}",
        )
    if not verdict.sound:
        return made(
            "False",
            "OlderGeneration",
            f"generation {verdict.in_force} is in force; see the condition Compiled",
        )
    if not count.expected:
        return made("Unknown", "NoSidecars", "no governed pod comes under it")
    return made("True", "InForce", f"in force in all {count.expected} sidecars")


def _because(count: Count) -> str:
    if not count.excuses:
        return ""
    more = len(count.excuses) - 1
    return f"; {count.excuses[0]}{f'; and {more} more' if more else ''}"


def _catalog_reachable(raw: RawResource, count: Count) -> Condition:
    def made(status: str, reason: str, message: str) -> Condition:
        return {"type": "CatalogReachable", "status": status, "reason": reason, "message": message}

    found = count.catalog
    if not _has_catalog_role(raw):
        return made(
            "Unknown",
            "NoCatalogRole",
            "without spec.database.catalogSecretRef nothing can be masked or filtered: such sessions are refused",
        )
    if found is None or not (found.reachable or found.unreachable):
        return made("Unknown", "NoSidecars", "no governed pod has looked at the catalog yet")
    if found.unreachable:
        total = found.reachable + found.unreachable
        return made(
            "False",
            "Unreachable",
            f"{found.unreachable} of {total} sidecars cannot rely on the catalog: {found.message}",
        )
    return made("True", "Reachable", "every sidecar that reads the catalog reaches it")


def _drifted(count: Count) -> Condition:
    def made(status: str, reason: str, message: str) -> Condition:
        return {"type": "Drifted", "status": status, "reason": reason, "message": message}

    found = count.catalog
    if found is None or found.columns is None:
        return made("Unknown", "NotCompared", "no sidecar has compared it with the catalog yet")
    if found.drift:
        text = "; ".join(found.drift[:PROBLEMS_MAX])
        more = len(found.drift) - PROBLEMS_MAX
        return made("True", "NamesMissing", f"{text}; and {more} more" if more > 0 else text)
    return made("False", "NamesFound", "every table and column that it names is there")


def _has_catalog_role(raw: RawResource) -> bool:
    spec: Any = raw.spec
    try:
        return bool(spec["database"]["catalogSecretRef"]["name"])
    except (KeyError, TypeError):
        return False


def _ready(compiled: Condition) -> Condition:
    if compiled["status"] == "True":
        return {**compiled, "type": "Ready", "reason": "Ready"}
    return {**compiled, "type": "Ready"}


def status_of(
    raw: RawResource,
    verdict: Verdict,
    count: Count,
    *,
    present: Mapping[str, Any],
    now: str,
) -> Status:
    """Return the status of a resource.

    Args:
        raw: The resource.
        verdict: How it was judged.
        count: Sidecars under it.
        present: The status that it has: an unchanged condition keeps the moment of its last transition, and columns
            that nobody counts any more stay as they were counted last.
        now: RFC 3339.
    """
    compiled = _compiled(verdict, raw.kind)
    conditions = [_ready(compiled), compiled, _enforced(verdict, count)]
    columns: Mapping[str, Any] | None = None
    if raw.kind == CLASSIFICATION:
        conditions += [_catalog_reachable(raw, count), _drifted(count)]
        columns = present.get("columns")
        if count.catalog is not None and count.catalog.columns is not None:
            classified, unreviewed = count.catalog.columns
            # Nothing is suggested yet: discovery is refused by the compiler.
            columns = {"classified": classified, "suggested": 0, "unreviewed": unreviewed}
    before: Iterable[Mapping[str, Any]] = present.get("conditions") or ()
    known = {str(one.get("type")): one for one in before}
    for one in conditions:
        old = known.get(one["type"], {})
        same = old.get("status") == one["status"] and old.get("lastTransitionTime")
        one["message"] = str(one["message"])[:MESSAGE_CHARS_MAX]
        one["lastTransitionTime"] = old["lastTransitionTime"] if same else now
        one["observedGeneration"] = raw.generation
    counted = {} if columns is None else {"columns": dict(columns)}
    return {
        **counted,
        "observedGeneration": raw.generation,
        "conditions": conditions,
        "sidecars": {
            "expected": count.expected,
            "current": count.current,
            "stale": count.stale,
        },
    }


def differs(present: Mapping[str, Any] | None, wanted: Status) -> bool:
    """Whether a status is to be written: anything but what others own in it is different."""
    if not present:
        return True
    known = {str(one.get("type")): one for one in present.get("conditions") or ()}
    if any(known.get(one["type"]) != one for one in wanted["conditions"]):
        return True
    fields = ("observedGeneration", "sidecars", "columns")
    return any(name in wanted and present.get(name) != wanted[name] for name in fields)
