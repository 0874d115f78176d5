"""Statements about the session itself: transactions, settings, and what it forgets."""

from __future__ import annotations

from sluice_proxy.facts.analysis import Analysis, constant_string
from sluice_proxy.facts.model import SessionEffects
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.setting_calls import check_search_path
from sluice_proxy.facts.settings import free_valued, refused_to_tell, settings_allowed
from sluice_proxy.facts.tree import Node, unwrap


def transaction(a: Analysis, body: Node) -> SessionEffects | None:
    """BEGIN, COMMIT, ROLLBACK, and savepoints."""
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


def set_parameter(a: Analysis, body: Node) -> SessionEffects | None:
    """SET and RESET."""
    kind, name = body["kind"], body.get("name", "").lower()
    a.kind = "reset" if kind.startswith("VAR_RESET") else "set"
    if kind == "VAR_RESET_ALL":
        return SessionEffects(refresh=True)
    if kind == "VAR_SET_MULTI":
        if name not in ("transaction", "session characteristics"):
            raise refused(
                f"permission denied for SET {name.upper()}",
                detail="It takes over what another session sees, whatever that one's policy is.",
                hint="Use BEGIN ISOLATION LEVEL REPEATABLE READ.",
            )
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


def show(a: Analysis, body: Node) -> SessionEffects | None:
    """SHOW."""
    a.kind = "show"
    name = body["name"]
    if a.enforcing and not a.allow.setting_readable(name) and not free_valued(name):
        raise refused_to_tell(name)
    return None


def discard(a: Analysis, body: Node) -> SessionEffects | None:
    """DISCARD."""
    a.kind = "discard"
    target = body.get("target", "DISCARD_ALL")
    if target == "DISCARD_ALL":
        return SessionEffects(refresh=True, deallocate_all=True, close_all_cursors=True)
    return SessionEffects(refresh=True) if target == "DISCARD_TEMP" else None


def set_constraints(a: Analysis, body: Node) -> SessionEffects | None:
    """SET CONSTRAINTS."""
    a.kind = "set"
    for item in body.get("constraints", ()):
        a.visit(unwrap(item)[1])
    return None
