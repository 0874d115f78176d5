"""Statements that are no queries: an allow-list, each with what it does to its session."""

from __future__ import annotations

from collections.abc import Callable

from sluice_proxy.facts import (
    blocks,
    channels,
    copying,
    definitions,
    explaining,
    indexes,
    lasting_views,
    missing,
    objects,
    places,
    prepared,
    rights,
    session_state,
    temporary,
    upkeep,
    whole_tables,
)
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.expressions import expression
from sluice_proxy.facts.model import SessionEffects
from sluice_proxy.facts.scopes import Level
from sluice_proxy.facts.tree import Node

Handler = Callable[[Analysis, Node], SessionEffects | None]


def _call(a: Analysis, body: Node) -> SessionEffects | None:
    expression(a, {"FuncCall": body["funccall"]}, Level(None))
    a.kind = "call"
    a.actions.add("call")
    return SessionEffects(refresh=True)


_DROPS: dict[str, Handler] = {
    **dict.fromkeys(missing.ROUTINES, missing.drop_routine),
    "OBJECT_EXTENSION": missing.drop_extension,
    "OBJECT_DOMAIN": definitions.drop_type,
    "OBJECT_INDEX": indexes.drop,
    "OBJECT_SCHEMA": definitions.drop_schema,
    "OBJECT_TYPE": definitions.drop_type,
}


def _drop(a: Analysis, body: Node) -> SessionEffects | None:
    a.kind = "drop"
    return _DROPS.get(body["removeType"], temporary.drop)(a, body)


def _rename(a: Analysis, body: Node) -> SessionEffects | None:
    if body.get("renameType") in ("OBJECT_TYPE", "OBJECT_DOMAIN"):
        return definitions.rename_type(a, body)
    return temporary.rename(a, body)


HANDLERS: dict[str, Handler] = {
    "AlterEnumStmt": definitions.alter_enum,
    "AlterObjectSchemaStmt": places.set_schema,
    "AlterOwnerStmt": places.owner,
    "AlterSeqStmt": objects.alter_sequence,
    "AlterTableStmt": temporary.alter,
    "CallStmt": _call,
    "ClosePortalStmt": prepared.close,
    "ClusterStmt": upkeep.cluster,
    "CommentStmt": objects.comment,
    "CompositeTypeStmt": definitions.create_composite,
    "ConstraintsSetStmt": session_state.set_constraints,
    "CopyStmt": copying.copy,
    "CreateDomainStmt": definitions.create_domain,
    "CreateEnumStmt": definitions.create_enum,
    "CreateExtensionStmt": definitions.create_extension,
    "CreateSchemaStmt": definitions.create_schema,
    "CreateSeqStmt": objects.create_sequence,
    "CreateStmt": temporary.create,
    "CreateStatsStmt": upkeep.statistics,
    "CreateTableAsStmt": temporary.create_as,
    "DeallocateStmt": prepared.deallocate,
    "DeclareCursorStmt": prepared.declare,
    "DoStmt": blocks.do,
    "DiscardStmt": session_state.discard,
    "DropStmt": _drop,
    "ExecuteStmt": prepared.execute,
    "ExplainStmt": explaining.explain,
    "FetchStmt": prepared.fetch,
    "GrantStmt": rights.grant,
    "IndexStmt": indexes.create,
    "ListenStmt": channels.listen,
    "LockStmt": whole_tables.lock,
    "NotifyStmt": channels.notify,
    "PrepareStmt": prepared.prepare,
    "RefreshMatViewStmt": lasting_views.refresh,
    "ReindexStmt": upkeep.reindex,
    "RenameStmt": _rename,
    "TransactionStmt": session_state.transaction,
    "TruncateStmt": whole_tables.truncate,
    "UnlistenStmt": channels.unlisten,
    "VacuumStmt": objects.vacuum,
    "VariableSetStmt": session_state.set_parameter,
    "VariableShowStmt": session_state.show,
    "ViewStmt": objects.view,
}
"""The utility statements that are known; every other one is refused in restricted sessions."""
