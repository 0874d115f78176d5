"""Puts classes, masks and row filters together, relation by relation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from sluice_proxy.catalog.model import Catalog, Relation, RelationKind
from sluice_proxy.decisions import Mask, Parts, SessionDecision
from sluice_proxy.governed import catalogs
from sluice_proxy.governed.classes import SYSTEM_SCHEMAS, Classes
from sluice_proxy.governed.deciding import Deciding
from sluice_proxy.governed.entries import Entries, Holding, RowFilters
from sluice_proxy.governed.filters import RowRules, columns_of
from sluice_proxy.masks.order import REDACT
from sluice_proxy.masks.sql import fits

_REMEMBERED_MAX = 16
"""Answers kept: one for each catalog and decision in force, and a few that are on their way out."""


@dataclass(frozen=True, slots=True)
class GovernedRelation:
    """What a session owes one relation."""

    relation: Relation
    classes: Mapping[str, str]
    """Class by column, classified (or unreviewed) columns only; empty for catalogs."""
    masks: Mapping[str, Mask]
    """Columns whose mask is not ``none``."""
    filters: tuple[Parts, ...]
    """Over the relation's own columns; all of them hold."""
    filter_columns: frozenset[str]
    denial: str | None
    """Why nothing may read it, as a sentence without its full stop; else None."""


_remembered: OrderedDict[
    tuple[int, int], tuple[Catalog, SessionDecision, Mapping[int, GovernedRelation]]
] = OrderedDict()


def governed_relations(
    catalog: Catalog, decision: SessionDecision
) -> Mapping[int, GovernedRelation]:
    """Return, by oid, every relation for which anything holds; one that is absent is shown as it is.

    Remembers its last answers by the identity of its arguments: ask with the same objects.
    """
    key = (id(catalog), id(decision))
    known = _remembered.get(key)
    if known is not None:
        _remembered.move_to_end(key)
        return known[2]
    answer = _work_out(catalog, decision)
    # The arguments are kept with the answer, so that their identities stay theirs.
    _remembered[key] = (catalog, decision, answer)
    while len(_remembered) > _REMEMBERED_MAX:
        _remembered.popitem(last=False)
    return answer


def _work_out(catalog: Catalog, decision: SessionDecision) -> dict[int, GovernedRelation]:
    classes = Classes(catalog, Entries(decision))
    rules = RowRules(catalog, RowFilters(decision))
    sequences: dict[int, str] = {}
    deciding = Deciding(classes, rules.filters, sequences)
    found: dict[int, GovernedRelation] = {}

    def govern(*, views: bool) -> None:
        for relation in catalog.by_oid.values():
            if relation.schema in SYSTEM_SCHEMAS or relation.kind is RelationKind.SEQUENCE:
                continue
            if (relation.view is not None) is views:
                governed = _governed(relation, classes, rules, deciding)
                if governed is not None:
                    found[relation.oid] = governed

    govern(views=False)
    for relation in catalog.by_oid.values():
        if relation.kind is RelationKind.SEQUENCE:
            denial = _sequence_denial(relation, catalog, found)
            if denial is not None:
                found[relation.oid] = GovernedRelation(relation, {}, {}, (), frozenset(), denial)
                sequences[relation.oid] = denial
    govern(views=True)
    for relation, masks, denial, rows in catalogs.governed(
        catalog, {o: g.classes for o, g in found.items()}
    ):
        filters = (rows,) if rows else ()
        found[relation.oid] = GovernedRelation(
            relation, {}, masks, filters, frozenset(columns_of(rows)), denial
        )
    return found


def _governed(
    relation: Relation, classes: Classes, rules: RowRules, deciding: Deciding
) -> GovernedRelation | None:
    held: dict[str, Holding] = {}
    for column in relation.columns:
        holding = classes.column(relation, column.name)
        if not holding.public:
            held[column.name] = holding
    rows = rules.rows(relation)
    denial = rows.denial or deciding.denial(relation)
    if not held and not rows.filters and denial is None:
        return None
    filters = tuple(f.parts for f in rows.filters)
    return GovernedRelation(
        relation=relation,
        classes={name: holding.class_ for name, holding in held.items()},
        masks=_masks(relation, held, classes.catalog),
        filters=filters,
        filter_columns=frozenset(name for parts in filters for name in columns_of(parts)),
        denial=denial,
    )


def _masks(relation: Relation, held: Mapping[str, Holding], catalog: Catalog) -> Mapping[str, Mask]:
    """Return the masks as they will be applied: what does not fit is redacted (``check.problems`` says so)."""
    masks: dict[str, Mask] = {}
    for column in relation.columns:
        holding = held.get(column.name)
        if holding is None or holding.mask.kind == "none":
            continue
        mask = holding.mask
        keyless = mask.kind == "hash" and catalog.hash_function is None
        masks[column.name] = REDACT if keyless or fits(mask, column.type) is not None else mask
    return masks


def _sequence_denial(
    relation: Relation, catalog: Catalog, found: Mapping[int, GovernedRelation]
) -> str | None:
    """A sequence counts the rows of the table that owns it, hidden ones too, and tells masked keys."""
    if relation.owned_by is None:
        return None
    owner = found.get(relation.owned_by[0])
    if owner is None:
        return None
    name = catalog.by_oid[relation.owned_by[0]].qualified
    if owner.filters or owner.denial is not None:
        return (
            f'sequence "{relation.qualified}" counts the rows of "{name}", some of which are hidden'
        )
    if relation.owned_by[1] in owner.masks:
        column = relation.owned_by[1]
        return f'sequence "{relation.qualified}" tells the values of "{name}.{column}", which is masked'
    return None
