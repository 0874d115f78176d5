"""Writes ``sluice_proxy/allowlists/server_<major>.json`` from a running server and the reviewed lists.

    python tools/allowlists/generate.py postgresql://postgres@127.0.0.1:5432/postgres

The server must be an ordinary build of PostgreSQL; any database of it will do. `collect` returns the same
without writing, so that a test keeps the committed files equal to the servers at hand. What the lists name and the
server lacks is left out, what the server has and the lists do not name is denied.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import asyncpg
import review

from sluice_proxy.catalog.dsn import connect_arguments

_TARGET = Path(__file__).parents[2] / "proxy/src/sluice_proxy/allowlists"

_FUNCTIONS = """
SELECT p.proname::text AS name, pg_catalog.bool_and(p.provolatile = 'i') AS immutable,
       pg_catalog.bool_or(p.prokind IN ('a', 'w')) AS aggregate,
       pg_catalog.bool_and(p.prokind IN ('a', 'w')) AS only_aggregate
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'pg_catalog'::regnamespace
  AND p.prorettype NOT IN ('internal'::regtype, 'trigger'::regtype, 'event_trigger'::regtype,
                           'cstring'::regtype)
  AND NOT 'internal'::regtype = ANY (p.proargtypes::oid[])
  AND NOT 'cstring'::regtype = ANY (p.proargtypes::oid[])
GROUP BY p.proname
"""
_OPERATORS = "SELECT DISTINCT oprname::text FROM pg_catalog.pg_operator WHERE oprnamespace = 11"
_TYPES = """
SELECT typname::text FROM pg_catalog.pg_type
WHERE typnamespace = 11 AND typtype IN ('b', 'r', 'm') AND typrelid = 0 AND typcategory <> 'A'
"""
_RELATIONS = """
SELECT relname::text FROM pg_catalog.pg_class WHERE relnamespace = 11 AND relkind IN ('r', 'v')
"""
_INFORMATION = """
SELECT c.relname::text FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'information_schema'::regnamespace AND c.relkind IN ('r', 'v')
"""
_INFORMATION_FUNCTIONS = """
SELECT DISTINCT proname::text FROM pg_catalog.pg_proc
WHERE pronamespace = 'information_schema'::regnamespace
"""


def category(name: str, *, immutable: bool, only_aggregate: bool) -> str | None:
    """Return the category of a function, or None when it is denied."""
    if review.DENIED.fullmatch(name):
        return None
    for kind, names in review.SPECIAL.items():
        if name in names:
            return kind
    for kind, names in (
        ("definition", review.DEFINITION),
        ("volatile", review.VOLATILE),
        ("plain", review.PLAIN),
        ("values", review.VALUES),
    ):
        if name in names:
            return kind
    if immutable or only_aggregate or review.COMPARISON.fullmatch(name):
        return "values"
    return None


async def _names(connection: asyncpg.Connection, query: str) -> list[str]:
    return sorted(row[0] for row in await connection.fetch(query))


async def collect(dsn: str) -> dict[str, Any]:
    """Return the data of the server's major version."""
    connection = await asyncpg.connect(**connect_arguments(dsn))
    try:
        functions: dict[str, list[str]] = {}
        aggregates: list[str] = []
        for row in await connection.fetch(_FUNCTIONS):
            kind = category(
                row["name"], immutable=row["immutable"], only_aggregate=row["only_aggregate"]
            )
            if kind is not None:
                functions.setdefault(kind, []).append(row["name"])
            if row["aggregate"]:
                aggregates.append(row["name"])
        return {
            "major": int(await connection.fetchval("SHOW server_version_num")) // 10000,
            "functions": {kind: sorted(names) for kind, names in sorted(functions.items())},
            "aggregates": sorted(aggregates),
            "operators": await _names(connection, _OPERATORS),
            "types": await _names(connection, _TYPES),
            "relations": await _names(connection, _RELATIONS),
            "information_schema": await _names(connection, _INFORMATION),
            "information_functions": await _names(connection, _INFORMATION_FUNCTIONS),
            "extensions": dict(sorted(review.EXTENSIONS.items())),
        }
    finally:
        await connection.close()


def generate(dsn: str) -> Path:
    """Write the data file of the server's major version and return its path."""
    data = asyncio.run(collect(dsn))
    path = _TARGET / f"server_{data['major']}.json"
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    print(generate(sys.argv[1]))
