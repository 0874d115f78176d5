"""Equality joins of columns whose masks show different values alike: every row would meet every other (SQL.md §12)."""

from __future__ import annotations

from sluice_proxy.facts.columns import operand
from sluice_proxy.facts.refusals import refused
from sluice_proxy.facts.scopes import Derived, Query, Source
from sluice_proxy.facts.traits import Trait


def check_equality(left: Trait, right: Trait) -> None:
    """Refuse ``a.x = b.y`` between two FROM items when both masks are constant or partial.

    Raises:
        ClientError: It is one.
    """
    for pair in zip(left.parts, right.parts, strict=False):
        check_equality(*pair)
    if left.weak and right.weak and left.refs.isdisjoint(right.refs):
        raise _refused("two masked columns")


def check_using(left: list[Source], right: list[Source], names: list[str]) -> None:
    """Refuse USING over such columns."""
    for name in names:
        if all(_shown_weak(side, name) for side in (left, right)):
            raise _refused(f'masked columns "{name}"')


def check_natural(left: list[Source], right: list[Source]) -> None:
    """Refuse NATURAL joins over such columns."""
    names = {name for source in left for name in source.columns or ()}
    check_using(left, right, sorted(names & {n for source in right for n in source.columns or ()}))


def _shown_weak(side: list[Source], name: str) -> bool:
    return any(source.has(name) and operand(source, name).weak for source in side)


def check_membership(test: Trait, query: Query) -> None:
    """Refuse ``x IN (SELECT y …)`` over such columns."""
    shown = [query.derived.get(name, Derived()) for name in query.columns or ()]
    if test.weak and shown and all(each.weak for each in shown):
        raise _refused("two masked columns")


def _refused(what: str) -> Exception:
    return refused(
        f"permission denied for joining {what}",
        detail="Their masks show different values alike: rows would meet that have nothing to do with each other.",
        hint="Join by other columns, or ask the policy's owner for the mask hash, which keeps equal values equal.",
    )
