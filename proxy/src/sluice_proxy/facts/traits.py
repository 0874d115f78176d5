"""What is known about an expression: whether evaluating it on a hidden row could be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sluice_proxy.catalog.model import ColumnType
from sluice_proxy.facts.scopes import Source

BOOL = "pg_catalog.bool"
TEXT = "pg_catalog.text"
Kind = Literal["bare", "const", "total", "other"]
"""A column of a built-in type; a constant or parameter; total over such; anything else that is not leaky by itself."""


@dataclass(slots=True, eq=False)
class Trait:
    """Of one expression. Shared, and never changed once made; frozen ones take four times as long to make."""

    kind: Kind = "other"
    refs: frozenset[Source] = frozenset()
    leaks: frozenset[Source] = frozenset()
    """Sources whose rows reach something that can raise or act."""
    leaks_anywhere: bool = False
    """Something that can raise or act depends on no column: it runs once any row arrives."""
    barrier: bool = False
    """It holds an aggregate or a window function, so it is evaluated behind the filter."""
    type: ColumnType | None = None
    base: str | None = None
    """``schema.typname`` of its base type; None when not known, as for a parameter or a string constant."""
    collation: str | None = None
    """A string's collation where it is not the database's."""
    parts: tuple[Trait, ...] = ()
    """The fields of a row constructor."""
    weak: bool = False
    """All that it reads is masked so that different values often look alike."""
    parameter: bool = False
    """A constant that is not one before the statement runs."""
    text: str | None = None
    """A string constant's value."""
    columns: bool = False
    """Any column is read."""

    @property
    def leaky(self) -> bool:
        """True when it may not run on hidden rows."""
        return bool(self.leaks) or self.leaks_anywhere

    @property
    def value(self) -> bool:
        """True for an operand that the total operators may have."""
        return self.kind in ("bare", "const", "total")


CONSTANT = Trait(kind="const")


def joined(parts: Sequence[Trait], *, kind: Kind = "other", base: str | None = None) -> Trait:
    """Return the trait of something harmless made of ``parts``, of the type ``base``."""
    refs: list[frozenset[Source]] = []
    leaks: list[frozenset[Source]] = []
    anywhere = barrier = columns = parameter = strong = False
    collation: str | None = None
    every = True
    for part in parts:
        if part.refs:
            refs.append(part.refs)
        if part.leaks:
            leaks.append(part.leaks)
        anywhere |= part.leaks_anywhere
        barrier |= part.barrier
        parameter |= part.parameter
        if part.columns:
            columns = True
            strong |= not part.weak
        if part.collation:
            collation = part.collation
        if part.kind == "other":
            every = False
    return Trait(
        kind if every and not leaks and not anywhere else "other",
        _union(refs),
        _union(leaks),
        anywhere,
        barrier,
        base=base,
        collation=collation if base != BOOL else None,
        weak=columns and not strong and base != BOOL,
        parameter=parameter,
        columns=columns,
    )


def _union(sets: list[frozenset[Source]]) -> frozenset[Source]:
    if len(sets) > 1:
        return frozenset[Source]().union(*sets)
    return sets[0] if sets else _NONE


_NONE: frozenset[Source] = frozenset()


def leaking(parts: Sequence[Trait]) -> Trait:
    """Return the trait of something that can raise, made of ``parts``."""
    whole = joined(parts)
    whole.kind = "other"
    whole.collation = None
    whole.leaks = whole.leaks | whole.refs if whole.leaks else whole.refs
    whole.leaks_anywhere = whole.leaks_anywhere or not whole.refs
    return whole
