"""JSON patches (RFC 6902) between two pods: small, and only where they differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from sluice_operator.admission.model import Operation


def pointer(path: tuple[str, ...]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in path)


def difference(before: Any, after: Any) -> tuple[Operation, ...]:
    """Operations that turn ``before`` into ``after``, in the order in which they are applied.

    Their values are parts of ``after``, not copies.
    """
    return tuple(_steps((), before, after))


def _steps(path: tuple[str, ...], before: Any, after: Any) -> Iterator[Operation]:
    if _equal(before, after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _object_steps(
            path, cast("dict[str, Any]", before), cast("dict[str, Any]", after)
        )
    elif isinstance(before, list) and isinstance(after, list):
        yield from _list_steps(path, cast("list[Any]", before), cast("list[Any]", after))
    else:
        yield {"op": "replace", "path": pointer(path), "value": after}


def _object_steps(
    path: tuple[str, ...], before: dict[str, Any], after: dict[str, Any]
) -> Iterator[Operation]:
    for key in before:
        if key not in after:
            yield {"op": "remove", "path": pointer((*path, key))}
    for key, value in after.items():
        place = (*path, key)
        if key not in before:
            yield {"op": "add", "path": pointer(place), "value": value}
        else:
            yield from _steps(place, before[key], value)


def _list_steps(path: tuple[str, ...], before: list[Any], after: list[Any]) -> Iterator[Operation]:
    """What was put in between equal ends is added; other changes replace the list."""
    more = len(after) - len(before)
    head = 0
    while head < len(before) and head < len(after) and _equal(before[head], after[head]):
        head += 1
    if more > 0 and _equal(before[head:], after[head + more :]):
        for index in range(head, head + more):
            place = "-" if index >= len(before) and head == len(before) else str(index)
            yield {
                "op": "add",
                "path": pointer((*path, place)),
                "value": after[index],
            }
    else:
        yield {"op": "replace", "path": pointer(path), "value": after}


def _equal(one: Any, other: Any) -> bool:
    """Equality of JSON, where ``true`` is not 1."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        first, second = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
        return first.keys() == second.keys() and all(_equal(first[k], second[k]) for k in first)
    if isinstance(one, list):
        items, others = cast("list[Any]", one), cast("list[Any]", other)
        return len(items) == len(others) and all(map(_equal, items, others))
    return one == other
