"""One pass over all profiles, and what the last whole one led to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sluice_operator.controller.trust import Trust
from sluice_operator.reconcile.activation import Failure
from sluice_operator.reconcile.census import Reach
from sluice_operator.reconcile.effective import Effective
from sluice_operator.reconcile.model import RawResource, Refused, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the last whole pass led to: what statuses tell."""

    resources: Mapping[str, RawResource]
    """By uid, as they were judged."""
    verdicts: Mapping[str, Verdict]
    effective: Effective
    reach: Mapping[str, Reach]


@dataclass(slots=True)
class Pass:
    """One pass over all profiles."""

    resources: Mapping[str, RawResource]
    trust: Trust
    effective: Effective
    serial: int
    reach: dict[str, Reach] = field(default_factory=dict[str, Reach])
    refused: dict[str, Refused] = field(default_factory=dict[str, Refused])
    """Profile → why its content was not published."""
    failing: dict[str, Failure] = field(default_factory=dict[str, Failure])
    """Profile → what its sidecars have against the present content."""
    failed: bool = False
    """Something is to be tried again."""
