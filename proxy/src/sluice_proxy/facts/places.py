"""ALTER … SET SCHEMA, and OWNER TO of what holds no rows."""

from __future__ import annotations

from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.definitions import check_type_changed
from sluice_proxy.facts.filtering import check_unfiltering
from sluice_proxy.facts.lasting import TABLES, changed, ddl_refused, note_moved
from sluice_proxy.facts.model import SessionEffects
from sluice_proxy.facts.rights import own
from sluice_proxy.facts.tree import Node, strings
from sluice_proxy.facts.unread import check_unread

_REFRESH = SessionEffects(refresh=True)
_MOVED = {
    "OBJECT_TABLE": TABLES,
    "OBJECT_SEQUENCE": "S",
    "OBJECT_VIEW": "v",
    "OBJECT_MATVIEW": "m",
}
_WHAT = "ALTER … SET SCHEMA"


def set_schema(a: Analysis, body: Node) -> SessionEffects | None:
    """ALTER TABLE, VIEW, MATERIALIZED VIEW, SEQUENCE and TYPE … SET SCHEMA."""
    kind, schema = body["objectType"], body["newschema"]
    if schema.startswith("pg_") or schema == "information_schema":
        raise ddl_refused(_WHAT)
    if kind == "OBJECT_TYPE":
        a.kind = "alter type"
        parts = strings(body["object"]["List"]["items"])
        check_type_changed(a, parts, _WHAT)
        if parts[-1] in a.allow.types:
            raise ddl_refused(f"{_WHAT} of a type with the name of one of PostgreSQL's own")
        a.actions.add("ddl.alter")
        a.nameless = True
        return _REFRESH
    if kind not in _MOVED:
        raise ddl_refused(_WHAT)
    a.kind = "alter table"
    table = changed(a, body["relation"], _WHAT, "ddl.alter", _MOVED[kind])
    check_unfiltering(a, schema, table.name, _WHAT)
    check_unread(table)
    note_moved(a, table)
    known = table.temporary or table.relation
    if known is not None and table.schema == "pg_temp":
        raise ddl_refused(f"{_WHAT} of what is temporary")
    if known is None or known.kind not in TABLES:
        a.nameless = True
    elif table.relation is not None:
        columns = tuple(column.name for column in table.relation.columns)
        a.lasting = (schema, table.name, columns)
    elif table.temporary is not None:
        a.lasting = (schema, table.name, table.temporary.columns)
    return _REFRESH


def owner(a: Analysis, body: Node) -> SessionEffects | None:
    """ALTER TYPE and DOMAIN … OWNER TO the session's own role.

    Not of schemas: who gets rights on one of search_path gets other functions by their names.
    """
    a.kind = "alter owner"
    if body["objectType"] not in ("OBJECT_TYPE", "OBJECT_DOMAIN"):
        raise ddl_refused("ALTER … OWNER TO of what is no table, view, sequence or type")
    if not own(a, body["newowner"]):
        raise ddl_refused("ALTER … OWNER TO another role")
    a.actions.add("ddl.alter")
    return None
