"""Connection strings of both forms that libpq knows, as asyncpg's arguments."""

from __future__ import annotations

import re
from typing import Any

_PAIR = re.compile(r"\s*([a-z_]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)")
_ESCAPE = re.compile(r"\\(.)")
_NAMES = {
    "host": "host",
    "hostaddr": "host",
    "port": "port",
    "dbname": "database",
    "user": "user",
    "password": "password",
    "passfile": "passfile",
}
_IN_URI = {"sslmode", "sslrootcert", "sslcert", "sslkey"}
_IGNORED = {"application_name", "connect_timeout"}


def connect_arguments(dsn: str) -> dict[str, Any]:
    """Return keyword arguments for ``asyncpg.connect``.

    Raises:
        ValueError: Neither a ``postgresql://`` URI nor ``key=value`` pairs; never quotes the DSN.
    """
    text = dsn.strip()
    if text.startswith(("postgresql://", "postgres://")):
        return {"dsn": text}
    arguments: dict[str, Any] = {}
    query: list[str] = []
    for key, value in _pairs(text):
        if key in _NAMES:
            arguments[_NAMES[key]] = int(value) if key == "port" else value
        elif key in _IN_URI:
            query.append(f"{key}={value}")
        elif key not in _IGNORED:
            raise ValueError(f'the key "{key}" is not supported')
    if not arguments:
        raise ValueError("it is empty; write postgresql://user@host:port/database")
    if query:
        arguments["dsn"] = "postgresql://?" + "&".join(query)
    return arguments


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        found = _PAIR.match(text, position)
        if found is None:
            raise ValueError("it is neither a postgresql:// URI nor key=value pairs")
        quoted, bare = found.group(2), found.group(3)
        value = _ESCAPE.sub(r"\1", quoted if quoted is not None else bare or "")
        pairs.append((found.group(1), value))
        position = found.end()
    return pairs
