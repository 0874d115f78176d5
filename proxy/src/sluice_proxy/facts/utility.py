"""Statements that are no queries: an allow-list, each with what it does to its session."""

from __future__ import annotations

from collections.abc import Callable

from sluice_proxy.catalog.model import Relation
from sluice_proxy.facts import (
    copying,
    definitions,
    indexes,
    lasting_views,
    objects,
    sources,
    temporary,
)
from sluice_proxy.facts.analysis import Analysis, constant_string
from sluice_proxy.facts.expressions import every, expression
from sluice_proxy.facts.model import SessionEffects, TableUse
from sluice_proxy.facts.naming import Resolved
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.scopes import Level, Source
from sluice_proxy.facts.setting_calls import check_search_path
from sluice_proxy.facts.settings import settings_allowed
from sluice_proxy.facts.targets import reaches_governed, truncated_along
from sluice_proxy.facts.tree import Node, unwrap
from sluice_proxy.facts.types import check_type

Handler = Callable[[Analysis, Node], SessionEffects | None]
QUERIES = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


def inner(a: Analysis, node: Node) -> str:
    """Walk the query inside of another statement; return its node type."""
    kind, body = unwrap(node)
    if kind == "SelectStmt":
        a.actions.add("select")
        a.query(a, body, None, end=a.span[1], role="top")
    elif kind in QUERIES:
        a.write(a, kind, body, None, end=a.span[1])
    else:
        raise not_understood(f"{kind} inside another statement")
    objects.no_settings(a)
    return kind


def _transaction(a: Analysis, body: Node) -> SessionEffects | None:
    kind = body["kind"]
    a.kind = kind.removeprefix("TRANS_STMT_").lower()
    if kind in (
        "TRANS_STMT_BEGIN",
        "TRANS_STMT_START",
        "TRANS_STMT_SAVEPOINT",
        "TRANS_STMT_RELEASE",
    ):
        for option in body.get("options", ()):
            _, element = unwrap(option)
            if element["defname"] not in (
                "transaction_isolation",
                "transaction_read_only",
                "transaction_deferrable",
            ):
                raise not_understood("an option of BEGIN")
        return None
    if kind in ("TRANS_STMT_COMMIT", "TRANS_STMT_ROLLBACK", "TRANS_STMT_ROLLBACK_TO"):
        return SessionEffects(refresh=True)
    raise refused(
        "permission denied for two-phase commit",
        detail="What is prepared outlives the session, and the policy under which it was done.",
        hint="End the transaction with COMMIT or ROLLBACK.",
    )


def _set(a: Analysis, body: Node) -> SessionEffects | None:
    kind, name = body["kind"], body.get("name", "").lower()
    a.kind = "reset" if kind.startswith("VAR_RESET") else "set"
    if kind == "VAR_RESET_ALL":
        return SessionEffects(refresh=True)
    if kind == "VAR_SET_MULTI":
        if name not in ("transaction", "session characteristics"):
            raise refused(f"permission denied for SET {name.upper()}")
        return None
    values = [
        constant_string(arg) if constant_string(arg) is not None else _number(arg)
        for arg in body.get("args", ())
    ]
    if any(value is None for value in values) and name != "timezone":
        raise not_understood("a setting whose value is not a constant")
    given = ", ".join(str(value) for value in values) if kind == "VAR_SET_VALUE" else None
    own = (
        name == "role" and given == a.context.role
    )  # As migration tools end, having asked who they are.
    reason = settings_allowed(name, "none" if own else given)
    if reason is not None:
        raise refused(
            f'permission denied to set parameter "{name}"',
            detail=reason[0].upper() + reason[1:] + ".",
            hint="Leave the setting as the database's owner has it.",
        )
    if name == "search_path":
        check_search_path([str(value) for value in values])
        return SessionEffects(refresh=True)
    return None


def _number(node: Node) -> str | None:
    while "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    constant = node.get("A_Const")
    if constant is None:
        return None
    if "ival" in constant:
        return str(constant["ival"].get("ival", 0))
    if "fval" in constant:
        return str(constant["fval"].get("fval", ""))
    return (
        str(constant.get("boolval", {}).get("boolval", False)).lower()
        if "boolval" in constant
        else None
    )


def _show(a: Analysis, body: Node) -> SessionEffects | None:
    a.kind = "show"
    if a.enforcing and not a.allow.setting_readable(body["name"]):
        raise refused(f'permission denied to examine "{body["name"]}"')
    return None


def _discard(a: Analysis, body: Node) -> SessionEffects | None:
    a.kind = "discard"
    target = body.get("target", "DISCARD_ALL")
    if target == "DISCARD_ALL":
        return SessionEffects(refresh=True, deallocate_all=True, close_all_cursors=True)
    return SessionEffects(refresh=True) if target == "DISCARD_TEMP" else None


def _prepare(a: Analysis, body: Node) -> SessionEffects | None:
    for item in body.get("argtypes", ()):
        check_type(a, unwrap(item)[1])
    inner(a, body["query"])
    a.kind = "prepare"
    return SessionEffects(prepare=body["name"])


def _execute(a: Analysis, body: Node) -> SessionEffects | None:
    every(a, body.get("params"), Level(None))
    a.kind = "execute"
    return SessionEffects(execute=body["name"])


def _deallocate(a: Analysis, body: Node) -> SessionEffects | None:
    a.kind = "deallocate"
    name = body.get("name")
    return SessionEffects(deallocate=name) if name else SessionEffects(deallocate_all=True)


def _declare(a: Analysis, body: Node) -> SessionEffects | None:
    inner(a, body["query"])
    a.kind = "declare"
    return SessionEffects(declare=body["portalname"])


def _fetch(a: Analysis, body: Node) -> SessionEffects | None:
    a.kind = "move" if body.get("ismove") else "fetch"
    return SessionEffects(fetch=body["portalname"])


def _close(a: Analysis, body: Node) -> SessionEffects | None:
    a.kind = "close"
    name = body.get("portalname")
    return SessionEffects(close_cursor=name) if name else SessionEffects(close_all_cursors=True)


def _explain(a: Analysis, body: Node) -> SessionEffects | None:
    kind, query = unwrap(body["query"])
    if kind not in QUERIES:
        raise refused(
            f"permission denied for EXPLAIN of {_EXPLAINED_NOT.get(kind, 'this statement')}",
            detail="Plans are shown of SELECT, INSERT, UPDATE, DELETE and MERGE that read no governed table.",
            hint="EXPLAIN the query itself.",
        )
    del query
    for option in body.get("options", ()):
        _, element = unwrap(option)
        if element["defname"] not in _EXPLAIN:
            raise not_understood(f"the EXPLAIN option {element['defname']}")
    inner(a, body["query"])
    a.kind = "explain"
    a.actions.add("explain")
    if a.enforcing and any(_over_governed(a, source.relation, set()) for source in a.sources):
        raise _explained()
    if a.enforcing and any(_runs_triggers(a, use) for use in a.uses.values()):
        raise _explained()
    if a.enforcing and any(use.governed for use in a.uses.values()):
        raise _explained()
    return None


_EXPLAINED_NOT = {
    "CreateTableAsStmt": "CREATE TABLE AS",
    "DeclareCursorStmt": "DECLARE",
    "ExecuteStmt": "EXECUTE",
}


def _runs_triggers(a: Analysis, use: TableUse) -> bool:
    """Say whether EXPLAIN ANALYZE of a write would count the rows of governed tables that triggers met."""
    if not use.written or a.context.catalog is None:
        return False
    found = next((r for r in a.context.catalog.by_oid.values() if r.qualified == use.name), None)
    return reaches_governed(a, found, set())


def _over_governed(a: Analysis, relation: Relation | None, seen: set[int]) -> bool:
    """Say whether a plan of the relation would show a governed one, through views and children."""
    if relation is None or relation.oid in seen or a.context.catalog is None:
        return False
    seen.add(relation.oid)
    if relation.oid in a.governed and relation.schema not in ("pg_catalog", "information_schema"):
        return True
    below = (*relation.children, *(relation.view.relations if relation.view else ()))
    return any(_over_governed(a, a.context.catalog.by_oid.get(oid), seen) for oid in below)


_EXPLAIN = frozenset(
    [
        "analyze",
        "verbose",
        "costs",
        "settings",
        "buffers",
        "wal",
        "timing",
        "summary",
        "format",
        "generic_plan",
        "memory",
        "serialize",
    ]
)


def _explained() -> Exception:
    return refused(
        "permission denied for EXPLAIN of a statement that reads a governed table",
        detail="A plan tells of rows and values that a policy hides.",
        hint="Run the statement itself, or ask the policy's owner.",
    )


def _call(a: Analysis, body: Node) -> SessionEffects | None:
    expression(a, {"FuncCall": body["funccall"]}, Level(None))
    a.kind = "call"
    a.actions.add("call")
    return SessionEffects(refresh=True)


def _listen(a: Analysis, body: Node) -> SessionEffects | None:
    channel = body["conditionname"]
    a.kind = "listen"
    a.actions.add("listen")
    if a.enforcing and channel not in a.context.decision.trusted_channels:
        raise refused(
            f'permission denied for channel "{channel}"',
            detail="Triggers notify with raw values; no classification lists this channel as trusted.",
            hint="Ask the database's owner to list the channel as trusted.",
        )
    return None


def _notify(a: Analysis, body: Node) -> SessionEffects | None:
    effects = _listen(a, body)
    a.kind = "notify"
    return effects


def _unlisten(a: Analysis, body: Node) -> SessionEffects | None:
    del body
    a.kind = "unlisten"
    return None


_ROW_EXCLUSIVE = 3


def _lock(a: Analysis, body: Node) -> SessionEffects | None:
    a.kind = "lock"
    mode = body.get("mode", 8)
    for item in body["relations"]:
        _, relation = unwrap(item)
        strong = mode > _ROW_EXCLUSIVE
        source = named(a, relation, written=strong)
        if not strong or not a.enforcing:
            continue
        a.actions.add("update")
        known = a.context.temporary.get(relation["relname"]) if source.schema == "pg_temp" else None
        if (known is not None and known.kind == "v") or _over_governed(a, source.relation, set()):
            raise refused(
                f'permission denied for LOCK TABLE of "{relation["relname"]}" in this mode',
                detail="A policy masks columns or filters rows of it, or of what is below it.",
                hint="IN ACCESS SHARE MODE, ROW SHARE MODE and ROW EXCLUSIVE MODE work.",
            )
    return None


def named(a: Analysis, relation: Node, *, written: bool) -> Source:
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


def _truncate(a: Analysis, body: Node) -> SessionEffects | None:
    a.kind = "truncate"
    for item in body["relations"]:
        _, relation = unwrap(item)
        source = named(a, relation, written=True)
        if a.enforcing and source.governed is not None and source.governed.filters:
            raise _hides_rows(source.table)
        if source.use is not None:
            a.actions.add("truncate")
        if body.get("behavior") == "DROP_CASCADE":
            _truncate_along(a, source)
    return None


def _truncate_along(a: Analysis, source: Source) -> None:
    """Judge the tables that CASCADE empties, too."""
    for relation in truncated_along(a, source.relation, set()):
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
    )


def _constraints(a: Analysis, body: Node) -> SessionEffects | None:
    a.kind = "set"
    for item in body.get("constraints", ()):
        a.visit(unwrap(item)[1])
    return None


_DROPS: dict[str, Handler] = {
    "OBJECT_DOMAIN": definitions.drop_type,
    "OBJECT_INDEX": indexes.drop,
    "OBJECT_SCHEMA": definitions.drop_schema,
    "OBJECT_TYPE": definitions.drop_type,
}


def _drop(a: Analysis, body: Node) -> SessionEffects | None:
    a.kind = "drop"
    if not a.enforcing:
        a.actions.add("ddl.drop")
        return None
    return _DROPS.get(body["removeType"], temporary.drop)(a, body)


HANDLERS: dict[str, Handler] = {
    "AlterEnumStmt": definitions.alter_enum,
    "AlterTableStmt": temporary.alter,
    "CallStmt": _call,
    "ClosePortalStmt": _close,
    "ConstraintsSetStmt": _constraints,
    "CompositeTypeStmt": definitions.create_composite,
    "CopyStmt": copying.copy,
    "CreateDomainStmt": definitions.create_domain,
    "CreateEnumStmt": definitions.create_enum,
    "CreateExtensionStmt": definitions.create_extension,
    "CreateSchemaStmt": definitions.create_schema,
    "CreateStmt": temporary.create,
    "CreateTableAsStmt": temporary.create_as,
    "DeallocateStmt": _deallocate,
    "DeclareCursorStmt": _declare,
    "DiscardStmt": _discard,
    "DropStmt": _drop,
    "ExecuteStmt": _execute,
    "ExplainStmt": _explain,
    "FetchStmt": _fetch,
    "IndexStmt": indexes.create,
    "ListenStmt": _listen,
    "LockStmt": _lock,
    "NotifyStmt": _notify,
    "PrepareStmt": _prepare,
    "RenameStmt": temporary.rename,
    "TransactionStmt": _transaction,
    "TruncateStmt": _truncate,
    "UnlistenStmt": _unlisten,
    "VariableSetStmt": _set,
    "VariableShowStmt": _show,
    "VacuumStmt": objects.vacuum,
    "AlterSeqStmt": objects.alter_sequence,
    "RefreshMatViewStmt": lasting_views.refresh,
    "CommentStmt": objects.comment,
    "CreateSeqStmt": objects.create_sequence,
    "ViewStmt": objects.view,
}
"""The utility statements that are known; every other one is refused in restricted sessions."""
