"""What sidecars say of the newest content: in force, or not to be activated. Pure.

Content that some OPA cannot activate is fetched for ever, and these sidecars stay under what was before. So the content
that worked goes out again; when the same sidecars fail with that one too, the new content is not to blame, and stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from sluice_operator.reconcile.census import REPORT_AGE_MAX_S
from sluice_operator.reconcile.model import FailedActivation, Report, StoredBundle

SHARE_MAX = 0.01
"""Of a profile's sidecars: more than these fail, and content is withdrawn."""
MESSAGE_CHARS_MAX = 600

Step = Literal["withdraw", "acquit", "tell"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Sidecars that cannot activate what is published for their profile."""

    step: Step
    """``withdraw``: what worked goes out again. ``acquit``: it fails as well, so the newer content goes out again.
    ``tell``: there is nothing to go back to."""
    message: str


def running(reports: Iterable[Report], stored: StoredBundle, now: float) -> int:
    """Return how many sidecars say that the stored content is in force."""
    return sum(
        count
        for report in _fresh(reports, now)
        for sequence, count in report.counts.get(stored.profile_id, {}).items()
        if sequence >= stored.since
    )


def failures(
    reports: Iterable[Report], bundles: Mapping[str, StoredBundle], now: float
) -> dict[str, Failure]:
    """Return what is to be done about each profile whose content fails in more than a hundredth of its sidecars."""
    fresh = list(_fresh(reports, now))
    failing: dict[str, list[FailedActivation]] = {}
    for report in fresh:
        for one in report.failed:
            stored = bundles.get(one.profile_id)
            if stored is not None and one.sequence >= stored.since:
                failing.setdefault(one.profile_id, []).append(one)
    found: dict[str, Failure] = {}
    for profile, many in failing.items():
        count = sum(one.count for one in many)
        total = sum(sum(report.counts.get(profile, {}).values()) for report in fresh)
        stored = bundles[profile]
        if count > SHARE_MAX * max(total, count) and stored.acquitted != stored.revision:
            found[profile] = Failure(_step(stored), _message(many, count, max(total, count)))
    return found


def _fresh(reports: Iterable[Report], now: float) -> Iterable[Report]:
    return (report for report in reports if abs(now - report.at) <= REPORT_AGE_MAX_S)


def _step(stored: StoredBundle) -> Step:
    if stored.held:
        return "acquit"
    return "withdraw" if stored.before else "tell"


def _message(many: Iterable[FailedActivation], count: int, total: int) -> str:
    example = min(many, key=lambda one: (one.namespace, one.pod))
    text = (
        f"OPA in {count} of {total} sidecars cannot activate it, for example in {example.namespace}/{example.pod}: "
        f"{example.message}"
    )
    return text[:MESSAGE_CHARS_MAX]
