"""What a restricted session may see of pg_catalog and information_schema, in the shape of governed relations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sluice_proxy import allowlists
from sluice_proxy.allowlists import relations as replacements
from sluice_proxy.catalog.model import Catalog, Column, Relation
from sluice_proxy.decisions import Mask, Parts
from sluice_proxy.governed.entries import UNREVIEWED

SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema"})

_OIDS_MAX = 400
"""Longest list put into a statement (about 3 kB); beyond it the column is hidden for every row."""
_NUMBERS_PER_RELATION = 65536
"""More than any attribute number: (relation, attribute) pairs become one number."""


@dataclass(frozen=True, slots=True)
class _Lists:
    """Oids that decide which rows of a catalog are hidden."""

    plain: tuple[int, ...]
    """Relations that nothing holds for."""
    governed: tuple[int, ...]
    bound: tuple[int, ...]
    """Partitions by a classified column."""
    columns: tuple[int, ...]
    """Classified columns, as relation * 65536 + attribute number."""


def governed(
    catalog: Catalog, classes: Mapping[int, Mapping[str, str]]
) -> Iterator[tuple[Relation, Mapping[str, Mask], str | None]]:
    """Yield every catalog relation that is not shown as it is: masks by column, or why it is denied.

    Args:
        catalog: The catalog.
        classes: Class by column of each governed relation, by oid.
    """
    try:
        allowed = allowlists.for_major(catalog.server_major)
    except allowlists.UnsupportedMajorError as error:
        for relation in catalog.by_oid.values():
            if relation.schema in SYSTEM_SCHEMAS:
                yield relation, {}, str(error)
        return
    lists = _lists(catalog, classes)
    for relation in catalog.by_oid.values():
        if relation.schema not in SYSTEM_SCHEMAS:
            continue
        access = allowed.relation(relation.qualified)
        if access.denied:
            yield relation, {}, f'"{relation.qualified}" tells of hidden rows or masked values'
            continue
        masks = {
            column.name: _mask(column, replaced, access, lists)
            for column in relation.columns
            if (replaced := access.replaced(column.name)) is not None
        }
        if masks:
            yield relation, masks, None


def _lists(catalog: Catalog, classes: Mapping[int, Mapping[str, str]]) -> _Lists:
    plain: list[int] = []
    bound: list[int] = []
    columns: list[int] = []
    for relation in catalog.by_oid.values():
        held = classes.get(relation.oid)
        if held is None:
            if relation.schema not in SYSTEM_SCHEMAS:
                plain.append(relation.oid)
            continue
        parents = (catalog.by_oid.get(oid) for oid in relation.parents)
        if any(p is not None and p.partition_key & held.keys() for p in parents):
            bound.append(relation.oid)
        columns.extend(
            relation.oid * _NUMBERS_PER_RELATION + column.number
            for column in relation.columns
            if held.get(column.name, UNREVIEWED) != UNREVIEWED
        )
    return _Lists(tuple(plain), tuple(classes), tuple(bound), tuple(columns))


def _mask(column: Column, replaced: str, access: allowlists.CatalogAccess, lists: _Lists) -> Mask:
    name, owner = column.name, (access.owner or "",)
    match replaced:
        case replacements.DEFINITION:
            before, after = allowlists.definition_sql("\0").split("\0")
            return _expression((f"({before}", (name,), f"::pg_catalog.text{after})"))
        case replacements.ESTIMATE:
            nothing = "'-1'" if name == "reltuples" else "'0'"
            return _shown_for((name,), owner, lists.plain, nothing, column)
        case replacements.PARTITION_BOUND:
            return _hidden_for((name,), owner, lists.bound)
        case replacements.OF_RELATION:
            return _hidden_for((name,), owner, lists.governed)
        case replacements.OF_COLUMNS:
            return _hidden_columns((name,), owner, (access.numbers or "",), lists.columns)
        case _:
            return Mask("null")


def _expression(parts: Parts) -> Mask:
    return Mask("expression", parts=parts, rank="email")


def _array(numbers: tuple[int, ...], type_: str) -> str:
    return "'{" + ",".join(str(number) for number in numbers) + "}'::pg_catalog." + type_ + "[]"


def _shown_for(
    column: tuple[str], owner: tuple[str], oids: tuple[int, ...], nothing: str, of: Column
) -> Mask:
    if len(oids) > _OIDS_MAX:
        return _expression((f"({nothing}::{of.type.base_sql})",))
    among = f" OPERATOR(pg_catalog.=) ANY ({_array(oids, 'oid')}) THEN "
    return _expression(
        ("(CASE WHEN ", owner, among, column, f" ELSE {nothing}::{of.type.base_sql} END)")
    )


def _hidden_for(column: tuple[str], owner: tuple[str], oids: tuple[int, ...]) -> Mask:
    if len(oids) > _OIDS_MAX:
        return Mask("null")
    among = f" OPERATOR(pg_catalog.=) ANY ({_array(oids, 'oid')}) THEN NULL ELSE "
    return _expression(("(CASE WHEN ", owner, among, column, " END)"))


def _hidden_columns(
    column: tuple[str], owner: tuple[str], number: tuple[str], keys: tuple[int, ...]
) -> Mask:
    if len(keys) > _OIDS_MAX:
        return Mask("null")
    times = f"::pg_catalog.int8 OPERATOR(pg_catalog.*) '{_NUMBERS_PER_RELATION}'::pg_catalog.int8"
    among = (
        f"::pg_catalog.int8) OPERATOR(pg_catalog.=) ANY ({_array(keys, 'int8')}) THEN NULL ELSE "
    )
    return _expression(
        (
            "(CASE WHEN ((",
            owner,
            f"{times}) OPERATOR(pg_catalog.+) ",
            number,
            among,
            column,
            " END)",
        )
    )
