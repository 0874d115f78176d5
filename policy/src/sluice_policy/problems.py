"""What is wrong with a resource, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Problem:
    """One thing that is wrong, and where."""

    file: str | None = None
    """Path of the file; None when the resource did not come from one."""
    line: int | None = None
    """1-based line in the file."""
    resource: str = ""
    """``kind namespace/name``; empty when the file could not be read that far."""
    path: str = ""
    """Path of the field (``spec.masks[0].mask``); empty for the whole."""
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        """One line for people: ``file:line: resource: path: message``."""
        place = self.file or ""
        if place and self.line is not None:
            place = f"{place}:{self.line}"
        head = [part for part in (place, self.resource, self.path) if part]
        if self.severity == "warning":
            head.append("warning")
        return ": ".join([*head, self.message])


def field_path(location: Sequence[str | int]) -> str:
    """``("spec", "masks", 0)`` → ``spec.masks[0]``."""
    text = ""
    for step in location:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text
