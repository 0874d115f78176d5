"""Comparisons, and the literals beside them, which decide nothing about the plan."""

from __future__ import annotations

from sluice_proxy.facts import types
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.traits import BOOL, Trait, joined, leaking
from sluice_proxy.facts.tree import Node

COMPARISONS = frozenset({"=", "<>", "!=", "<", "<=", ">", ">="})


def compared(a: Analysis, body: Node, left: Trait, right: Trait) -> Trait:
    """Return what a plain comparison is; long conditions compare the same column with constants of the same kind."""
    key = (id(left), id(right))
    kept = a.compared.get(key)
    if kept is None:
        trait, free = _comparison([left, right])
        if len(a.compared) >= _COMPARED_MAX:
            a.compared.clear()
        # While it is kept, no other object has the numbers of the two.
        kept = a.compared[key] = (trait, free, left, right)
    if kept[1]:
        _free_operands(a, body)
    return kept[0]


_COMPARED_MAX = 256


def _comparison(sides: list[Trait]) -> tuple[Trait, bool]:
    """Return what comparing is, and whether literals beside the operator decide nothing."""
    sides = types.declared_alike(sides)
    if all(side.value for side in sides) and types.comparable(sides):
        return joined(sides, kind="total", base=BOOL), True
    if any(side.leaky for side in sides) and all(side.value or side.leaky for side in sides):
        return joined(sides), True  # Comparing does not raise: only the leaky operand counts.
    return leaking(sides), False


def small_shift(body: Node, sides: list[Trait]) -> bool:
    """Say whether this is now() or a column, plus or minus a literal interval that cannot overflow anything."""
    cast = body.get("rexpr", {}).get("TypeCast")
    if cast is None or sides[0].columns or sides[0].parameter or not sides[0].value:
        return False
    return types.small_interval(cast)


def _free_operands(a: Analysis, body: Node) -> None:
    for side in ("lexpr", "rexpr"):
        free_literals(a, body.get(side))


def free_literals(a: Analysis, node: Node | None) -> None:
    """Note that literals right here, or below plain casts and lists, decide nothing about the plan."""
    if node is None:
        return
    if "A_Const" in node:
        offset = node["A_Const"].get("location")
        if offset is not None:
            a.free.add(offset)
    elif "TypeCast" in node:
        if types.plain(node["TypeCast"]["typeName"]):
            free_literals(a, node["TypeCast"]["arg"])
    elif "List" in node:
        for item in node["List"].get("items", ()):
            free_literals(a, item)
    elif "A_ArrayExpr" in node:
        for item in node["A_ArrayExpr"].get("elements", ()):
            free_literals(a, item)
