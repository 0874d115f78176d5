# ruff: noqa: E501 - statements are easier to read in one line.
"""New shapes of statements, and what Sluice's own metrics say of the stages of their plans."""

from __future__ import annotations

import re

SHAPES = (
    "SELECT id AS a{n}, email, region FROM users WHERE id = {k}",
    "SELECT u.name AS a{n}, o.amount FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = {k}",
    "SELECT region AS a{n}, count(*), max(created_at) FROM users WHERE id < {k} GROUP BY region ORDER BY 2 DESC LIMIT 5",
    "SELECT id AS a{n}, ssn FROM users u WHERE id < {k} AND EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id) LIMIT 3",
    (
        "WITH r AS (SELECT user_id, sum(amount) s FROM orders WHERE id < {k} GROUP BY 1) "
        "SELECT u.email AS a{n}, r.s FROM r JOIN users u ON u.id = r.user_id ORDER BY 2 LIMIT 3"
    ),
    "SELECT name AS a{n}, CASE WHEN region = 'eu' THEN lower(name) ELSE coalesce(name, '-') END FROM users WHERE id IN ({k}, 7)",
)
_LINE = re.compile(r"^sluice_plan_seconds_(bucket|sum|count)\{(.*)\} (\S+)$", re.MULTILINE)


def shape(number: int) -> str:
    """Return a statement whose shape no other number has."""
    return SHAPES[number % len(SHAPES)].format(n=number, k=number + 1)


def stages(before: str, after: str) -> dict[str, dict[str, float]]:
    """Return mean, p50 and p99 in microseconds of each stage between two readings of ``/metrics``.

    The percentiles are interpolated inside a bucket of the histogram.
    """
    first, last = _read(before), _read(after)
    found: dict[str, dict[str, float]] = {}
    for stage, values in last.items():
        was = first.get(stage, {})
        rise = {key: value - was.get(key, 0.0) for key, value in values.items()}
        count = rise.pop("count")
        total = rise.pop("sum")
        if count:
            edges = sorted((float(key), value) for key, value in rise.items())
            found[stage] = {
                "mean": round(total / count * 1e6),
                "p50": round(_quantile(edges, count * 0.5) * 1e6),
                "p99": round(_quantile(edges, count * 0.99) * 1e6),
            }
    return found


def _quantile(edges: list[tuple[float, float]], wanted: float) -> float:
    low, below = 0.0, 0.0
    for edge, count in edges:
        if count >= wanted:
            return (
                low
                if edge == float("inf")
                else low + (edge - low) * (wanted - below) / (count - below)
            )
        low, below = edge, count
    return low


def _read(text: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for kind, labels, value in _LINE.findall(text):
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        found.setdefault(named["stage"], {})[named["le"] if kind == "bucket" else kind] = float(
            value
        )
    return found
