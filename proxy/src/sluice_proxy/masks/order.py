"""The published order of masks (DESIGN §4); ``sluice_crds.masks`` holds the same table for the compiler."""

from __future__ import annotations

from collections.abc import Iterable

from sluice_proxy.decisions import Mask

REDACT = Mask("redact")

_LEVELS = {
    "null": 8,
    "redact": 7,
    "hash": 6,
    "year": 5,
    "bucket": 5,
    "first": 4,
    "last": 4,
    "partial": 4,
    "email": 3,
    "expression": 2,
    "none": 1,
}
_TIES = {"year": 2, "bucket": 1, "first": 2, "last": 1}


def strictness(mask: Mask) -> tuple[int, float, int, str]:
    """Sort key: larger is stricter; a total order over everything but a mask's origin."""
    level = _LEVELS.get(mask.kind, _LEVELS["redact"])
    measure = 0.0
    match mask.kind:
        case "first" | "last":
            measure = -float(mask.count or 0)
        case "partial":
            measure = -float((mask.first or 0) + (mask.last or 0))
        case "bucket":
            measure = float(mask.size or 0)
        case "expression" if mask.rank == "email":
            level = _LEVELS["email"]
        case _:
            pass
    tie = _TIES.get(mask.kind, 0) if mask.kind != "expression" else -1
    return (level, measure, tie, repr(mask.parts or ""))


def strictest(masks: Iterable[Mask]) -> Mask:
    """Return the strictest of at least one mask."""
    return max(masks, key=strictness)


def derived(mask: Mask) -> Mask:
    """Return the mask of a column computed from one that has this mask.

    What cuts a value open (``last: 4``, ``email``, ``year`` …) was chosen for the value, not for what an
    expression made of it; only masks that show nothing of either carry over.
    """
    return mask if mask.kind in {"null", "hash", "none"} else REDACT
