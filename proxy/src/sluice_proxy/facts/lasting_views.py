"""Views and materialized views that stay, over what no policy speaks of."""

from __future__ import annotations

from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.indexes import see_options
from sluice_proxy.facts.lasting import (
    changed,
    governed_refused,
    judge,
    made,
    read_by_governed,
    tied_to_governed,
)
from sluice_proxy.facts.model import SessionEffects
from sluice_proxy.facts.naming import Resolved
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.tree import Node, unwrap

_REFRESH = SessionEffects(refresh=True)
_OF_THE_SESSION = frozenset({"definition", "query_text", "setting", "size"})
"""Categories of functions that are answered for one session."""


def view(a: Analysis, body: Node) -> SessionEffects | None:
    """CREATE VIEW: for later statements it is judged by the catalog, from its definition."""
    made(a, body["view"], "CREATE VIEW")
    place = a.place
    catalog = a.context.catalog
    if body.get("replace") and place is not None and catalog is not None:
        known = catalog.relation(place.schema, place.name)
        if known is not None:
            judge(a, Resolved(place.schema, place.name, known), "CREATE VIEW", "ddl.alter", "v")
            if read_by_governed(a, known):
                raise governed_refused(f'CREATE OR REPLACE VIEW "{place.name}"')
    see_options(a, body.get("options", []))
    _query(a, body["query"], a.span[1], "CREATE VIEW")
    a.nameless = True
    return _REFRESH


def materialized(a: Analysis, body: Node, end: int) -> SessionEffects | None:
    """CREATE MATERIALIZED VIEW; its query ends at token ``end``."""
    a.kind = "create materialized view"
    into = body["into"]["rel"]
    made(a, into, "CREATE MATERIALIZED VIEW")
    see_options(a, body["into"].get("options", []))
    _query(a, body["query"], end, "CREATE MATERIALIZED VIEW")
    a.nameless = True
    return _REFRESH


def refresh(a: Analysis, body: Node) -> SessionEffects | None:
    """REFRESH MATERIALIZED VIEW."""
    a.kind = "refresh materialized view"
    changed(a, body["relation"], "REFRESH MATERIALIZED VIEW", "ddl.other", "m")
    return None


def _query(a: Analysis, query: Node, end: int, what: str) -> None:
    """Walk the query of a definition that others will run.

    Raises:
        ClientError: What it reads is governed, or it tells of the session.
    """
    kind, select = unwrap(query)
    if kind != "SelectStmt" or "intoClause" in select:
        raise not_understood("a view of something else than a SELECT")
    a.query(a, select, None, end=end, role="top")
    a.actions.add("select")
    for source in a.sources:
        relation = source.relation
        if source.governed is not None or (relation is not None and tied_to_governed(a, relation)):
            raise refused(
                f'permission denied for {what} over "{source.table}"',
                detail="A policy masks columns or filters rows of it: the view would keep this session's masks for "
                "everybody, or none.",
                hint="CREATE TEMP VIEW works; let a role that no policy restricts make the view otherwise.",
            )
    names = [name.partition(".") for name in a.functions]
    told = [name for schema, _, name in names if schema == "pg_catalog"]
    if a.refresh or any(a.allow.function(name) in _OF_THE_SESSION for name in told):
        raise refused(
            f"permission denied for {what} with functions that tell of the session",
            hint="Call them where the view is read.",
        )
