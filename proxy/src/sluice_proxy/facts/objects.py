"""Temporary sequences, views and comments of a restricted session, and upkeep of its temporary tables."""

from __future__ import annotations

from sluice_proxy.facts import sources
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.lasting import TABLES, ddl_refused, made, note_made
from sluice_proxy.facts.model import SessionEffects
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.temporary import owned, qualified_at
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
    owned(a, body["sequence"], "ALTER SEQUENCE", "S")
    _sequence_options(a, body)
    return None


def _sequence_options(a: Analysis, body: Node) -> None:
    for item in body.get("options", ()):
        _, option = unwrap(item)
        name, value = option["defname"], option.get("arg", {})
        if name == "owned_by" and strings(value["List"]["items"]) == ["none"]:
            continue
        if name not in _SEQUENCE_OPTIONS:
            raise ddl_refused("a sequence that belongs to a table")
        if "TypeName" in value:
            check_type(a, value["TypeName"])


def view(a: Analysis, body: Node) -> SessionEffects | None:
    """CREATE TEMPORARY VIEW: what it shows is rewritten, and it is a security barrier.

    Without the barrier PostgreSQL would run conditions of later queries on rows that the view's filters hide.
    """
    relation = body["view"]
    a.kind = "create view"
    a.visit(relation)
    if relation.get("relpersistence") != "t" and relation.get("schemaname") != "pg_temp":
        raise ddl_refused("CREATE VIEW")
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


_COMMENTED = {
    "OBJECT_TABLE": TABLES,
    "OBJECT_COLUMN": TABLES + "v",
    "OBJECT_VIEW": "v",
    "OBJECT_SEQUENCE": "S",
}


def comment(a: Analysis, body: Node) -> SessionEffects | None:
    """COMMENT ON."""
    a.kind = "comment"
    kinds = _COMMENTED.get(body["objtype"])
    if kinds is None:
        raise ddl_refused("COMMENT")
    parts = strings(body["object"]["List"]["items"])
    if body["objtype"] == "OBJECT_COLUMN":
        parts = parts[:-1]
    known = a.context.temporary.get(parts[-1])
    if len(parts) > 2 or (len(parts) == 2 and parts[0] != "pg_temp"):
        raise ddl_refused("COMMENT")
    if known is None or known.kind not in kinds:
        raise ddl_refused("COMMENT")
    qualified_at(a, a.span[0] + 3, parts)
    return None


def vacuum(a: Analysis, body: Node) -> SessionEffects | None:
    """VACUUM and ANALYZE of temporary tables."""
    a.kind = "vacuum" if body.get("is_vacuumcmd") else "analyze"
    for item in body.get("options", ()):
        _, option = unwrap(item)
        if option["defname"] not in _VACUUM_OPTIONS:
            raise not_understood(f"the option {option['defname']}")
    relations = [unwrap(item)[1] for item in body.get("rels", ())]
    if not relations:
        raise ddl_refused(f"{a.kind.upper()} of the whole database")
    for item in relations:
        owned(a, item["relation"], a.kind.upper())
    return None
