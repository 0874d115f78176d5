"""Which statements a pin in their text cannot hold to the catalog that they were judged by."""

from __future__ import annotations

from typing import Final

from sluice_proxy.catalog.model import Catalog, RelationKind
from sluice_proxy.decisions import Level, SessionContext
from sluice_proxy.facts.model import StatementFacts

_SYSTEM: Final = ("pg_catalog.", "information_schema.")
_DEFINING: Final = "ddl."
_READING: Final = frozenset({"select", "session", "copyOut", "explain"})


def catalog_check(facts: StatementFacts, context: SessionContext) -> str:
    """Return when the data plane has the catalog looked at; the values are those of ``_native.PlannedStatement``.

    The definition of a view or function, and what belongs to a parent, change without a change of the relation that
    the text names. Definitions take no pin, and a column that got another name would keep it.
    """
    catalog, decision = context.catalog, context.decision
    if catalog is None or decision.level is not Level.RESTRICTED or decision.observe:
        return "none"
    drifts = any(not name.startswith(_SYSTEM) for name in facts.functions) or any(
        _drifts(catalog, table.name) for table in facts.tables
    )
    if any(action.startswith(_DEFINING) for action in facts.actions):
        return "sending"
    if not drifts:
        return "none"
    written = any(table.written for table in facts.tables)
    return "sending" if written or set(facts.actions) - _READING else "answer"


def _drifts(catalog: Catalog, qualified: str) -> bool:
    if qualified.startswith(_SYSTEM):
        return False
    schema, _, name = qualified.partition(".")
    relation = catalog.relation(schema, name)
    if relation is None:
        # One of the session's own; or a name with a dot in it, of which nothing is known here.
        return "." in name
    return relation.kind in (RelationKind.VIEW, RelationKind.PARTITIONED) or bool(relation.children)
