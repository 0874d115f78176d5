"""Resolves ``pg_type`` rows down to what a column shows on the wire."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice_proxy.catalog.model import ColumnType

Row = Mapping[str, Any]

_COMPOSITE_DEPTH_MAX = 1
_DOMAIN_DEPTH_MAX = 32
_PARENTHESES = re.compile(r"\([^)]*\)")


@dataclass(frozen=True, slots=True)
class _Resolved:
    oid: int
    typmod: int


class TypeTable:
    """All types of one snapshot; hands out shared ``ColumnType`` values."""

    def __init__(
        self,
        types: Iterable[Row],
        typmods: Iterable[Row],
        collations: Iterable[Row],
        with_equality: Iterable[Row],
        composites: Mapping[int, Sequence[Row]],
    ) -> None:
        self._types = {row["oid"]: row for row in types}
        self._suffixes = {(r["type"], r["typmod"]): r["text"] for r in typmods}
        self._collations = {row["oid"]: row["sql"] for row in collations}
        self._equality = {row["oid"] for row in with_equality}
        self._composites = composites
        self._known: dict[tuple[int, int, int, int], ColumnType] = {}

    def column_type(self, oid: int, typmod: int, collation: int, depth: int = 0) -> ColumnType:
        """Return the type of an attribute with these ``pg_attribute`` fields."""
        key = (oid, typmod, collation, depth)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._make(oid, typmod, collation, depth)
        return known

    def _make(self, oid: int, typmod: int, collation: int, depth: int) -> ColumnType:
        base = self._base(oid, typmod)
        row = self._types[base.oid]
        element = self._element(row)
        own = self._types[oid]
        return ColumnType(
            oid=oid,
            base_oid=base.oid,
            base_sql=self._sql(row, base.typmod),
            base_name=f"{row['schema']}.{row['name']}",
            category=row["category"],
            element=f"{element['schema']}.{element['name']}" if element else None,
            collation=self._collations.get(collation) if collation != row["collation"] else None,
            enum_first=row["enum_first"] if own["category"] == "E" else None,
            has_equality=self._has_equality(base.oid, ()),
            fields=self._fields(row, depth),
            domain_not_null=self._never_null(oid),
            checks=tuple(self._checks(oid)),
        )

    def _base(self, oid: int, typmod: int) -> _Resolved:
        for _ in range(_DOMAIN_DEPTH_MAX):
            row = self._types[oid]
            if row["kind"] != "d":
                break
            typmod = row["typmod"] if typmod == -1 else typmod
            oid = row["base"]
        return _Resolved(oid, typmod)

    def _never_null(self, oid: int) -> bool:
        for _ in range(_DOMAIN_DEPTH_MAX):
            row = self._types[oid]
            if row["kind"] != "d" or row["not_null"]:
                return row["kind"] == "d"
            oid = row["base"]
        return False

    def _checks(self, oid: int) -> Iterable[str]:
        for _ in range(_DOMAIN_DEPTH_MAX):
            row = self._types[oid]
            if row["kind"] != "d":
                break
            yield from row["checks"] or ()
            oid = row["base"]

    def _element(self, row: Row) -> Row | None:
        """Return the element's row when this is a true array (``int2vector`` is not)."""
        element = self._types.get(row["elem"])
        return element if element is not None and element["array_oid"] == row["oid"] else None

    def _sql(self, row: Row, typmod: int) -> str:
        element = self._element(row)
        if element is not None:
            return f"{self._scalar_sql(element, row['oid'], typmod)}[]"
        return self._scalar_sql(row, row["oid"], typmod)

    def _scalar_sql(self, row: Row, formatted_as: int, typmod: int) -> str:
        name = row["sql"]
        if row["schema"] == "pg_catalog" and row["name"] != "char":
            # Any word may follow a dot; only the one-byte type needs its quotes to be told from character.
            name = f"pg_catalog.{row['name']}"
        if typmod == -1:
            return name
        text = self._suffixes.get((formatted_as, typmod), "")
        if row["schema"] == "pg_catalog" and row["name"] == "interval":
            # Only the keyword form can say "day to second(3)", and a keyword is never looked up.
            return text.removesuffix("[]")
        parameters = _PARENTHESES.search(text)
        return f"{name}{parameters.group()}" if parameters else name

    def _has_equality(self, oid: int, seen: tuple[int, ...]) -> bool:
        oid = self._base(oid, -1).oid
        if oid in self._equality:
            return True
        row = self._types[oid]
        if oid in seen:
            return False
        if row["kind"] in "emr":
            return True
        element = self._element(row)
        if element is not None:
            return self._has_equality(element["oid"], (*seen, oid))
        if row["kind"] == "c":
            attributes = self._composites.get(row["relation"], ())
            return all(self._has_equality(a["type"], (*seen, oid)) for a in attributes)
        return False

    def _fields(self, row: Row, depth: int) -> tuple[tuple[str, ColumnType], ...]:
        if row["kind"] != "c" or depth >= _COMPOSITE_DEPTH_MAX:
            return ()
        return tuple(
            (a["name"], self.column_type(a["type"], a["typmod"], a["collation"], depth + 1))
            for a in self._composites.get(row["relation"], ())
        )
