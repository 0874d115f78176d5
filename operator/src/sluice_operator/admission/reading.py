"""Reading raw objects of the API: what is absent is empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast


def section(fields: Mapping[str, Any], *path: str) -> dict[str, Any]:
    """The object at a path; a new empty one when there is none."""
    found: Any = fields
    for key in path:
        found = cast("Mapping[str, Any]", found).get(key) or {}
    return cast("dict[str, Any]", found)


def entries(fields: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects of a list; none when it is not there."""
    return cast("list[dict[str, Any]]", fields.get(key) or [])


def texts(fields: Mapping[str, Any], key: str) -> list[str]:
    """The texts of a list."""
    return [str(item) for item in cast("list[Any]", fields.get(key) or [])]


def labels_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """Labels of an object."""
    return section(fields, "metadata", "labels")


def annotations_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """Annotations of an object."""
    return section(fields, "metadata", "annotations")
