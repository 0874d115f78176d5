"""Sub-selects in expressions: EXISTS, IN, ANY, ALL, ARRAY and the scalar ones."""

from __future__ import annotations

from sluice_proxy.facts import calls, columns, joins, types
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.comparing import COMPARISONS
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.facts.scopes import Level, Query
from sluice_proxy.facts.traits import Trait, joined, leaking
from sluice_proxy.facts.tree import Node, strings, unwrap


def sublink(a: Analysis, body: Node, level: Level, test: Trait) -> Trait:
    """Read a sub-select in an expression; ``test`` is what stands in front of IN, ANY or ALL.

    Raises:
        ClientError: It is of a kind that is not known, or something in it is not harmless.
    """
    kind = body["subLinkType"]
    if kind in ("ANY_SUBLINK", "ALL_SUBLINK"):
        calls.check_operator(a, strings(body.get("operName")) or ["="])
    elif kind not in ("EXISTS_SUBLINK", "EXPR_SUBLINK", "ARRAY_SUBLINK"):
        raise not_understood(f"a sub-select of the kind {kind}")
    opening = _opening(a, body["location"], kind)
    _, select = unwrap(body["subselect"])
    query = a.query(a, select, level, end=a.tokens.close(opening), role="sublink")
    operator = (strings(body.get("operName")) or ["="])[-1]
    if kind == "ANY_SUBLINK" and a.joining and operator == "=":
        joins.check_membership(test, query)
    if kind == "ANY_SUBLINK" and query.leaky_targets and query.filtered:
        a.fences.append(query)
    outer = frozenset(query.level.outer if query.level else ())
    parts = [test, Trait(refs=outer, columns=bool(outer))]
    total = query.total and kind not in ("EXPR_SUBLINK", "ARRAY_SUBLINK")
    compared = kind == "EXISTS_SUBLINK" or _comparable(test, query)
    if total and test.value and operator in COMPARISONS and compared:
        return joined([test, Trait(kind="total", refs=outer)], kind="total")
    return leaking(parts)


def _comparable(test: Trait, query: Query) -> bool:
    """Say whether comparing a value or row with what a sub-select shows cannot raise."""
    if query.columns is None:
        return False
    shown = [columns.operand_of(query, name) for name in query.columns]
    return all(
        side.value and types.comparable([own, side])
        for own, side in zip(test.parts or (test,), shown, strict=False)
    )


def _opening(a: Analysis, offset: int, kind: str) -> int:
    tokens = a.tokens
    index = tokens.at(offset)
    if kind in ("ANY_SUBLINK", "ALL_SUBLINK") and tokens.word(index) not in ("in", "not"):
        while tokens.word(index) not in ("any", "some", "all"):
            index = tokens.close(index + 1) + 1 if tokens.raw(index + 1) == b"(" else index + 1
            if index >= a.span[1]:
                raise not_understood("a sub-select that cannot be found in the text")
    while tokens.raw(index) != b"(":
        index += 1
        if index >= a.span[1]:
            raise not_understood("a sub-select that cannot be found in the text")
    return index
