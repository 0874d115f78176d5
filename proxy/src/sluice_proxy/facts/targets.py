"""The target of a write: what may be written, what that tells, and the filters that its WHERE clause gets."""

from __future__ import annotations

from sluice_proxy.facts import sources
from sluice_proxy.facts.analysis import Analysis
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
            raise refused(f'permission denied for relation "{resolved.schema}.{resolved.name}"')
        if (
            source.relation is not None
            and source.relation.has_rules
            and source.relation.kind != "v"
        ):
            raise refused(
                f'permission denied for table "{resolved.name}"', detail="It has rewrite rules."
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


def note_written(a: Analysis, source: Source, names: set[str]) -> None:
    """Record the columns that are supplied, and the key oracle that this may be."""
    if source.use is not None:
        source.use.writes.update(names)
    if source.governed is None or source.relation is None:
        return
    masked = hidden(source)
    for coupling in source.relation.couplings:
        if not coupling.columns & names:
            continue
        if coupling.kind == "key" and (coupling.columns & masked or source.governed.filters):
            a.write_oracles.add("keys")


def note_row_values(a: Analysis, source: Source, names: set[str]) -> None:
    """Note the oracle of changing a column that is checked together with a hidden one of the same row."""
    if source.governed is None or source.relation is None:
        return
    # A generated column is in its own coupling: it is computed from the others, not read.
    masked = hidden(source) - {
        column.name for column in source.relation.columns if column.generated
    }
    for coupling in source.relation.couplings:
        if (
            coupling.kind == "row_value"
            and coupling.columns & names
            and (coupling.columns - names) & masked
        ):
            a.write_oracles.add("rowValues")


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
