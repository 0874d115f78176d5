"""Which relations a definition touches, of sessions in which nothing is masked: a policy may deny it by their names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sluice_proxy.decisions import Level
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.model import SessionEffects, TableUse
from sluice_proxy.facts.naming import Resolved, resolve
from sluice_proxy.facts.tree import Node, dictionaries, unwrap

_RELATIONS = frozenset(
    [
        *("OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_FOREIGN_TABLE"),
        *("OBJECT_SEQUENCE", "OBJECT_INDEX"),
    ]
)
_PARTS = frozenset(
    ["OBJECT_COLUMN", "OBJECT_TABCONSTRAINT", "OBJECT_TRIGGER", "OBJECT_POLICY", "OBJECT_RULE"]
)
"""Their names follow the name of the table that they belong to."""
_EVERYTHING = frozenset(["DropOwnedStmt", "ReassignOwnedStmt", "AlterTableMoveAllStmt"])
_UNNAMING = frozenset(["AlterObjectSchemaStmt", "DropStmt", "RenameStmt"])
_NAMING = _EVERYTHING | _UNNAMING | frozenset(["CreateStmt", "CreateSeqStmt", "DoStmt", "ViewStmt"])
"""What changes which relation a name means, or may do so."""
_SYSTEM = frozenset(["pg_catalog", "information_schema", "pg_toast"])


def touch(a: Analysis, kind: str, body: Node) -> None:
    """Record what a statement that is not walked names as written: relations, their indexes, columns and triggers.

    What takes whole schemas also has an entry without a dot, so that no rule for certain tables allows it.
    """
    for schema, name in _names(body):
        for found in _meant(a, schema, name):
            use = a.use(found)
            if use is not None:
                use.written = True
    schemas = _schemas(kind, body)
    catalog = a.context.catalog
    if schemas == set() or a.context.decision.level is Level.OPEN:
        return
    for whole in schemas or ("*",):
        a.uses.setdefault(whole, TableUse(whole)).written = True
    for relation in catalog.by_oid.values() if catalog is not None else ():
        if relation.schema not in _SYSTEM and (schemas is None or relation.schema in schemas):
            a.uses.setdefault(relation.qualified, TableUse(relation.qualified)).written = True


def changes(a: Analysis, kind: str, body: Node) -> SessionEffects | None:
    """Say that the session's state is to be read anew, and which of its temporary relations have no such name any more.

    Otherwise the name of one that is gone would go on standing for it, and pass what a policy denies of a table of
    the same name.
    """
    if a.context.decision.level is not Level.GUARDED or kind not in _NAMING:
        return None
    temporary = a.context.temporary
    if kind in _EVERYTHING or kind == "DoStmt" or body.get("behavior") == "DROP_CASCADE":
        a.dropped = tuple(temporary)
    elif kind in _UNNAMING:
        a.dropped = tuple(name for _, name in _names(body) if name in temporary)
    a.nameless = not a.dropped
    return SessionEffects(refresh=True)


def _names(body: Node) -> Iterator[tuple[str | None, str]]:
    for _, node in dictionaries(body):
        if "relname" in node:
            yield node.get("schemaname"), node["relname"]
    kind = body.get("removeType") or body.get("objtype")
    if kind not in _RELATIONS | _PARTS:
        return
    for item in [*body.get("objects", ()), *([body["object"]] if "object" in body else ())]:
        parts = _parts(item)
        parts = parts[:-1] if kind in _PARTS else parts
        if parts:
            yield (parts[-2] if len(parts) > 1 else None), parts[-1]


def _parts(item: Any) -> list[str]:
    kind, node = unwrap(item)
    if kind != "List":
        return []
    return [part["String"].get("sval", "") for part in node.get("items", ()) if "String" in part]


def _meant(a: Analysis, schema: str | None, name: str) -> list[Resolved]:
    """Return the relation of that name, or the tables that have an index of that name."""
    found = resolve(a.context, schema, name)
    catalog = a.context.catalog
    if found.found or catalog is None:
        return [found]
    tables = [
        catalog.by_oid[table]
        for place, table in catalog.indexes.get(name, ())
        if schema in (None, place) and table in catalog.by_oid
    ]
    return [Resolved(each.schema, each.name, each) for each in tables] or [found]


def _schemas(kind: str, body: Node) -> set[str] | None:
    """Return the schemas all of whose relations a statement touches; None: it may be any relation."""
    if kind in _EVERYTHING:
        return None
    dropped = body.get("removeType") == "OBJECT_SCHEMA" and body.get("behavior") == "DROP_CASCADE"
    if dropped or body.get("targtype") == "ACL_TARGET_ALL_IN_SCHEMA":
        return {unwrap(item)[1].get("sval", "") for item in body["objects"]}
    return set()
