"""Sequences, views and comments of a restricted session, and upkeep of its tables."""

from __future__ import annotations

from sluice_proxy.facts import indexes, lasting_views, sources
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.lasting import TABLES, changed, ddl_refused, judge, made, note_made
from sluice_proxy.facts.model import SessionEffects
from sluice_proxy.facts.naming import resolve
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.temporary import qualified_at
from sluice_proxy.facts.tree import Node, strings, unwrap
from sluice_proxy.facts.types import check_type

_REFRESH = SessionEffects(refresh=True)
_SEQUENCE_COLUMNS = ("last_value", "log_cnt", "is_called")
_SEQUENCE_OPTIONS = frozenset(
    ["as", "cache", "cycle", "increment", "maxvalue", "minvalue", "restart", "start"]
)
_VACUUM_OPTIONS = frozenset(
    [
        "analyze",
        "buffer_usage_limit",
        "disable_page_skipping",
        "freeze",
        "full",
        "index_cleanup",
        "parallel",
        "process_main",
        "process_toast",
        "skip_locked",
        "truncate",
        "verbose",
    ]
)


def create_sequence(a: Analysis, body: Node) -> SessionEffects | None:
    """CREATE SEQUENCE."""
    relation = body["sequence"]
    a.kind = "create sequence"
    a.visit(relation)
    temporary = made(a, relation, "CREATE SEQUENCE")
    _sequence_options(a, body)
    if temporary or a.place is not None:
        note_made(a, body, relation["relname"], _SEQUENCE_COLUMNS)
    return _REFRESH


def alter_sequence(a: Analysis, body: Node) -> SessionEffects | None:
    """ALTER SEQUENCE."""
    a.kind = "alter sequence"
    changed(a, body["sequence"], "ALTER SEQUENCE", "ddl.alter", "S")
    _sequence_options(a, body)
    return None


def _sequence_options(a: Analysis, body: Node) -> None:
    for item in body.get("options", ()):
        _, option = unwrap(item)
        name, value = option["defname"], option.get("arg", {})
        if name == "owned_by":
            _owned_by(a, strings(value["List"]["items"]))
            continue
        if name not in _SEQUENCE_OPTIONS:
            raise ddl_refused("a sequence that belongs to a table")
        if "TypeName" in value:
            check_type(a, value["TypeName"])


def view(a: Analysis, body: Node) -> SessionEffects | None:
    """CREATE VIEW. What a temporary one shows is rewritten, and it is a security barrier.

    Without the barrier PostgreSQL would run conditions of later queries on rows that the view's filters hide.
    """
    relation = body["view"]
    a.kind = "create view"
    a.visit(relation)
    if relation.get("relpersistence") != "t" and relation.get("schemaname") != "pg_temp":
        return lasting_views.view(a, body)
    start, index = sources.name_span(a, relation)
    if "recursive" in (a.tokens.word(start - 2), a.tokens.word(start - 1)):
        raise not_understood("CREATE RECURSIVE VIEW", "Write WITH RECURSIVE in the view's query.")
    if body.get("withCheckOption", "NO_CHECK_OPTION") != "NO_CHECK_OPTION":
        raise not_understood("a temporary view with a check option: nothing is written through it")
    if a.tokens.raw(index) == b"(":
        index = a.tokens.close(index) + 1
    barrier = "WITH (security_barrier = true)"
    if body.get("options"):
        if any(unwrap(item)[1]["defname"] != "security_barrier" for item in body["options"]):
            raise not_understood("a temporary view with options")
        a.replace(index, a.tokens.close(index + 1) + 1, barrier)
    else:
        a.append(index, f" {barrier} ")
    kind, query = unwrap(body["query"])
    if kind != "SelectStmt" or "intoClause" in query:
        raise not_understood("a view of something else than a SELECT")
    a.query(a, query, None, end=a.span[1], role="top")
    no_settings(a)
    a.actions.add("select")
    return _REFRESH


def no_settings(a: Analysis) -> None:
    """Refuse a query that changes the session whenever it is run later."""
    if a.refresh:
        raise refused(
            "permission denied to set search_path inside a query", hint="Use SET search_path."
        )


def _owned_by(a: Analysis, parts: list[str]) -> None:
    """Judge the table that a sequence is to belong to."""
    if parts == ["none"]:
        return
    if len(parts) > 3:
        raise ddl_refused("a sequence that belongs to a table of another database")
    schema = parts[0] if len(parts) == 3 else None
    table = resolve(a.context, schema, parts[-2])
    if table.schema != "pg_temp":
        judge(a, table, "a sequence that belongs to a table", "ddl.alter", TABLES)


_COMMENTED = {
    "OBJECT_TABLE": TABLES,
    "OBJECT_COLUMN": TABLES + "vm",
    "OBJECT_VIEW": "v",
    "OBJECT_MATVIEW": "m",
    "OBJECT_SEQUENCE": "S",
    "OBJECT_TABCONSTRAINT": TABLES,
}
_COMMENTED_BY_NAME = frozenset(
    ["OBJECT_DOMAIN", "OBJECT_EXTENSION", "OBJECT_SCHEMA", "OBJECT_TYPE"]
)
"""What holds no rows: a comment on it changes nothing that a policy speaks of."""


def comment(a: Analysis, body: Node) -> SessionEffects | None:
    """COMMENT ON."""
    a.kind = "comment"
    kind = body["objtype"]
    start = a.span[0] + 3
    if kind in _COMMENTED_BY_NAME:
        if "TypeName" in body["object"]:
            a.visit(body["object"]["TypeName"])
        a.actions.add("ddl.alter")
        return None
    if kind not in _COMMENTED and kind != "OBJECT_INDEX":
        raise ddl_refused("COMMENT")
    parts = strings(body["object"]["List"]["items"])
    if kind == "OBJECT_INDEX":
        indexes.named(a, parts, start, "COMMENT ON INDEX", "ddl.alter")
        return None
    if kind in ("OBJECT_COLUMN", "OBJECT_TABCONSTRAINT"):
        parts = parts[:-1]
    if len(parts) > 2:
        raise ddl_refused("COMMENT")
    resolved = resolve(a.context, parts[0] if len(parts) == 2 else None, parts[-1])
    if resolved.schema != "pg_temp":
        judge(a, resolved, "COMMENT", "ddl.alter", _COMMENTED[kind])
    elif resolved.temporary is not None and resolved.temporary.kind not in _COMMENTED[kind]:
        raise ddl_refused("COMMENT")
    start += {"OBJECT_MATVIEW": 1, "OBJECT_TABCONSTRAINT": 2}.get(kind, 0)
    qualified_at(a, start, parts, resolved.schema)
    return None


def vacuum(a: Analysis, body: Node) -> SessionEffects | None:
    """VACUUM and ANALYZE of temporary tables, and of others that no policy speaks of."""
    a.kind = "vacuum" if body.get("is_vacuumcmd") else "analyze"
    for item in body.get("options", ()):
        _, option = unwrap(item)
        if option["defname"] not in _VACUUM_OPTIONS:
            raise not_understood(f"the option {option['defname']}")
    relations = [unwrap(item)[1] for item in body.get("rels", ())]
    if not relations:
        raise refused(
            f"permission denied for {a.kind.upper()} of the whole database",
            detail="It reaches tables that a policy speaks of.",
            hint=f"Name the tables: {a.kind.upper()} t1, t2.",
        )
    for item in relations:
        changed(a, item["relation"], a.kind.upper(), "ddl.other", TABLES + "m")
    return None
