"""The target of a write: what may be written, what that tells, and the filters that its WHERE clause gets."""

from __future__ import annotations

from collections.abc import Iterator

from sluice_proxy.catalog.model import Coupling, Relation
from sluice_proxy.facts import sources
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.filtering import Write, check_rows_kept
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.predicates import clause
from sluice_proxy.facts.projection import filter_sql, pin
from sluice_proxy.facts.refusals import refused
from sluice_proxy.facts.scopes import Level, Source
from sluice_proxy.facts.tree import Node
from sluice_proxy.facts.unread import check_unread


def target_of(a: Analysis, body: Node, level: Level) -> Source:
    """Resolve the target and add it to the level; its name is qualified and stays."""
    relation = body["relation"]
    a.visit(relation)
    resolved = sources.lookup(a, relation)
    if "override" not in body or "returningClause" in body or "onConflictClause" in body:
        check_unread(resolved)  # More than an INSERT.
    alias = relation.get("alias", {}).get("aliasname")
    source = sources.described(a, resolved, level, alias)
    source.target = True
    source.only = not relation.get("inh", False)
    if source.use is not None:
        source.use.written = True
    if a.enforcing:
        if resolved.schema in ("pg_catalog", "information_schema"):
            raise refused(
                f'permission denied for relation "{resolved.schema}.{resolved.name}"',
                detail="Sessions that a policy restricts do not write to catalogs.",
                hint="Use SET for settings, and the statement that makes or changes the object for all else.",
            )
        if source.relation is not None and source.relation.has_rules:
            kind = "view" if source.relation.kind == "v" else "table"
            raise refused(
                f'permission denied for {kind} "{resolved.name}"',
                detail="Its rewrite rules may read and show what a policy hides.",
                hint="Write to the table below it, or ask the database's owner for an INSTEAD OF trigger."
                if kind == "view"
                else None,
            )
        if resolved.temporary is not None and resolved.temporary.kind == "v":
            raise refused(
                f'permission denied for view "{resolved.name}"',
                detail="Nothing is written through temporary views.",
                hint="Write to the table itself.",
            )
        sources.qualify(a, relation, resolved)
        a.target_alias = alias
        if source.governed is not None:
            a.raw_targets.append(source)
    level.sources.append(source)
    return source


def hidden(source: Source) -> frozenset[str]:
    """Return the columns whose raw values the session may not see."""
    return frozenset(source.governed.masks) if source.governed else frozenset()


def note_written(a: Analysis, source: Source, names: set[str], *, changed: bool = False) -> None:
    """Record the columns that are supplied, and the key oracle that this may be, or one that values can be searched by.

    Args:
        a: The statement.
        source: The target.
        names: Its columns.
        changed: Of rows that are there; nothing refers to new ones.
    """
    if source.use is not None:
        source.use.writes.update(names)
    note_keys(a, source.relation, frozenset(names), changed=changed)


def note_keys(
    a: Analysis, target: Relation | None, names: frozenset[str], *, changed: bool = True
) -> None:
    """Record the oracle that other values in these columns are: the server looks for keys that meet them.

    What gives a column another type gives it other values, too.
    """
    for relation, columns in _written(a, target, names):
        check_rows_kept(a, relation, Write.UPDATE if changed else Write.INSERT, columns)
        governed = a.governed.get(relation.oid)
        hides = governed is not None and bool(governed.filters)
        masked = frozenset(governed.masks) if governed is not None else frozenset[str]()
        for coupling in relation.couplings:
            if coupling.kind != "key" or not coupling.columns & columns:
                continue
            other = changed or not coupling.referred
            if hides or coupling.columns & masked or (other and _hides_keys(a, relation, coupling)):
                a.write_oracles.add("keys")
            if coupling.overlaps and (
                coupling.columns & masked or _masks_keys(a, relation, coupling)
            ):
                a.write_oracles.add("rowValues")


def note_deleted(a: Analysis, source: Source) -> None:
    """Record the key oracle of deleting rows that hidden ones may refer to."""
    for relation, _ in _written(a, source.relation, frozenset()):
        check_rows_kept(a, relation, Write.DELETE)
        if any(each.referred and _hides_keys(a, relation, each) for each in relation.couplings):
            a.write_oracles.add("keys")


def _hides_keys(a: Analysis, relation: Relation, coupling: Coupling) -> bool:
    """Say whether the other end of a foreign key has hidden rows, or masks the columns that it is made of."""
    governed = a.governed.get(coupling.other) if coupling.other is not None else None
    return governed is not None and (bool(governed.filters) or _masks_keys(a, relation, coupling))


def _masks_keys(a: Analysis, relation: Relation, coupling: Coupling) -> bool:
    """Say whether the columns at the other end of a foreign key are masked."""
    governed = a.governed.get(coupling.other) if coupling.other is not None else None
    if governed is None:
        return False
    ends = (each for each in governed.relation.couplings if each.other == relation.oid)
    return any(each.columns & governed.masks.keys() for each in ends)


def truncated_along(a: Analysis, relation: Relation | None, seen: set[int]) -> Iterator[Relation]:
    """Yield the tables that TRUNCATE … CASCADE empties beside a table."""
    catalog = a.context.catalog
    if relation is None or catalog is None or relation.oid in seen:
        return
    seen.add(relation.oid)
    referring = [each.other for each in relation.couplings if each.referred and each.other]
    for oid in (*relation.children, *referring):
        found = catalog.by_oid.get(oid)
        if found is not None and oid not in seen:
            yield found
            yield from truncated_along(a, found, seen)


def reaches_governed(a: Analysis, relation: Relation | None, seen: set[int]) -> bool:
    """Say whether writing a relation may run triggers over what is governed, by its own or by foreign keys."""
    if relation is None or relation.oid in seen or a.context.catalog is None:
        return False
    seen.add(relation.oid)
    if relation.has_triggers or relation.oid in a.governed:
        return True
    view = relation.view.relations if relation.view else ()
    around = (*relation.children, *view, *(each.other for each in relation.couplings if each.other))
    return any(reaches_governed(a, a.context.catalog.by_oid.get(oid), seen) for oid in around)


def over_governed(a: Analysis, relation: Relation | None, seen: set[int]) -> bool:
    """Say whether a plan of the relation would show a governed one, through views and children."""
    if relation is None or relation.oid in seen or a.context.catalog is None:
        return False
    seen.add(relation.oid)
    if relation.oid in a.governed and relation.schema not in ("pg_catalog", "information_schema"):
        return True
    below = (*relation.children, *(relation.view.relations if relation.view else ()))
    return any(over_governed(a, a.context.catalog.by_oid.get(oid), seen) for oid in below)


def note_row_values(a: Analysis, source: Source, names: set[str]) -> None:
    """Note the oracle of changing a column that is checked together with a hidden one of the same row."""
    for relation, columns in _written(a, source.relation, frozenset(names)):
        governed = a.governed.get(relation.oid)
        if governed is None:
            continue
        # A generated column is in its own coupling: it is computed from the others, not read.
        masked = frozenset(governed.masks) - {
            column.name for column in relation.columns if column.generated
        }
        for coupling in relation.couplings:
            if (
                coupling.kind == "row_value"
                and coupling.columns & columns
                and (coupling.columns - columns) & masked
            ):
                a.write_oracles.add("rowValues")


def _written(
    a: Analysis, relation: Relation | None, names: frozenset[str]
) -> Iterator[tuple[Relation, frozenset[str]]]:
    """Yield a target, the table below a view and what inherits, each with its own names of the columns."""
    catalog = a.context.catalog
    if relation is None or catalog is None:
        return
    yield relation, names
    for oid in relation.children:
        yield from _written(a, catalog.by_oid.get(oid), names)
    view = relation.view
    if view is not None and view.row_base is not None:
        origins = (view.columns[name].direct for name in names if name in view.columns)
        below = frozenset(name for oid, name in filter(None, origins) if oid == view.row_base)
        yield from _written(a, catalog.by_oid.get(view.row_base), below)


def filtered(
    a: Analysis, node: Node | None, target: Source, start: int, end: int, *, word: str = "where"
) -> None:
    """Add the row filters and the pin to the condition of a write; without one, before RETURNING."""
    text = " AND ".join(conditions(a, target))
    if not text:
        return
    if node is None:
        a.append(_before_returning(a, start, end), f"\nWHERE {text}")
    else:
        first, last = clause(a, node, word)
        a.wrapping.append((first, last, f") AND {text}"))


def conditions(a: Analysis, target: Source) -> list[str]:
    """Return the row filters and the pin of a target, over its own name."""
    if not a.enforcing or target.governed is None:
        return []
    return [filter_sql(parts, _references(target)) for parts in target.governed.filters] + pin(
        target
    )


def _references(target: Source) -> dict[str, str]:
    columns = target.relation.columns if target.relation else ()
    return {column.name: f"{quoted(target.refname)}.{quoted(column.name)}" for column in columns}


def _before_returning(a: Analysis, start: int, end: int) -> int:
    tokens, index = a.tokens, start
    while index < end:
        if tokens.raw(index) in (b"(", b"["):
            index = tokens.close(index) + 1
            continue
        if tokens.word(index) == "returning":
            return index
        index += 1
    return end
