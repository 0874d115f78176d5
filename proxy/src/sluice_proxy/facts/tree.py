"""PostgreSQL's parse tree as JSON, with byte offsets, and the node types that are known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pglast.parser

from sluice_proxy.facts.refusals import not_understood, syntax_error

Node = dict[str, Any]

SINCE: dict[str, int] = {
    "JsonFuncExpr": 17,
    "JsonParseExpr": 17,
    "JsonScalarExpr": 17,
    "JsonSerializeExpr": 17,
    "JsonTable": 17,
    "MergeSupportFunc": 17,
    "JsonObjectConstructor": 16,
    "JsonArrayConstructor": 16,
    "JsonArrayQueryConstructor": 16,
    "JsonObjectAgg": 16,
    "JsonArrayAgg": 16,
    "JsonIsPredicate": 16,
    "ReturningOption": 18,
}
"""Server major from which a node of the grammar exists; an older server reads the same text in another way."""


@dataclass(frozen=True, slots=True)
class RawStatement:
    """One statement of a text: its node's type and body, and the bytes it covers."""

    type: str
    body: Node
    start: int
    end: int


def parse(text: bytes) -> tuple[RawStatement, ...]:
    """Parse a whole text.

    Raises:
        ClientError: PostgreSQL's grammar does not know it (42601, as the server says).
    """
    return statements(written(text), text)


def written(text: bytes) -> str:
    """Return the tree of a whole text, as JSON.

    Raises:
        ClientError: PostgreSQL's grammar does not know it (42601, as the server says).
    """
    try:
        return pglast.parser.parse_sql_json(text.decode())
    except UnicodeDecodeError as error:
        raise not_understood("text that is not UTF-8") from error
    except pglast.parser.ParseError as error:
        raise syntax_error(str(error.args[0])) from error


def statements(document: str, text: bytes) -> tuple[RawStatement, ...]:
    """Return the statements of a text, given its tree.

    Raises:
        ClientError: They are nested too deeply.
    """
    try:
        # Making the objects of a large tree is one call, in which no other thread would run but for the hook.
        tree = json.loads(
            document, object_hook=_same if len(document) >= HOOKED_CHARACTERS_MIN else None
        )
    except RecursionError as error:
        raise not_understood("a statement nested too deeply") from error
    found: list[RawStatement] = []
    for item in tree["stmts"]:
        start = item.get("stmt_location", 0)
        length = item.get("stmt_len", 0)
        ((kind, body),) = item["stmt"].items()
        found.append(RawStatement(kind, body, start, start + length if length else len(text)))
    return tuple(found)


def _same(node: Node) -> Node:
    return node


HOOKED_CHARACTERS_MIN = 256 << 10
"""Of documents in whose making other threads get their turns, which costs a tenth."""


def dismantle(statements: Sequence[RawStatement]) -> None:
    """Take trees apart that nobody needs any more: freed as a whole, a large one keeps every other thread waiting."""
    stack: list[Any] = [statement.body for statement in statements]
    while stack:
        current = stack.pop()
        if current.__class__ is dict:
            stack.extend(current.values())
        elif current.__class__ is list:
            if len(current) <= _LONG:
                stack.extend(current)
            while current:
                current.pop()


_LONG = 64
"""What longer lists hold is small beside them, and goes item by item."""


def unwrap(node: Node) -> tuple[str, Node]:
    """Return the type and the body of a wrapped node."""
    if len(node) != 1:
        raise not_understood("a tree of an unknown form")
    ((kind, body),) = node.items()
    if body.__class__ is not dict:
        raise not_understood("a tree of an unknown form")
    return kind, body


def dictionaries(
    value: Any, *, without: frozenset[str] = frozenset()
) -> Iterator[tuple[str, Node]]:
    """Yield every dictionary below ``value`` with its key; what is inside of constants is left out.

    Args:
        value: A node or a list of nodes.
        without: Keys whose dictionaries are passed by, with all that is below them.
    """
    # The parser's own document: exact types, and more than a million of them in the longest texts.
    stack: list[Any] = [value]
    while stack:
        current = stack.pop()
        form = current.__class__
        if form is dict:
            for key, child in current.items():
                below = child.__class__
                if below is dict:
                    if key in without:
                        continue
                    yield key, child
                    if key != "A_Const":
                        stack.append(child)
                elif below is list:
                    stack.append(child)
        elif form is list:
            stack.extend(current)


class Offsets:
    """Lowest byte offsets below nodes; what was asked for once is not walked again from the nodes around it."""

    def __init__(self) -> None:
        self._known: dict[int, int | None] = {}

    def first(self, value: Any) -> int | None:
        """Return the lowest byte offset that any node below ``value`` carries."""
        lowest: int | None = None
        stack: list[Any] = [value]
        while stack:
            current = stack.pop()
            if current.__class__ is list:
                stack.extend(current)
                continue
            if id(current) in self._known:
                known = self._known[id(current)]
                lowest = min((each for each in (lowest, known) if each is not None), default=None)
                continue
            for key, child in current.items():
                below = child.__class__
                if below is list and key == "valuesLists":
                    # Rows stand in the order of the text, and may be many.
                    row = (found for item in child if (found := self.first(item)) is not None)
                    first = next(row, None)
                    lowest = min(
                        (each for each in (lowest, first) if each is not None), default=None
                    )
                elif below is dict or (below is list and key not in _NAMES):
                    stack.append(child)
                elif key in _OFFSETS and below is int and child >= 0:
                    lowest = child if lowest is None else min(lowest, child)
        if isinstance(value, dict):
            self._known[id(cast("Node", value))] = lowest
        return lowest


_OFFSETS = frozenset({"location", "rexpr_list_start"})
_NAMES = frozenset({"fields", "funcname", "names", "name"})
"""Lists of these keys hold names, which have no offset of their own."""


def strings(items: list[Node] | None) -> list[str]:
    """Return the values of a list of String nodes."""
    out: list[str] = []
    for item in items or ():
        body = item.get("String")
        if body is None or len(item) != 1:
            raise not_understood(f"a name made of {unwrap(item)[0]}")
        out.append(body.get("sval", ""))
    return out
