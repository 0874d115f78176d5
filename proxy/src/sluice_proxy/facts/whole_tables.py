"""Statements over whole tables: LOCK and TRUNCATE."""

from __future__ import annotations

from sluice_proxy.facts import sources
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.filtering import Write, check_rows_kept
from sluice_proxy.facts.model import SessionEffects
from sluice_proxy.facts.naming import Resolved
from sluice_proxy.facts.refusals import refused
from sluice_proxy.facts.scopes import Level, Source
from sluice_proxy.facts.targets import over_governed, truncated_along
from sluice_proxy.facts.tree import Node, unwrap

_ROW_EXCLUSIVE = 3


def lock(a: Analysis, body: Node) -> SessionEffects | None:
    """LOCK TABLE; strong modes only where nothing is governed."""
    a.kind = "lock"
    mode = body.get("mode", 8)
    for item in body["relations"]:
        _, relation = unwrap(item)
        strong = mode > _ROW_EXCLUSIVE
        source = _named(a, relation, written=strong)
        if not strong or not a.enforcing:
            continue
        a.actions.add("update")
        known = a.context.temporary.get(relation["relname"]) if source.schema == "pg_temp" else None
        if (known is not None and known.kind == "v") or over_governed(a, source.relation, set()):
            raise refused(
                f'permission denied for LOCK TABLE of "{relation["relname"]}" in this mode',
                detail="A policy masks columns or filters rows of it, or of what is below it.",
                hint="IN ACCESS SHARE MODE, ROW SHARE MODE and ROW EXCLUSIVE MODE work.",
            )
    return None


def _named(a: Analysis, relation: Node, *, written: bool) -> Source:
    """Resolve and qualify a relation that a utility statement names."""
    a.visit(relation)
    resolved = sources.lookup(a, relation)
    source = sources.described(a, resolved, Level(None), None)
    if source.use is not None:
        source.use.written |= written
        source.use.read |= not written
    if a.enforcing:
        sources.qualify(a, relation, resolved)
    return source


def truncate(a: Analysis, body: Node) -> SessionEffects | None:
    """TRUNCATE, of tables whose rows are all shown."""
    a.kind = "truncate"
    for item in body["relations"]:
        _, relation = unwrap(item)
        source = _named(a, relation, written=True)
        if a.enforcing and source.governed is not None and source.governed.filters:
            raise _hides_rows(source.table)
        check_rows_kept(a, source.relation, Write.DELETE)
        if source.use is not None:
            a.actions.add("truncate")
        if body.get("behavior") == "DROP_CASCADE":
            _truncate_along(a, source)
    return None


def _truncate_along(a: Analysis, source: Source) -> None:
    """Judge the tables that CASCADE empties, too."""
    for relation in truncated_along(a, source.relation, set()):
        check_rows_kept(a, relation, Write.DELETE)
        use = a.use(Resolved(relation.schema, relation.name, relation))
        if use is not None:
            use.written = True
        governed = a.governed.get(relation.oid)
        if a.enforcing and governed is not None and governed.filters:
            raise _hides_rows(relation.name)


def _hides_rows(table: str | None) -> Exception:
    return refused(
        f'permission denied for TRUNCATE of table "{table}"',
        detail="It has rows that a policy hides.",
        hint="Use DELETE, which takes the rows that the policy shows.",
    )
