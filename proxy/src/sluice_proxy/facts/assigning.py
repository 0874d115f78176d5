"""SET: what UPDATE, ON CONFLICT and MERGE give to columns of a row that is there."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.columns import check_field
from sluice_proxy.facts.comparing import free_literals
from sluice_proxy.facts.expressions import every, expression
from sluice_proxy.facts.newrows import Given, GivenRow, hold, outside, watched
from sluice_proxy.facts.predicates import clause_end
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.scopes import Level, Source
from sluice_proxy.facts.targets import hidden, note_row_values, note_written
from sluice_proxy.facts.tree import Node, dictionaries, strings, unwrap


def assignments(a: Analysis, items: list[Node], level: Level, target: Source, end: int) -> None:
    """Walk a SET list.

    Args:
        a: The statement.
        items: The ResTargets.
        level: Where their values look names up.
        target: The table.
        end: A token behind the list.
    """
    names: set[str] = set()
    changed: set[str] = set()
    given: list[Given] = []
    rows: list[GivenRow] = []
    for item in items:
        _, assigned = unwrap(item)
        a.visit(assigned)
        names.add(assigned["name"])
        if _keeps(a, assigned, level, target):
            a.seen.update(id(each) for _, each in dictionaries([assigned["val"]]))
            continue
        changed.add(assigned["name"])
        _steps(a, assigned, level, target)
        if _of_select(assigned["val"]):
            _note_row(a, assigned, level, rows, end)
            continue
        found = _assigned(a, assigned, level, target, end)
        if found is not None:
            given.append(found)
    note_written(a, target, names, changed=True)
    note_row_values(a, target, changed)
    hold(a, target, given, keep=True, rows=rows)


def _keeps(a: Analysis, assigned: Node, level: Level, target: Source) -> bool:
    """Say whether a column is set to itself, as ORMs do: its raw value stays, and nothing is shown of it."""
    kind, inner = unwrap(assigned["val"])
    name = assigned["name"]
    if not a.enforcing or kind != "ColumnRef" or "indirection" in assigned:
        return False
    if any("String" not in each for each in inner["fields"]) or target.column(name) is None:
        return False
    *qualifier, column = strings(inner["fields"])
    if column != name or target.governed is None:
        return False
    if not qualifier:
        return all(source is target or source.has(name) is False for source in level.sources)
    return len(qualifier) == 1 and level.own(qualifier[0]) is target


def _of_select(value: Node) -> bool:
    kind, inner = unwrap(value)
    return kind == "MultiAssignRef" and "SubLink" in inner["source"]


def _note_row(a: Analysis, assigned: Node, level: Level, rows: list[GivenRow], end: int) -> None:
    """Walk one column of ``(a, b) = (SELECT …)``; the last one closes the row."""
    _, inner = unwrap(assigned["val"])
    first, last = inner.get("colno", 1) == 1, inner.get("colno", 1) == inner["ncolumns"]
    if first:
        expression(a, inner["source"], level)
        rows.append(GivenRow())
    else:  # The tree repeats the source for each column.
        a.seen.update(id(each) for _, each in dictionaries([inner["source"]]))
    row = rows[-1]
    row.names.append(assigned["name"])
    if not last or not a.enforcing:
        return
    if not _of_width(inner["source"], len(row.names)):
        rows.pop()  # The server refuses it.
        return
    index = a.tokens.name_end(a.tokens.at(assigned["location"]))
    while index < end and a.tokens.raw(index) != b")":
        index = a.tokens.close(index) + 1 if a.tokens.raw(index) == b"[" else index + 1
    row.start = index + 2
    row.end = value_end(a, row.start, end)
    if a.tokens.raw(index + 1) != b"=" or a.tokens.raw(row.start) != b"(":
        raise not_understood("a SET clause that cannot be found in the text")


def _steps(a: Analysis, assigned: Node, level: Level, target: Source) -> None:
    """Walk what stands between a column and its ``=``: a field or an element is set, not the whole."""
    held = a.enforcing and assigned["name"] in hidden(target) | watched(target)
    for step in assigned.get("indirection", ()):
        if held:
            raise _in_part(target, assigned["name"])
        if "String" in step:
            check_field(a, strings([step])[0])
        elif "A_Indices" in step:
            parts = step["A_Indices"]
            every(a, [parts[key] for key in ("lidx", "uidx") if key in parts], level)


def _of_width(source: Node, width: int) -> bool:
    _, select = unwrap(source["SubLink"]["subselect"])
    while "larg" in select:
        select = select["larg"]
    if "valuesLists" in select:
        return len(unwrap(select["valuesLists"][0])[1].get("items", ())) == width
    items = [unwrap(item)[1]["val"] for item in select.get("targetList", ())]
    return len(items) == width or any(is_star(item) for item in items)


def is_star(item: Node) -> bool:
    """Say whether an item of a SELECT list stands for several columns."""
    kind, body = unwrap(item)
    steps = body.get("fields") or body.get("indirection") or ()
    return kind in ("ColumnRef", "A_Indirection") and bool(steps) and "A_Star" in steps[-1]


def _assigned(a: Analysis, assigned: Node, level: Level, target: Source, end: int) -> Given | None:
    """Walk one value; return it with its tokens where it must be held."""
    name, value = assigned["name"], assigned["val"]
    kind, inner = unwrap(value)
    held = a.enforcing and name in hidden(target) | watched(target)
    if kind == "MultiAssignRef":
        number = inner.get("colno", 1)
        if number == 1:
            expression(a, inner["source"], level)
        else:  # The tree repeats the source for each column.
            a.seen.update(id(each) for _, each in dictionaries([inner["source"]]))
        return _of_row(a, assigned, inner["source"], number, target) if held else None
    expression(a, value, level)
    free_literals(a, value)
    if not held:
        return None
    start = a.tokens.name_end(a.tokens.at(assigned["location"]))
    if a.tokens.raw(start) != b"=":
        raise not_understood("a SET clause that cannot be found in the text")
    return name, value, start + 1, value_end(a, start + 1, end)


def _of_row(a: Analysis, assigned: Node, source: Node, number: int, target: Source) -> Given:
    """Return one value of ``(a, b) = (…)``."""
    kind, row = unwrap(source)
    if kind != "RowExpr" or number > len(row.get("args", ())):
        raise _in_part(target, assigned["name"])
    opening = a.tokens.at(row["location"])
    if a.tokens.word(opening) == "row":
        opening += 1
    start, end = list_items(a, opening)[number - 1]
    return assigned["name"], row["args"][number - 1], start, end


def list_items(a: Analysis, opening: int) -> Sequence[tuple[int, int]]:
    """Return the token ranges of the items between brackets.

    Raises:
        ClientError: There is no bracket.
    """
    if a.tokens.raw(opening) != b"(":
        raise not_understood("a list that cannot be found in the text")
    closing = a.tokens.close(opening)
    out: list[tuple[int, int]] = []
    start = index = opening + 1
    while index < closing:
        if a.tokens.raw(index) in (b"(", b"["):
            index = a.tokens.close(index) + 1
            continue
        if a.tokens.raw(index) == b",":
            out.append((start, index))
            start = index + 1
        index += 1
    out.append((start, closing))
    return out


def value_end(a: Analysis, start: int, end: int) -> int:
    """Return the token behind a SET value: FROM ends it too, but for IS DISTINCT FROM."""
    last = min(clause_end(a, start), end)
    index = start
    while index < last:
        if a.tokens.raw(index) in (b"(", b"["):
            index = a.tokens.close(index)
        elif a.tokens.word(index) == "from" and a.tokens.word(index - 1) != "distinct":
            return index
        index += 1
    return last


def _in_part(target: Source, name: str) -> Exception:
    if name in watched(target):
        return outside(target)
    return refused(
        f'permission denied for column "{name}" of table "{target.table}"',
        detail="A masked column may be set as a whole only, by a value of its own.",
        hint="Write SET column = value.",
    )
