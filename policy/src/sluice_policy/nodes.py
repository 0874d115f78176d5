"""Reading pglast's nodes: names, literals, types."""

from __future__ import annotations

import re
from typing import Any, cast

from sluice_policy import allowed
from sluice_policy.allowed import OTHER, TIME

_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?|\.[0-9]+([eE][-+]?[0-9]+)?")


class RefusedError(Exception):
    """The expression uses what it may not; the text says what, for the policy's author."""


def kind_of(node: Any) -> str:
    """Name of the node's class, which is PostgreSQL's own name of it."""
    return type(node).__name__


def strings(names: Any) -> list[str]:
    """Parts of a possibly qualified name."""
    return [str(name.sval) for name in cast("tuple[Any, ...]", names)]


def value_of(node: Any) -> object:
    """The Python value of a literal; a special object when it is none."""
    if kind_of(node) != "A_Const":
        return NO_VALUE
    if node.isnull:
        return None
    match kind_of(node.val):
        case "Integer":
            return int(node.val.ival)
        case "Float":
            text = str(node.val.fval)
            return float(text) if _NUMBER.fullmatch(text.lstrip("-")) else NO_VALUE
        case "Boolean":
            return bool(node.val.boolval)
        case "String":
            return str(node.val.sval)
        case _:
            return NO_VALUE


NO_VALUE = object()


def read_type(node: Any) -> tuple[str, str]:
    """Qualified text of a type, and what class of values it has."""
    words = strings(node.names)
    name = words[-1]
    if len(words) > 1 and words[:-1] != ["pg_catalog"]:
        raise RefusedError(f"the type {'.'.join(words)} is not PostgreSQL's own")
    if node.setof or node.pct_type or name not in allowed.TYPES:
        raise RefusedError(f"the type {name} is not on the list of allowed ones")
    modifiers = [value_of(modifier) for modifier in cast("tuple[Any, ...]", node.typmods or ())]
    numbers = [m for m in modifiers if isinstance(m, int) and not isinstance(m, bool)]
    if len(numbers) != len(modifiers) or len(numbers) > allowed.TYPMODS.get(name, 0):
        raise RefusedError(f"the type {name} cannot be given these modifiers")
    text = f"pg_catalog.{name}"
    if numbers:
        text += f"({', '.join(map(str, numbers))})"
    bounds = cast("tuple[Any, ...]", node.arrayBounds or ())
    if len(bounds) > 1:
        raise RefusedError("arrays have one dimension here")
    if bounds and allowed.TYPES[name] == TIME:
        raise RefusedError("arrays of times are written ARRAY[date '2024-01-31', …]")
    return (f"{text}[]", OTHER) if bounds else (text, allowed.TYPES[name])


WORDS = {
    "ParamRef": "a parameter",
    "A_Indirection": "a subscript or field",
    "RowExpr": "a row",
    "CollateClause": "COLLATE",
    "XmlExpr": "XML",
    "SetToDefault": "DEFAULT",
    "GroupingFunc": "GROUPING",
    "NoneType": "nothing",
}
