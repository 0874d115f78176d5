"""The grammar's vocabulary, from ``vocabulary.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

_DATA: dict[str, Any] = yaml.safe_load(
    resources.files("sluice_dev.worlds").joinpath("vocabulary.yaml").read_text("utf-8")
)


def _lists(part: str) -> dict[str, tuple[str, ...]]:
    return {kind: tuple(items) for kind, items in _DATA[part].items()}


LITERALS = _lists("literals")
"""Constants by kind; ``small``, ``pattern``, ``regex`` and ``path`` are for arguments that must be constants."""
SETTINGS: tuple[str, ...] = tuple(_DATA["settings"])
"""What is sent before a statement, in its transaction."""
COPY_OPTIONS: tuple[str, ...] = tuple(_DATA["copy_options"])

SORTABLE = frozenset(_DATA["sortable"])
"""Kinds with an order of their own."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What servers of one major version understand."""

    templates: dict[str, tuple[str, ...]]
    """Expressions by kind, with holes."""
    aggregates: dict[str, tuple[str, ...]]
    """By kind; those whose result depends on the order of rows have their own ORDER BY."""
    windows: tuple[str, ...]
    """Window functions whose windows leave no order open."""
    table_functions: tuple[tuple[str, str], ...]
    """Functions in FROM, with the kind of their first column."""


@cache
def vocabulary(major: int) -> Vocabulary:
    """Return the words of a major version: those of every version, and what was added up to it."""
    added: list[dict[str, Any]] = [part for since, part in _DATA["since"].items() if since <= major]

    def by_kind(name: str) -> dict[str, tuple[str, ...]]:
        out = {kind: list(items) for kind, items in _DATA[name].items()}
        for part in added:
            for kind, items in part.get(name, {}).items():
                out.setdefault(kind, []).extend(items)
        return {kind: tuple(items) for kind, items in out.items()}

    functions = [*_DATA["table_functions"]]
    for part in added:
        functions += part.get("table_functions", [])
    return Vocabulary(
        templates=by_kind("templates"),
        aggregates=by_kind("aggregates"),
        windows=tuple(_DATA["windows"]),
        table_functions=tuple((template, kind) for template, kind in functions),
    )
