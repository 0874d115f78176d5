"""Columns that may be gone when the statement runs: PostgreSQL would take something else for their names.

Of what is governed the columns are written out, and the pin holds them. Those of other tables may have changed: by the
same message, by the same transaction, by others.
"""

from __future__ import annotations

from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.facts.scopes import Level, Source
from sluice_proxy.facts.tree import Node

_ROWS = frozenset(
    ["record", "anyelement", "anynonarray", "anycompatible", "anycompatiblenonarray", '"any"']
)
"""Types of a first argument that may be any table's row."""


def keep_inside(a: Analysis, body: Node, name: str, found: list[Source], level: Level) -> None:
    """Qualify a bare name of a FROM item's column that the raw row of a target around it has, too.

    Raises:
        ClientError: It cannot be told which FROM item's column it is.
    """
    around = [
        source
        for source in a.raw_targets
        if source not in found and source.level in level.chain() and _shows(source, name)
    ]
    if not around or all(source.governed is not None for source in found):
        return
    source = found[0]
    if len(found) > 1 or not source.refname or level.named(source.refname) is not source:
        raise not_understood(f'a column reference "{name}" that may mean more than one table')
    index = a.tokens.at(body["location"])
    if not any(edit.start == index < edit.end for edit in a.pending):
        end = a.tokens.dotted_end(index, 1)
        a.replace(index, end, f"{quoted(source.refname)}.{quoted(name)}")


def _shows(target: Source, name: str) -> bool:
    """Say whether a bare name may mean something of a target's row that is hidden."""
    if target.governed is None:
        return False
    if name == target.refname or name in target.governed.masks:
        return True
    return bool(target.governed.filters) and target.has(name) is not False


def computed(a: Analysis, source: Source, name: str) -> bool:
    """Say whether a function of rows would take the place of a FROM item's column."""
    catalog, table = a.context.catalog, source.relation
    if catalog is None or name not in catalog.functions:
        return False
    rows = _ROWS if table is None else {*_ROWS, table.qualified}
    firsts = (
        function.signature.partition("(")[2].removesuffix(")").partition(",")[0]
        for function in catalog.functions[name]
        if function.extension is None
    )
    return any(first in rows for first in firsts)
