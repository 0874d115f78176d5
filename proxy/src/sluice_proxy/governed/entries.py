"""Matches the classification's entries and the row filters with names (DESIGN §4, §11.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sluice_proxy.decisions import ClassEntry, Mask, RowFilter, SessionDecision
from sluice_proxy.masks.order import REDACT, strictness

PUBLIC = "public"
UNREVIEWED = "unreviewed"


@dataclass(frozen=True, slots=True)
class Holding:
    """A column's class with the mask that holds for it there."""

    class_: str
    mask: Mask
    named: bool = False
    """An entry names this very column, without a pattern."""

    @property
    def public(self) -> bool:
        """Reviewed and harmless."""
        return self.class_ == PUBLIC


PUBLIC_HOLDING = Holding(PUBLIC, Mask("none"))


def strictest_holding(holdings: Iterable[Holding]) -> Holding:
    """Return the one with the strictest mask; classified before public, then by name."""
    return max(holdings, key=lambda h: (not h.public, strictness(h.mask), h.class_))


def is_pattern(text: str) -> bool:
    """Return whether a table or column of an entry has a wildcard."""
    return "*" in text


def compiled(pattern: str) -> re.Pattern[str]:
    """Return the pattern, in which only ``*`` is special, as a regular expression for ``fullmatch``."""
    return re.compile(".*".join(re.escape(piece) for piece in pattern.split("*")), re.DOTALL)


@dataclass(frozen=True, slots=True)
class _TableEntries:
    """The entries whose table matches one relation."""

    literal: Mapping[str, tuple[tuple[int, ClassEntry], ...]]
    patterns: tuple[tuple[int, re.Pattern[str], ClassEntry], ...]

    def matching(self, column: str) -> list[tuple[int, ClassEntry]]:
        found = list(self.literal.get(column, ()))
        found += [(rank, entry) for rank, regex, entry in self.patterns if regex.fullmatch(column)]
        return found


@dataclass(slots=True)
class Entries:
    """One decision's classification, ready for matching."""

    decision: SessionDecision
    _tables: dict[str, _TableEntries] = field(default_factory=dict[str, _TableEntries])
    _by_table: dict[str, list[ClassEntry]] = field(default_factory=dict[str, list[ClassEntry]])
    _patterns: list[tuple[re.Pattern[str], ClassEntry]] = field(
        default_factory=list[tuple[re.Pattern[str], ClassEntry]]
    )

    def __post_init__(self) -> None:
        for entry in self.decision.entries:
            if is_pattern(entry.table):
                self._patterns.append((compiled(entry.table), entry))
            else:
                self._by_table.setdefault(entry.table, []).append(entry)

    def holding(self, class_: str, *, named: bool = False) -> Holding:
        """Return the class with the mask that the decision has for it; redact when it has none."""
        if class_ == PUBLIC:
            return Holding(PUBLIC, Mask("none"), named)
        return Holding(class_, self.decision.masks.get(class_, REDACT), named)

    def match(self, qualified: str, column: str) -> Holding | None:
        """Return what the entries say of a column; None when none matches it.

        An entry without a pattern decides alone. Otherwise ``public`` gives way to every class, then the more
        specific entry wins, then the stricter mask.
        """
        found = self._table(qualified).matching(column)
        if not found:
            return None
        literal = [entry for rank, entry in found if rank == 3]
        if literal:
            return strictest_holding(self.holding(e.class_, named=True) for e in literal)
        classified = [(rank, entry) for rank, entry in found if entry.class_ != PUBLIC]
        if not classified:
            return self.holding(PUBLIC)
        best = max(rank for rank, _ in classified)
        return strictest_holding(self.holding(e.class_) for rank, e in classified if rank == best)

    def _table(self, qualified: str) -> _TableEntries:
        known = self._tables.get(qualified)
        if known is None:
            known = self._tables[qualified] = self._make(qualified)
        return known

    def _make(self, qualified: str) -> _TableEntries:
        literal: dict[str, list[tuple[int, ClassEntry]]] = {}
        patterns: list[tuple[int, re.Pattern[str], ClassEntry]] = []
        matching = [(1, entry) for entry in self._by_table.get(qualified, ())]
        matching += [(0, entry) for regex, entry in self._patterns if regex.fullmatch(qualified)]
        for table_rank, entry in matching:
            if is_pattern(entry.column):
                patterns.append((table_rank, compiled(entry.column), entry))
            else:
                literal.setdefault(entry.column, []).append((2 + table_rank, entry))
        return _TableEntries(
            {name: tuple(found) for name, found in literal.items()}, tuple(patterns)
        )


def is_exempt(row_filter: RowFilter) -> bool:
    """Return whether the policy declares that the relation filters itself (``exempt: true``)."""
    return len(row_filter.parts) == 1 and str(row_filter.parts[0]).lower() in {"(true)", "true"}


@dataclass(slots=True)
class RowFilters:
    """One decision's row filters, ready for matching."""

    decision: SessionDecision
    _compiled: list[tuple[re.Pattern[str], RowFilter]] = field(
        default_factory=list[tuple[re.Pattern[str], RowFilter]]
    )

    def __post_init__(self) -> None:
        self._compiled.extend((compiled(f.table), f) for f in self.decision.row_filters)

    def matching(self, qualified: str) -> list[RowFilter]:
        """Return the filters whose pattern matches a relation."""
        return [f for regex, f in self._compiled if regex.fullmatch(qualified)]

    @property
    def any(self) -> bool:
        """Whether any relation at all may have hidden rows."""
        return any(not is_exempt(f) for _, f in self._compiled)
