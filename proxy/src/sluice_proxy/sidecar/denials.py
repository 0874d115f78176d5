"""What was denied since the last report, counted by reason; never a statement's text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

KEYS_MAX: Final = 1000
"""Different reasons kept between two reports; further ones are not told apart any more."""
REPORTED_MAX: Final = 32


class Denial(NamedTuple):
    """One reason."""

    database: str
    policy: str
    rule: str
    message: str

    def document(self, count: int) -> dict[str, Any]:
        """Return the entry of ``status.schema.json``."""
        return {
            "database": self.database[:320],
            "policy": self.policy[:320],
            "rule": self.rule[:256],
            "message": self.message[:512],
            "count": count,
        }


class Denials:
    """Counts until they were taken."""

    def __init__(self) -> None:
        self._counts: Counter[Denial] = Counter()

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, denial: Denial, count: int = 1) -> None:
        """Count."""
        if denial not in self._counts and len(self._counts) >= KEYS_MAX:
            denial = Denial(denial.database, "", "", "denied for further reasons")
        self._counts[denial] += count

    def add_reasons(self, database: str, reasons: Iterable[Mapping[str, Any]], text: str) -> None:
        """Count one denial: by the first reason that denies, or by what the client was told when none does."""
        given = list(reasons)
        denying = [reason for reason in given if reason.get("effect") == "deny"] or given
        reason: Mapping[str, Any] = denying[0] if denying else {}
        self.add(
            Denial(
                database,
                str(reason.get("policy") or ""),
                str(reason.get("rule") or ""),
                str(reason.get("message") or text),
            )
        )

    def take(self) -> list[tuple[Denial, int]]:
        """Return the most frequent ones and forget them; ``give_back`` when they were not taken."""
        found = self._counts.most_common(REPORTED_MAX)
        for denial, _ in found:
            del self._counts[denial]
        return found

    def give_back(self, taken: Iterable[tuple[Denial, int]]) -> None:
        """Count again what did not arrive."""
        for denial, count in taken:
            self.add(denial, count)
