"""Tables that stay, and what a restricted session may change of them: those that no policy speaks of."""

from __future__ import annotations

from sluice_proxy.catalog.model import Relation
from sluice_proxy.facts import sources
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.naming import Resolved
from sluice_proxy.facts.refusals import refused
from sluice_proxy.facts.tree import Node

TABLES = "rp"
"""Kinds of relations that are tables."""


def ddl_refused(what: str) -> Exception:
    """Return the refusal of changing what the session may not change."""
    return refused(
        f"permission denied for {what}",
        detail="A session that a policy restricts may change and drop what is temporary, and tables that no policy "
        "masks or filters where the policy has the actions ddl.create, ddl.alter and ddl.drop.",
        hint="Use CREATE TEMP TABLE, or another database role.",
    )


def changed(a: Analysis, relation: Node, what: str, action: str, kinds: str = TABLES) -> Resolved:
    """Return the relation that is to be changed, and qualify its name.

    Raises:
        ClientError: It is governed, or tied to what is.
    """
    a.visit(relation)
    resolved = sources.lookup(a, relation)
    if resolved.schema == "pg_temp":
        if resolved.temporary and resolved.temporary.kind not in kinds:
            raise ddl_refused(what)
    else:
        judge(a, resolved, what, action, kinds)
    sources.qualify(a, relation, resolved)
    return resolved


def judge(a: Analysis, resolved: Resolved, what: str, action: str, kinds: str) -> None:
    """Judge the change of a relation that stays, and note that it needs an action of the policy."""
    relation = resolved.relation
    if resolved.temporary is not None:
        if resolved.temporary.kind not in kinds:
            raise ddl_refused(what)
    elif relation is None or relation.kind not in kinds or relation.has_rules:
        raise ddl_refused(what)
    elif resolved.schema in ("pg_catalog", "information_schema") or _tied(a, relation, set()):
        raise ddl_refused(f'{what} of "{resolved.name}"')
    a.actions.add(action)
    use = a.use(resolved)
    if use is not None:
        use.written = True


def _tied(a: Analysis, relation: Relation | None, seen: set[int]) -> bool:
    """Say whether a relation is governed, or one that it inherits from, is inherited by or reads."""
    if relation is None or a.context.catalog is None:
        return True
    if relation.oid in seen:
        return False
    seen.add(relation.oid)
    if relation.oid in a.governed:
        return True
    below = relation.view.relations if relation.view else ()
    around = (*relation.children, *relation.parents, *below)
    return any(_tied(a, a.context.catalog.by_oid.get(oid), seen) for oid in around)
