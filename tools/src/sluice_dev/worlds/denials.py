"""What was denied, told apart: denying is honest only where something legitimate is hardly ever among it."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from sluice_dev.worlds.statement import Statement

EXAMPLES_MAX = 3
REASONS_SHOWN = 10
_CALL = re.compile(r"permission denied for function (\S+)")
_RULE = re.compile(r"Denied by policy \S+, rule |No allow rule of policy ")
_ORACLE = re.compile(
    r"tells of hidden rows or masked values|A plan tells of|A sample tells of|violates the row filter of a policy"
    r"|may not decide what is written|show different values alike|permission denied to (set parameter|examine)"
)
"""What docs/threat-model.md says is refused: no answer to it is safe, or it would damage what stays unseen."""


class Kind(StrEnum):
    """Why a denial may be right."""

    UNSOUND = "fails without Sluice, too"
    ATTACK = "a changed attack"
    RULE = "a rule of the policy"
    ORACLE = "refused by design"
    LEGITIMATE = "legitimate"


_TELLING = re.compile(
    r"(pg_catalog\.)?(set_config|current_setting|pg_stat_\w+|pg_(current_wal|last_|control_|is_wal|notification_)\w+)"
)
"""Functions that count, that speak of the server's state, or whose computed argument would become a setting."""


def kind(statement: Statement, message: str, reason: str, *, fails_plainly: bool) -> Kind:
    """Tell what was denied.

    Args:
        statement: What was sent.
        message: What Sluice said.
        reason: The same without names, and with its detail.
        fails_plainly: Whether PostgreSQL itself, asked by the same role, answers with an error.
    """
    if fails_plainly:
        return Kind.UNSOUND
    if _RULE.search(reason):
        return Kind.RULE
    call = _CALL.match(message)
    if _ORACLE.search(reason) or (call is not None and _TELLING.fullmatch(call[1])):
        return Kind.ORACLE
    return Kind.ATTACK if statement.origin == "attacks" else Kind.LEGITIMATE


@dataclass(slots=True)
class Denials:
    """Counts of one run, with some examples of each reason."""

    kinds: collections.Counter[Kind] = field(default_factory=collections.Counter[Kind])
    origins: collections.Counter[str] = field(default_factory=collections.Counter[str])
    """By origin, those that are legitimate alone."""
    reasons: dict[Kind, collections.Counter[str]] = field(
        default_factory=lambda: {one: collections.Counter[str]() for one in Kind}
    )
    functions: collections.Counter[str] = field(default_factory=collections.Counter[str])
    """Functions that were refused in legitimate statements."""
    examples: dict[str, list[Statement]] = field(default_factory=dict[str, list[Statement]])

    def add(self, statement: Statement, reason: str, how: Kind, message: str = "") -> None:
        """Count one; ``message`` is the reason with its names."""
        self.kinds[how] += 1
        self.reasons[how][reason] += 1
        if how != Kind.LEGITIMATE:
            return
        self.origins[statement.origin] += 1
        if (call := _CALL.match(message)) is not None:
            self.functions[call[1]] += 1
        kept = self.examples.setdefault(reason, [])
        kept.append(statement)
        kept.sort(key=lambda one: sum(map(len, one.sql)))
        del kept[EXAMPLES_MAX:]

    def lines(self, sent: int) -> Iterator[str]:
        """The summary, a line each."""
        told = ", ".join(
            f"{self.kinds[one]} ({100 * self.kinds[one] / max(sent, 1):.1f} %) {one}"
            for one in Kind
        )
        yield f"denied: {told}"
        yield f"legitimate denied by origin: {dict(self.origins)}; the commonest reasons:"
        for reason, count in self.reasons[Kind.LEGITIMATE].most_common(REASONS_SHOWN):
            yield f"  {count:6} {reason}"
        yield "of all others:"
        others = sum(
            (self.reasons[one] for one in Kind if one != Kind.LEGITIMATE),
            collections.Counter[str](),
        )
        for reason, count in others.most_common(REASONS_SHOWN):
            yield f"  {count:6} {reason}"

    def told(self) -> Iterator[str]:
        """Legitimate statements that were denied: the shortest of each reason, commonest first."""
        calls = ", ".join(f"{name} {count}" for name, count in self.functions.most_common(60))
        yield f"functions: {calls}"
        for reason, count in self.reasons[Kind.LEGITIMATE].most_common():
            yield f"--- {count} {reason}"
            for one in self.examples[reason]:
                yield f"({one.origin}) " + " ;; ".join(one.sql)
