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
MIX = (
    # What mappers and tools write; {c} is a list of columns, {n} makes the shape a new one.
    'SELECT {c} FROM "users" WHERE "users"."region" = \'eu\' ORDER BY "users"."id" ASC LIMIT 21 OFFSET {k}',
    'SELECT COUNT(*) AS "__count_{n}" FROM "users" WHERE ("users"."region" IN (\'eu\', \'us\') AND "users"."id" < {k})',
    'SELECT (1) AS "a_{n}" FROM "users" WHERE "users"."id" = {k} LIMIT 1',
    (
        'SELECT "users".*, "orders"."amount" AS t{n} FROM "users" INNER JOIN "orders" ON "orders"."user_id" = "users"."id" '
        'WHERE "users"."id" = {k} AND "orders"."amount" BETWEEN 10 AND 900 ORDER BY "orders"."created_at" DESC LIMIT 11'
    ),
    (
        "SELECT u{n}.id AS u{n}_id, u{n}.name AS u{n}_name, u{n}.email AS u{n}_email, o_1.id AS o_1_id, o_1.amount AS o_1_amount "
        "FROM users AS u{n} LEFT OUTER JOIN orders AS o_1 ON u{n}.id = o_1.user_id WHERE u{n}.id = {k}"
    ),
    (
        'SELECT "t{n}"."id", "t{n}"."email" FROM "public"."users" AS "t{n}" WHERE ("t{n}"."id") IN '
        '(SELECT "j"."user_id" FROM "public"."orders" AS "j" WHERE "j"."amount" > 490 AND "j"."id" < {k}) LIMIT 10 OFFSET 0'
    ),
    (
        "SELECT date_trunc('month', o.created_at) AS m{n}, o.region, sum(o.amount) AS total, count(DISTINCT o.user_id) AS buyers "
        "FROM orders o WHERE o.id < {k} GROUP BY 1, 2 ORDER BY 1, 2"
    ),
    (
        "SELECT * FROM (SELECT o.id, o.user_id, o.amount, row_number() OVER (PARTITION BY o.user_id ORDER BY o.amount DESC) AS r{n} "
        "FROM orders o WHERE o.id < {k}) ranked WHERE ranked.r{n} = 1"
    ),
    (
        "WITH spent AS (SELECT user_id, sum(amount) AS s{n} FROM orders WHERE id < {k} GROUP BY user_id), "
        "best AS (SELECT user_id, s{n} FROM spent ORDER BY s{n} DESC LIMIT 5) "
        "SELECT u.name, u.email, b.s{n} FROM best b JOIN users u ON u.id = b.user_id ORDER BY b.s{n} DESC"
    ),
    "SELECT {c} FROM users WHERE lower(users.name) LIKE 'a%' AND users.id IN ({k}, 2, 3, 4, 5) AND users.region IS NOT NULL",
    "SELECT count(*) FILTER (WHERE region = 'eu') AS e{n}, max(id) AS top, min(created_at) AS since FROM users WHERE id < {k}",
    "SELECT u.id AS x{n}, coalesce(u.email, '-') AS mail, CASE WHEN u.id < 9 THEN 'old' ELSE 'new' END AS age FROM users u WHERE u.id = {k}",
    "SELECT id AS i{n}, region FROM users WHERE id = {k} UNION ALL SELECT user_id, region FROM orders WHERE id = {k} ORDER BY 1",
    (
        "SELECT c.relname AS r{n}, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid WHERE c.relname = 'users' AND a.attnum > 0 ORDER BY a.attnum LIMIT {k}"
    ),
)
_COLUMNS = ("id", "name", "email", "ssn", "region", "created_at")


def mixed(number: int) -> str:
    """Return a statement of the mix whose shape no other number has."""
    kept = [name for place, name in enumerate(_COLUMNS) if number // len(MIX) >> place & 1] or [
        "id"
    ]
    columns = ", ".join(f'"users"."{name}" AS "{name}_{number}"' for name in kept)
    return MIX[number % len(MIX)].format(n=number, k=number + 1, c=columns)


_LINE = re.compile(r"^sluice_plan_seconds_(bucket|sum|count)\{(.*)\} (\S+)$", re.MULTILINE)


def shape(number: int) -> str:
    """Return a statement whose shape no other number has."""
    return SHAPES[number % len(SHAPES)].format(n=number, k=number + 1)


def stages(before: str, after: str) -> dict[str, dict[str, float]]:
    """Return mean, p50, p95 and p99 in microseconds of each stage between two readings of ``/metrics``.

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
                "p95": round(_quantile(edges, count * 0.95) * 1e6),
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
