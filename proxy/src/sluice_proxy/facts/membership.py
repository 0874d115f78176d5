"""Row filters that go by the rows of another table: ``column IN (SELECT key FROM schema.table WHERE …)``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from sluice_proxy.decisions import Parts
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.tree import Node, dictionaries, parse, strings, unwrap


@dataclass(frozen=True, slots=True)
class Membership:
    """One sub-select of a row filter."""

    parts: Parts
    """The filter."""
    schema: str | None
    table: str
    compared: str | None = None
    """The column that is looked for; None, as for all that follows: the filter has another form."""
    key: str | None = None
    """The column that is selected."""
    conditions: tuple[tuple[str, frozenset[str]], ...] = ()
    """All that must hold of a row of the table, in a form that can be compared, each with the columns that it reads."""
    narrowing: bool = False
    """Fewer rows of the table never show more."""


@lru_cache(maxsize=64)
def memberships(filters: tuple[Parts, ...]) -> tuple[Membership, ...]:
    """Return the sub-selects of row filters."""
    return tuple(each for parts in filters for each in _of(parts))


@lru_cache(maxsize=256)
def condition_of(parts: Parts) -> str:
    """Return a row filter in the form of ``Membership.conditions``."""
    statements = parse(f"SELECT {_text(parts)}".encode())
    _, target = unwrap(statements[0].body["targetList"][0])
    return _comparable(target["val"], None)


def _text(parts: Parts) -> str:
    return "".join(part if isinstance(part, str) else quoted(part[0]) for part in parts)


def _of(parts: Parts) -> Iterator[Membership]:
    text = _text(parts)
    if "select" not in text.lower():
        return
    for statement in parse(f"SELECT {text}".encode()):
        known: set[int] = set()
        positive = {id(node) for node in _positive(statement.body["targetList"][0])}
        for key, node in dictionaries(statement.body):
            found = _membership(parts, node, id(node) in positive) if key == "A_Expr" else None
            if found is not None:
                known.update(id(each) for _, each in dictionaries(node) if "relname" in each)
                yield found
        for _, node in dictionaries(statement.body):
            if "relname" in node and id(node) not in known:
                yield Membership(parts, node.get("schemaname"), node["relname"])


def _positive(target: Node) -> Iterator[Node]:
    """Yield the conditions of which more being true never hides a row."""
    waiting = [unwrap(target)[1]["val"]]
    while waiting:
        kind, node = unwrap(waiting.pop())
        if kind == "BoolExpr" and node["boolop"] != "NOT_EXPR":
            waiting += node["args"]
        else:
            yield node


def _membership(parts: Parts, node: Node, positive: bool) -> Membership | None:
    """Return what ``column = ANY (ARRAY (SELECT …))`` says; None for every other expression."""
    if node["kind"] != "AEXPR_OP_ANY" or strings(node["name"])[-1] != "=":
        return None
    select = node["rexpr"].get("SubLink", {}).get("subselect", {}).get("SelectStmt", {})
    compared = strings(node["lexpr"].get("ColumnRef", {}).get("fields"))
    targets, origins = select.get("targetList", []), select.get("fromClause", [])
    if len(targets) != 1 or len(origins) != 1 or not compared or "RangeVar" not in origins[0]:
        return None
    table = origins[0]["RangeVar"]
    alias = table.get("alias", {}).get("aliasname", table["relname"])
    key = strings(unwrap(targets[0])[1]["val"].get("ColumnRef", {}).get("fields"))
    fields = [strings(each["fields"]) for kind, each in dictionaries(select) if kind == "ColumnRef"]
    if len(key) != 2 or any(len(each) != 2 or each[0] != alias for each in fields):
        return None
    return Membership(
        parts,
        table.get("schemaname"),
        table["relname"],
        compared[-1],
        key[-1],
        tuple(_conditions(select.get("whereClause"), alias)),
        positive,
    )


def _conditions(where: Node | None, alias: str) -> Iterator[tuple[str, frozenset[str]]]:
    if where is None:
        return
    kind, node = unwrap(where)
    if kind == "BoolExpr" and node["boolop"] == "AND_EXPR":
        for each in node["args"]:
            yield from _conditions(each, alias)
    else:
        fields = [
            strings(each["fields"]) for key, each in dictionaries(where) if key == "ColumnRef"
        ]
        yield _comparable(where, alias), frozenset(each[-1] for each in fields)


def _comparable(tree: Any, alias: str | None) -> str:
    """Return a tree without its places in the text and the alias of its columns."""
    if isinstance(tree, list):
        return f"[{','.join(_comparable(each, alias) for each in cast('list[Any]', tree))}]"
    if not isinstance(tree, dict):
        return repr(tree)
    node = cast("Node", tree)
    if "fields" in node:
        names = strings(node["fields"])
        return repr(names[1:] if names[:1] == [alias] else names)
    items = sorted((key, value) for key, value in node.items() if key != "location")
    return f"{{{','.join(f'{key}:{_comparable(value, alias)}' for key, value in items)}}}"
