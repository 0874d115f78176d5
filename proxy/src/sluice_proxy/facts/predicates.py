"""WHERE, ON and HAVING: conjuncts that could leak hidden rows run only where the row filters hold (SQL.md §1)."""

from __future__ import annotations

from bisect import bisect_right

from sluice_proxy.facts.analysis import Analysis, Wrap
from sluice_proxy.facts.expressions import expression
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.facts.scopes import Level, Source
from sluice_proxy.facts.traits import Trait
from sluice_proxy.facts.tree import Node, unwrap

_STOPS = frozenset(
    [
        "group",
        "having",
        "window",
        "union",
        "intersect",
        "except",
        "order",
        "limit",
        "offset",
        "fetch",
        "for",
        "returning",
        "where",
        "on",
        "join",
        "inner",
        "cross",
        "natural",
    ]
)
_SIDES = frozenset({"left", "right", "full"})
_WRAPS_MAX = 5_000
"""Each repeats the filter: a thousand times what people write, and a fifth of a second of work."""


def condition(a: Analysis, node: Node | None, level: Level, word: str) -> bool:
    """Walk a WHERE or ON clause; return True when it is total as a whole."""
    if node is None:
        return True
    kind, body = unwrap(node)
    conjuncts = body["args"] if kind == "BoolExpr" and body["boolop"] == "AND_EXPR" else [node]
    if conjuncts != [node]:
        a.visit(body)
    joining, a.joining = a.joining, True
    traits = [expression(a, item, level) for item in conjuncts]
    a.joining = joining
    leaky = [(item, trait) for item, trait in zip(conjuncts, traits, strict=True) if trait.leaky]
    if not leaky or not a.enforcing:
        return not leaky
    affected = [(item, reached(level, trait)) for item, trait in leaky]
    if not any(found for _, found in affected):
        return False
    if len(a.wraps) + len(affected) > _WRAPS_MAX:
        raise not_understood(
            f"more than {_WRAPS_MAX} conditions that could raise, over rows that a policy filters",
            "Send several statements.",
        )
    start, end = clause(a, node, word)
    pieces = _pieces(a, start, end)
    by_piece: dict[tuple[int, int], set[Source]] = {}
    for item, found in affected:
        by_piece.setdefault(_piece_of(a, item, pieces, (start, end)), set()).update(found)
    for (first, last), found in by_piece.items():
        in_order = tuple(sorted(found, key=lambda source: source.number))
        a.wraps.append(Wrap(level, first, last, in_order))
    return False


def reached(level: Level, trait: Trait) -> set[Source]:
    """Return the sources whose hidden rows a leaky expression would meet."""
    found = {source for source in trait.leaks if source.filtered}
    if trait.leaks_anywhere:
        found |= {source for source in level.sources if source.filtered}
    return found


def having(a: Analysis, node: Node | None, level: Level) -> None:
    """Walk HAVING; PostgreSQL moves conjuncts without aggregates to WHERE, so a leaky one is given an aggregate."""
    if node is None:
        return
    trait = expression(a, node, level)
    if not a.enforcing or not trait.leaky or not any(source.filtered for source in level.sources):
        return
    start, end = clause(a, node, "having")
    a.around(start, end, "CASE WHEN pg_catalog.count(*) OPERATOR(pg_catalog.>=) 0 THEN (", ") END")


def clause(a: Analysis, node: Node, word: str) -> tuple[int, int]:
    """Return the tokens of the expression behind a keyword.

    Raises:
        ClientError: The keyword is not where the tree says.
    """
    offset = a.offsets.first(node)
    if offset is None:
        raise not_understood(f"a {word.upper()} clause that cannot be found in the text")
    start = a.tokens.at(offset)
    while a.tokens.raw(start - 1) == b"(":
        start -= 1
    if a.tokens.word(start - 1) != word:
        raise not_understood(f"a {word.upper()} clause that cannot be found in the text")
    return start, clause_end(a, start)


def clause_end(a: Analysis, start: int) -> int:
    """Return the token behind an expression that starts at ``start``."""
    tokens = a.tokens
    index, cases = start, 0
    while index < a.span[1]:
        raw = tokens.raw(index)
        if raw in (b"(", b"["):
            index = tokens.close(index) + 1
            continue
        if raw in (b")", b"]", b",", b";"):
            break
        word = tokens.word(index)
        if word == "case":
            cases += 1
        elif word == "end" and cases:
            cases -= 1
        elif not cases and (
            word in _STOPS or (word == "when" and index > start) or _joins(a, index, word)
        ):
            break
        index += 1
    return index


def _joins(a: Analysis, index: int, word: str) -> bool:
    return word in _SIDES and a.tokens.word(index + 1) in ("join", "outer")


def _pieces(a: Analysis, start: int, end: int) -> list[tuple[int, int]]:
    """Cut a clause at its top-level ANDs."""
    tokens = a.tokens
    while tokens.raw(start) == b"(" and tokens.close(start) == end - 1:
        start, end = start + 1, end - 1
    out: list[tuple[int, int]] = []
    first, index, cases, between = start, start, 0, 0
    while index < end:
        if tokens.raw(index) in (b"(", b"["):
            index = tokens.close(index) + 1
            continue
        word = tokens.word(index)
        if word == "case":
            cases += 1
        elif word == "end" and cases:
            cases -= 1
        elif not cases and word == "between":
            between += 1
        elif not cases and word == "and" and between:
            between -= 1
        elif not cases and word == "and":
            out.append((first, index))
            first = index + 1
        elif not cases and word == "or":
            return [(start, end)]
        index += 1
    out.append((first, end))
    return out


def _piece_of(
    a: Analysis, node: Node, pieces: list[tuple[int, int]], whole: tuple[int, int]
) -> tuple[int, int]:
    offset = a.offsets.first(node)
    if offset is None:
        return whole
    index = a.tokens.at(offset)
    place = bisect_right(pieces, (index, len(a.tokens))) - 1
    return pieces[place] if place >= 0 and pieces[place][0] <= index < pieces[place][1] else whole
