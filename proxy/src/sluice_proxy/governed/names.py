"""What a decision says of a relation by its name alone, before the catalog has it."""

from __future__ import annotations

from collections.abc import Iterable

from sluice_proxy.decisions import SessionDecision
from sluice_proxy.governed.entries import UNREVIEWED, Entries, RowFilters, is_exempt


def spoken_of(decision: SessionDecision, schema: str, name: str, columns: Iterable[str]) -> bool:
    """Return whether a class or row filter holds for a table of this name with these columns."""
    qualified = f"{schema}.{name}"
    if any(not is_exempt(each) for each in RowFilters(decision).matching(qualified)):
        return True
    entries = Entries(decision)
    for column in columns:
        held = entries.match(qualified, column)
        if held is None and decision.unreviewed_masked:
            held = entries.holding(UNREVIEWED)
        if held is not None and not held.public:
            return True
    return False
