"""What a restricted session may see of pg_catalog and information_schema, in the shape of governed relations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sluice_proxy import allowlists
from sluice_proxy.allowlists import relations as replacements
from sluice_proxy.catalog.model import Catalog, Column, Relation
from sluice_proxy.decisions import Mask, Parts

SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema"})

_OIDS_MAX = 4000
"""Longest list put into a statement (about 30 kB); beyond it the column is hidden for every row."""
_NAMES_MAX = 1000
_BETWEEN = "\x1f"
"""Separates the parts of a name where no name has it."""
_NUMBERS_PER_RELATION = 65536
"""More than any attribute number: (relation, attribute) pairs become one number."""


@dataclass(frozen=True, slots=True)
class _Lists:
    """Oids that decide which rows of a catalog are hidden."""

    plain: tuple[int, ...]
    """Relations that nothing holds for."""
    bounds: tuple[int, ...]
    """Partitions by columns that nothing holds for."""
    columns: tuple[int, ...]
    """Columns with a default or expression that may be shown, as relation * 65536 + attribute number."""
    names: tuple[str, ...]
    """The same, by their names."""


def governed(
    catalog: Catalog, classes: Mapping[int, Mapping[str, str]]
) -> Iterator[tuple[Relation, Mapping[str, Mask], str | None, Parts]]:
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
                yield relation, {}, str(error), ()
        return
    lists = _lists(catalog, classes)
    for relation in catalog.by_oid.values():
        if relation.schema not in SYSTEM_SCHEMAS:
            continue
        access = allowed.relation(relation.qualified)
        if access.denied:
            yield (
                relation,
                {},
                f'what "{relation.qualified}" holds may tell of hidden rows or masked values',
                (),
            )
            continue
        masks = {
            column.name: _mask(column, replaced, access, lists)
            for column in relation.columns
            if (replaced := access.replaced(column.name)) is not None
        }
        if masks:
            yield relation, masks, None, access.rows


def _lists(catalog: Catalog, classes: Mapping[int, Mapping[str, str]]) -> _Lists:
    plain: list[int] = []
    bounds: list[int] = []
    columns: list[int] = []
    names: list[str] = []
    for relation in catalog.by_oid.values():
        if relation.schema in SYSTEM_SCHEMAS:
            continue
        held = classes.get(relation.oid)
        if held is None:
            plain.append(relation.oid)
        parents = [catalog.by_oid.get(oid) for oid in relation.parents]
        if parents and all(
            p is not None and not p.partition_key & classes.get(p.oid, {}).keys() for p in parents
        ):
            bounds.append(relation.oid)
        for column in relation.columns:
            if (column.default is None and not column.generated) or column.name in (held or ()):
                continue
            columns.append(relation.oid * _NUMBERS_PER_RELATION + column.number)
            names.append(_BETWEEN.join((relation.schema, relation.name, column.name)))
    return _Lists(tuple(plain), tuple(bounds), tuple(columns), tuple(names))


def _mask(column: Column, replaced: str, access: allowlists.CatalogAccess, lists: _Lists) -> Mask:
    name, owner = column.name, (access.owner or "",)
    match replaced:
        case replacements.DEFINITION:
            return _expression(_definition((name,)))
        case replacements.ESTIMATE:
            nothing = "'-1'" if name == "reltuples" else "'0'"
            return _shown_for((name,), owner, lists.plain, nothing, column)
        case replacements.DEFAULT:
            return _default((name,), access.names or ("", "", ""), lists.names)
        case replacements.PARTITION_BOUND:
            return _shown_for((name,), owner, lists.bounds, "NULL", column)
        case replacements.OF_RELATION:
            return _shown_for((name,), owner, lists.plain, "NULL", column)
        case replacements.OF_COLUMNS:
            return _shown_columns((name,), owner, (access.numbers or "",), lists.columns)
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


def _definition(column: tuple[str]) -> Parts:
    before, after = allowlists.definition_sql("\0").split("\0")
    return (f"({before}", column, f"::pg_catalog.text{after})")


def _default(column: tuple[str], of: tuple[str, str, str], names: tuple[str, ...]) -> Mask:
    if len(names) > _NAMES_MAX:
        return _expression(_definition(column))
    between = f" OPERATOR(pg_catalog.||) '{_BETWEEN}' OPERATOR(pg_catalog.||) "
    text = "::pg_catalog.text"
    listed = ",".join("'" + name.replace("'", "''") + "'" for name in names)
    among = f"{text}) OPERATOR(pg_catalog.=) ANY (ARRAY[{listed}]{text}[]) THEN "
    whose = ((of[0],), f"{text}{between}", (of[1],), f"{text}{between}", (of[2],))
    redacted = _definition(column)
    return _expression(("(CASE WHEN (", *whose, among, column, f"{text} ELSE ", *redacted, " END)"))


def _shown_columns(
    column: tuple[str], owner: tuple[str], number: tuple[str], keys: tuple[int, ...]
) -> Mask:
    if len(keys) > _OIDS_MAX:
        return Mask("null")
    times = f"::pg_catalog.int8 OPERATOR(pg_catalog.*) '{_NUMBERS_PER_RELATION}'::pg_catalog.int8"
    among = f"::pg_catalog.int8) OPERATOR(pg_catalog.=) ANY ({_array(keys, 'int8')}) THEN "
    before = ("(CASE WHEN ((", owner, f"{times}) OPERATOR(pg_catalog.+) ", number, among)
    return _expression((*before, column, " END)"))
