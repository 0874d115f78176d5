"""From what was published, refused and withdrawn to verdicts: which resources are not in force as they stand. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sluice_operator.reconcile.census import Reach
from sluice_operator.reconcile.model import CLASSIFICATION, RawResource, Reason, Refused, Verdict

PUBLISHING = frozenset({"SmokeFailed", "TooLarge", "ActivationFailed"})
Generations = Mapping[str, int]
"""By uid."""


@dataclass(slots=True)
class Conclusions:
    """Remembers which generations each profile's content was made of."""

    _good: Generations = field(default_factory=dict[str, int])
    """When nothing was refused last."""
    _present: dict[str, Generations] = field(default_factory=dict[str, Generations])
    """Profile → what its newest content was made of."""
    _before: dict[str, Generations] = field(default_factory=dict[str, Generations])
    """Profile → what the content before it was made of."""

    def published(self, profile_id: str, resources: Mapping[str, RawResource]) -> None:
        """Take that other content than before was published for a profile."""
        known = self._present.get(profile_id)
        if known is not None:
            self._before[profile_id] = known
        self._present[profile_id] = _generations(resources)

    def unchanged(self, profiles: set[str], resources: Mapping[str, RawResource]) -> None:
        """Take that these profiles' content stayed what it was, and that there are no others."""
        generations = _generations(resources)
        self._present = {
            **{p: known for p, known in self._present.items() if p not in profiles},
            **dict.fromkeys(profiles, generations),
        }

    def forget(self, profiles: set[str]) -> None:
        """Keep only these profiles."""
        for known in (self._present, self._before):
            for profile in [one for one in known if one not in profiles]:
                del known[profile]

    def verdicts(
        self,
        resources: Mapping[str, RawResource],
        verdicts: Mapping[str, Verdict],
        reach: Mapping[str, Reach],
        *,
        refused: Mapping[str, Refused],
        held: Mapping[str, str],
    ) -> dict[str, Verdict]:
        """Return the verdicts, with what was refused before it was published and what was withdrawn after.

        Args:
            resources: By uid.
            verdicts: By uid, as the resources were judged by themselves.
            reach: By profile.
            refused: Profile → why its newest content was not published.
            held: Profile → why its newest content is not in force, a sentence without its full stop.
        """
        found = dict(verdicts)
        if not refused:
            self._good = _generations(resources)
        for profile in sorted(refused):
            why = refused[profile]
            message = (
                f"not published for {profile}: {why.message}; the bundle before it stays in force"
            )
            changed = [
                uid
                for uid in _under(resources, reach[profile])
                if self._good.get(uid) != resources[uid].generation
            ]
            _mark(found, changed, why.reason, message, self._good)
        for profile in sorted(held):
            before = self._before.get(profile, {})
            under = _under(resources, reach[profile])
            # When none of them changed, what fails is Sluice's own part: all of them are held back.
            changed = [u for u in under if before.get(u) != resources[u].generation] or under
            _mark(found, changed, "ActivationFailed", f"{profile}: {held[profile]}", before)
        return found


def _mark(
    found: dict[str, Verdict],
    uids: list[str],
    reason: Reason,
    message: str,
    in_force: Generations,
) -> None:
    for uid in uids:
        # The first reason stays: one profile is as good an example as another.
        if uid in found and found[uid].reason not in PUBLISHING:
            found[uid] = replace(
                found[uid], reason=reason, message=message, in_force=in_force.get(uid)
            )


def _under(resources: Mapping[str, RawResource], reach: Reach) -> list[str]:
    """Return the resources that a profile comes under."""
    return [
        uid
        for uid, raw in resources.items()
        if raw.full_name in (reach.databases if raw.kind == CLASSIFICATION else reach.policies)
    ]


def _generations(resources: Mapping[str, RawResource]) -> dict[str, int]:
    return {uid: raw.generation for uid, raw in resources.items()}
