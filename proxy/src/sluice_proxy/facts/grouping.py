"""GROUP BY: a primary key no longer determines the other columns once a sub-select stands in the table's place."""

from __future__ import annotations

from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.expressions import expression
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.predicates import clause_end
from sluice_proxy.facts.scopes import Level, Source
from sluice_proxy.facts.tree import Node, dictionaries, strings, unwrap


def group(a: Analysis, body: Node, level: Level) -> None:
    """Walk GROUP BY; where it names a governed table's key, the dependent columns are added to it."""
    items = body.get("groupClause", [])
    sets = False
    for item in items:
        kind, inner = unwrap(item)
        if kind == "GroupingSet":
            sets = True
            _grouping_set(a, inner, level)
        else:
            expression(a, item, level)
    if not items or sets or not a.enforcing:
        return
    for source in level.sources:
        key = source.relation.primary_key if source.relation else ()
        if source.governed is None or not key or source.target:
            continue
        grouped = {name for item in items for name in [_grouped(item, source, body)] if name}
        visible = {source.renamed.get(name, name) for name in grouped}
        if set(key) <= visible:
            _extend(a, body, source, grouped)


def _grouping_set(a: Analysis, body: Node, level: Level) -> None:
    for item in body.get("content", ()):
        kind, inner = unwrap(item)
        if kind == "GroupingSet":
            _grouping_set(a, inner, level)
        else:
            expression(a, item, level)


def _grouped(item: Node, source: Source, body: Node) -> str | None:
    kind, inner = unwrap(item)
    if kind == "A_Const" and "ival" in inner:
        position = inner["ival"].get("ival", 0)
        targets = body.get("targetList", [])
        if not 1 <= position <= len(targets):
            return None
        kind, inner = unwrap(unwrap(targets[position - 1])[1]["val"])
    if kind != "ColumnRef" or any("A_Star" in field for field in inner["fields"]):
        return None
    names = strings(inner["fields"])
    if len(names) > 1 and names[-2] not in (source.refname, source.table):
        return None
    return names[-1] if source.has(names[-1]) else None


def _extend(a: Analysis, body: Node, source: Source, grouped: set[str]) -> None:
    """Add the columns of ``source`` that the level uses outside of aggregates."""
    used: set[str] = set()
    shown = [body.get("targetList"), body.get("havingClause"), body.get("sortClause")]
    for key, node in dictionaries(shown):
        if key == "ColumnRef":
            names = strings([field for field in node["fields"] if "String" in field])
            if any("A_Star" in field for field in node["fields"]) and (
                not names or names[-1] == source.refname
            ):
                used.update(source.columns or ())
            elif (
                names
                and (len(names) == 1 or names[-2] in (source.refname, source.table))
                and source.has(names[-1])
            ):
                used.add(names[-1])
    used -= grouped
    plain = [name for name in sorted(used) if _equality(source, name)]
    for name in sorted(used - set(plain)):
        _aggregated(a, body, source, name)
    if plain:
        offset = a.offsets.first(body["groupClause"])
        if offset is not None:
            end = _list_end(a, a.tokens.at(offset))
            a.append(end, "".join(f", {quoted(source.refname)}.{quoted(name)}" for name in plain))


def _equality(source: Source, name: str) -> bool:
    column = source.column(name)
    return column is not None and column.type.has_equality


def _aggregated(a: Analysis, body: Node, source: Source, name: str) -> None:
    """A type without equality cannot be grouped by: any of the group's equal values is taken."""
    for item in body.get("targetList", ()):
        _, target = unwrap(item)
        kind, inner = unwrap(target["val"])
        if kind != "ColumnRef" or any("A_Star" in field for field in inner["fields"]):
            continue
        names = strings(inner["fields"])
        if names[-1] != name:
            continue
        start = a.tokens.at(inner["location"])
        end = a.tokens.dotted_end(start, len(names))
        label = "" if "name" in target else f" AS {quoted(name)}"
        text = f"(pg_catalog.array_agg({quoted(source.refname)}.{quoted(name)}))[1]{label}"
        a.pending[:] = [edit for edit in a.pending if not (start <= edit.start < edit.end <= end)]
        a.replace(start, end, text)


def _list_end(a: Analysis, start: int) -> int:
    """Return the token behind a comma-separated list."""
    end = clause_end(a, start)
    while end < a.span[1] and a.tokens.raw(end) == b",":
        end = clause_end(a, end + 1)
    while (
        a.tokens.raw(end) == b")"
        and a.tokens.partner[end] < start
        and _inside_group(a, a.tokens.partner[end])
    ):
        end = end + 1
        while end < a.span[1] and a.tokens.raw(end) == b",":
            end = clause_end(a, end + 1)
    return end


def _inside_group(a: Analysis, opening: int) -> bool:
    index = opening
    while a.tokens.raw(index - 1) in (b"(", b","):
        index -= 1
    return a.tokens.word(index - 1) == "by"
