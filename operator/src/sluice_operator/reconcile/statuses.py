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
            f"{count.current} of {count.expected} sidecars report it to be in force",
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


def _ready(compiled: Condition) -> Condition:
    if compiled["status"] == "True":
        return {**compiled, "type": "Ready", "reason": "Ready"}
    return {**compiled, "type": "Ready"}


def status_of(
    raw: RawResource,
    verdict: Verdict,
    count: Count,
    *,
    before: Iterable[Mapping[str, Any]],
    now: str,
) -> Status:
    """Return the status of a resource.

    Args:
        raw: The resource.
        verdict: How it was judged.
        count: Sidecars under it.
        before: The conditions that it has: an unchanged one keeps the moment of its last transition.
        now: RFC 3339.
    """
    compiled = _compiled(verdict, raw.kind)
    conditions = [_ready(compiled), compiled, _enforced(verdict, count)]
    known = {str(one.get("type")): one for one in before}
    for one in conditions:
        old = known.get(one["type"], {})
        same = old.get("status") == one["status"] and old.get("lastTransitionTime")
        one["message"] = str(one["message"])[:MESSAGE_CHARS_MAX]
        one["lastTransitionTime"] = old["lastTransitionTime"] if same else now
        one["observedGeneration"] = raw.generation
    return {
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
    return any(present.get(name) != wanted[name] for name in ("observedGeneration", "sidecars"))
