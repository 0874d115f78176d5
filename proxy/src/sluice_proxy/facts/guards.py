"""Puts the row filters around what was found leaky, or a fence where they cannot be repeated."""

from __future__ import annotations

from sluice_proxy.facts.analysis import Analysis, Wrap
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.projection import filter_sql, witness
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.facts.scopes import Fences, Source
from sluice_proxy.facts.sources import fence


def settle(a: Analysis) -> None:
    """Decide for each leaky conjunct between CASE and fence, and note the edits."""
    for query in a.fences:
        fence(a, query)
    for wrap in a.wraps:
        for source in wrap.sources:
            _prepare(a, wrap, source)
    for wrap in a.wraps:
        conditions = [
            _condition(source) for source in wrap.sources if source.filtered and source.governed
        ]
        if conditions:
            a.around(wrap.start, wrap.end, f"CASE WHEN {' AND '.join(conditions)} THEN (", ") END")
    for query in a.fenced:
        a.append(query.end, " OFFSET 0")
    for start, end, added in a.wrapping:
        a.around(start, end, "(", f"\n{added}")


def _prepare(a: Analysis, wrap: Wrap, source: Source) -> None:
    if not source.filtered:
        return
    if source.members:
        for member in source.members:
            _prepare(a, wrap, member)
    elif source.query is not None:
        fence(a, source.query)
    elif _repeatable(wrap, source):
        source.guarded = True
    elif a.locking or source.target:
        raise not_understood(
            "an expression over rows that a policy filters, where the filter cannot be repeated"
        )
    else:
        source.fenced = True
        Fences.made += 1


def _repeatable(wrap: Wrap, source: Source) -> bool:
    governed = source.governed
    if governed is None or wrap.level.named(source.refname) is not source:
        return False
    if any(
        isinstance(part, str) and "select" in part.lower()
        for parts in governed.filters
        for part in parts
    ):
        return source.target
    if not source.target and any(name in governed.masks for name in governed.filter_columns):
        return False
    return not source.nullable or witness(source) is not None


def _condition(source: Source) -> str:
    governed = source.governed
    if governed is None or source.relation is None:
        raise not_understood("a filter of a relation that has none")
    visible = {old: new for new, old in source.renamed.items()}
    references = {
        column.name: f"{quoted(source.refname)}.{quoted(visible.get(column.name, column.name))}"
        for column in source.relation.columns
    }
    text = " AND ".join(filter_sql(parts, references) for parts in governed.filters)
    column = witness(source)
    if source.nullable and column is not None:
        return f"(({text}) OR {references[column]} IS NULL)"
    return f"({text})"
