"""The grammar's vocabulary, from ``vocabulary.yaml``."""

from __future__ import annotations

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
TEMPLATES = _lists("templates")
"""Expressions by kind, with holes."""
AGGREGATES = _lists("aggregates")
"""Aggregates by kind; those whose result depends on the order of rows have their own ORDER BY."""
WINDOWS: tuple[str, ...] = tuple(_DATA["windows"])
"""Window functions whose windows leave no order open."""
TABLE_FUNCTIONS: tuple[tuple[str, str], ...] = tuple(
    (template, kind) for template, kind in _DATA["table_functions"]
)
"""Functions in FROM, with the kind of their first column."""
SETTINGS: tuple[str, ...] = tuple(_DATA["settings"])
"""What is sent before a statement, in its transaction."""
COPY_OPTIONS: tuple[str, ...] = tuple(_DATA["copy_options"])

SORTABLE = frozenset(_DATA["sortable"])
"""Kinds with an order of their own."""
