"""What of a decision cannot be carried out on a catalog, and what in it does nothing."""

from __future__ import annotations

from collections.abc import Iterator

from sluice_proxy.catalog.model import Catalog, Relation, RelationKind
from sluice_proxy.decisions import SessionDecision
from sluice_proxy.governed.classes import SYSTEM_SCHEMAS
from sluice_proxy.governed.entries import UNREVIEWED, Entries, RowFilters, is_exempt, is_pattern
from sluice_proxy.governed.filters import columns_of
from sluice_proxy.masks.sql import OWN_VALUE, fits


def problems(catalog: Catalog, decision: SessionDecision) -> tuple[str, ...]:
    """Return why the decision cannot be enforced as written; a restricted session is refused for any.

    Until somebody acts, what is named here is shown redacted or denied, never raw.
    """
    found = [
        *_mask_problems(catalog, decision),
        *_hash_problems(catalog, decision),
        *_filter_problems(catalog, decision),
    ]
    return tuple(dict.fromkeys(found))


def warnings(catalog: Catalog, decision: SessionDecision) -> tuple[str, ...]:
    """Return what the decision names and the catalog does not have; harmless, and often a slip."""
    found: list[str] = []
    for entry in decision.entries:
        if is_pattern(entry.table):
            continue
        relation = _by_name(catalog, entry.table)
        if relation is None:
            found.append(f'the classification names table "{entry.table}", which does not exist')
        elif not is_pattern(entry.column) and relation.column(entry.column) is None:
            found.append(
                f'the classification names column "{entry.column}" of table "{entry.table}", which does not exist'
            )
    found.extend(
        f'the row filter of policy {f.policy} names table "{f.table}", which does not exist'
        for f in decision.row_filters
        if not is_pattern(f.table) and _by_name(catalog, f.table) is None
    )
    return tuple(dict.fromkeys(found))


def _by_name(catalog: Catalog, qualified: str) -> Relation | None:
    """Return the relation of that ``schema.name``; either part may hold a dot of its own."""
    pieces = qualified.split(".")
    for i in range(1, len(pieces)):
        found = catalog.relation(".".join(pieces[:i]), ".".join(pieces[i:]))
        if found is not None:
            return found
    return None


def _user_relations(catalog: Catalog) -> Iterator[Relation]:
    for relation in catalog.by_oid.values():
        if relation.schema not in SYSTEM_SCHEMAS and relation.kind is not RelationKind.SEQUENCE:
            yield relation


def _mask_problems(catalog: Catalog, decision: SessionDecision) -> Iterator[str]:
    entries = Entries(decision)
    for relation in _user_relations(catalog):
        names = {column.name for column in relation.columns}
        for column in relation.columns:
            holding = entries.match(relation.qualified, column.name)
            if holding is None or holding.public or holding.class_ == UNREVIEWED:
                continue
            where = f'column "{column.name}" of "{relation.qualified}" (class {holding.class_})'
            why = fits(holding.mask, column.type)
            if why is not None:
                yield f"{where}: {why}; choose another mask, or null or redact, {_by_policies(decision)}"
            missing = columns_of(holding.mask.parts or ()) - names - {OWN_VALUE}
            if missing:
                yield (
                    f'{where}: its mask reads column "{min(missing)}", which does not exist there; '
                    f"change the expression {_by_policies(decision)}"
                )


def _hash_problems(catalog: Catalog, decision: SessionDecision) -> Iterator[str]:
    hashed = sorted(name for name, mask in decision.masks.items() if mask.kind == "hash")
    if hashed and catalog.hash_function is None:
        yield (
            f"the mask of class {hashed[0]} is hash, and the database has no sealed function sluice.hash(text); "
            "its owner installs what `sluice sql hash` prints"
        )


def _filter_problems(catalog: Catalog, decision: SessionDecision) -> Iterator[str]:
    rules = RowFilters(decision)
    for relation in _user_relations(catalog):
        names = {column.name for column in relation.columns}
        for row_filter in rules.matching(relation.qualified):
            if is_exempt(row_filter) or is_pattern(row_filter.table):
                # A pattern's tables without the column are denied one by one, with that reason.
                continue
            missing = columns_of(row_filter.parts) - names
            if missing:
                yield (
                    f'the row filter of policy {row_filter.policy} reads column "{min(missing)}", which '
                    f'"{relation.qualified}" does not have; change the filter or the table'
                )


def _by_policies(decision: SessionDecision) -> str:
    return f"in {', '.join(decision.policies)}" if decision.policies else "in the policy"
