"""What is told as Events: how a resource's verdict changed, denials, pods that must be started anew."""

from __future__ import annotations

from collections.abc import Mapping

from sluice_crds.base import API_VERSION
from sluice_operator.reconcile.model import Denial, EventNote, RawResource, Verdict

NOTE_CHARS_MAX = 1000
"""events.k8s.io takes 1024."""


def verdict_note(raw: RawResource, verdict: Verdict) -> EventNote:
    """Return the Event that tells how a resource was judged."""
    good = f"generation {raw.generation} is valid and published"
    note = good if verdict.sound else verdict.message
    return EventNote(
        kind=raw.kind,
        api_version=API_VERSION,
        namespace=raw.namespace,
        name=raw.name,
        uid=raw.uid,
        type="Normal" if verdict.sound else "Warning",
        reason=verdict.reason,
        note=note[:NOTE_CHARS_MAX],
        action="Compile",
    )


def older_note(raw: RawResource, count: int, example: str) -> EventNote:
    """Return the Event that tells of pods older than a classification."""
    pods = "pod is" if count == 1 else "pods are"
    return EventNote(
        kind=raw.kind,
        api_version=API_VERSION,
        namespace=raw.namespace,
        name=raw.name,
        uid=raw.uid,
        type="Warning",
        reason="PodsOlder",
        note=(
            f"{count} governed {pods} older than this classification or its present hosts and do not catch connections "
            f"to it, for example {example}; start them anew"
        )[:NOTE_CHARS_MAX],
        action="Count",
    )


def denial_note(denial: Denial, uids: Mapping[tuple[str, str], str]) -> EventNote | None:
    """Return the Event that tells of a denial, on its pod; None when the pod is gone."""
    uid = uids.get((denial.namespace, denial.pod))
    if uid is None:
        return None
    # Without a policy the message itself says that none allows it.
    by = f" (policy {denial.policy}" if denial.policy else ""
    if by:
        by += f", rule {denial.rule})" if denial.rule else ")"
    return EventNote(
        kind="Pod",
        api_version="v1",
        namespace=denial.namespace,
        name=denial.pod,
        uid=uid,
        type="Warning",
        reason="StatementDenied",
        note=f"database {denial.database}: {denial.message}{by}"[:NOTE_CHARS_MAX],
        action="Decide",
    )
