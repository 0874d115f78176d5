"""Kubernetes quantities, as far as resources of containers use them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_QUANTITY: Final = re.compile(
    r"\+?(?P<number>[0-9]+(\.[0-9]*)?|\.[0-9]+)"
    r"(?P<suffix>m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]{1,2})?"
)
_FACTORS: Final = {
    "m": Decimal("0.001"),
    **{letter: Decimal(10) ** (3 * step) for step, letter in enumerate("kMGTPE", start=1)},
    **{f"{letter}i": Decimal(2) ** (10 * step) for step, letter in enumerate("KMGTPE", start=1)},
}
_LENGTH_MAX: Final = 32


def amount(quantity: object) -> Decimal | None:
    """The number that a quantity (``250m``, ``64Mi``, ``2``) stands for; None when it is none."""
    text = str(quantity)
    match = _QUANTITY.fullmatch(text) if len(text) <= _LENGTH_MAX else None
    if match is None:
        return None
    number, suffix = Decimal(match["number"]), match["suffix"]
    if not suffix:
        return number
    if suffix in _FACTORS:
        return number * _FACTORS[suffix]
    return number * Decimal(10) ** int(suffix[1:])


def same_amount(first: object, second: object) -> bool:
    """Whether two quantities stand for the same number, however they are written."""
    if first == second:
        return True
    one, other = amount(first), amount(second)
    return one is not None and one == other
