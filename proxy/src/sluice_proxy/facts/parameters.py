"""Parameters: what type the server will give each, so that a cast of one is known to be none at run time.

``$1::int`` makes ``$1`` an integer when nothing else has decided its type before. When the client declared it as text,
or another place of the statement reads it as text, the cast runs for each row, and raises for the first one that
reaches it: an oracle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sluice_proxy.facts.tree import Node, dictionaries, strings

_BASES = {
    16: "bool",
    17: "bytea",
    18: "char",
    19: "name",
    20: "int8",
    21: "int2",
    23: "int4",
    25: "text",
    26: "oid",
    114: "json",
    650: "cidr",
    700: "float4",
    701: "float8",
    790: "money",
    869: "inet",
    1042: "bpchar",
    1043: "varchar",
    1082: "date",
    1083: "time",
    1114: "timestamp",
    1184: "timestamptz",
    1186: "interval",
    1266: "timetz",
    1560: "bit",
    1562: "varbit",
    1700: "numeric",
    2950: "uuid",
    3802: "jsonb",
}
_STRINGS = frozenset({"pg_catalog.text", "pg_catalog.varchar"})


class Parameters:
    """Of one statement."""

    def __init__(self, declared: Sequence[int], body: Any) -> None:
        self._declared = declared
        self._body = body
        self._uses: dict[int, set[str | None]] | None = None

    def base(self, number: int) -> str | None:
        """Return ``schema.typname`` of the declared type; None when the server decides, or it is not known by name."""
        oid = self._oid(number)
        name = _BASES.get(oid)
        return None if oid == 0 else f"pg_catalog.{name or f'oid {oid}'}"

    def settled(self, node: Node, target: str | None, type_name: Node) -> bool:
        """Say whether casting this constant to ``target`` is done before any row is looked at."""
        if "ParamRef" not in node:
            return False  # A cast of a cast.
        if target in _STRINGS:
            return True
        if target is None and not type_name.get("arrayBounds"):
            return False  # A domain's CHECK may raise.
        if target == "pg_catalog.numeric" and type_name.get("typmods"):
            return False
        number = node["ParamRef"].get("number", 0)
        declared = self.base(number)
        if declared is not None:
            return declared == target
        return len(self._found().get(number, ())) <= 1

    def _oid(self, number: int) -> int:
        return self._declared[number - 1] if 0 < number <= len(self._declared) else 0

    def _found(self) -> dict[int, set[str | None]]:
        """Return by parameter what it is cast to, in all its places; None where it is not."""
        if self._uses is None:
            self._uses = {}
            casts: set[int] = set()
            for key, node in dictionaries(self._body):
                if key == "TypeCast" and "ParamRef" in node["arg"]:
                    inner = node["arg"]["ParamRef"]
                    casts.add(id(inner))
                    name = ".".join(strings(node["typeName"].get("names")))
                    array = "[]" * len(node["typeName"].get("arrayBounds", ()))
                    self._uses.setdefault(inner.get("number", 0), set()).add(name + array)
            for key, node in dictionaries(self._body):
                if key == "ParamRef" and id(node) not in casts:
                    self._uses.setdefault(node.get("number", 0), set()).add(None)
        return self._uses
