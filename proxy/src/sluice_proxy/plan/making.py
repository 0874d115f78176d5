"""From facts and decisions to the plan that the data plane keeps and applies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sluice_proxy import _native
from sluice_proxy.decisions import Level, SessionContext, StatementDecision
from sluice_proxy.facts.model import SessionEffects, StatementFacts
from sluice_proxy.plan.audit import fragment
from sluice_proxy.plan.drift import catalog_check
from sluice_proxy.reports import ErrorReport, SqlState

N = TypeVar("N", int, float)


def make_plan(
    text: bytes,
    facts: tuple[StatementFacts, ...],
    decisions: tuple[StatementDecision, ...],
    context: SessionContext,
) -> _native.Plan:
    """Return the plan of a text.

    Args:
        text: As the client sent it.
        facts: Of its statements, in order.
        decisions: One for each of them.
        context: The session's.
    """
    statements = [
        _planned(text, each, decision, context)
        for each, decision in zip(facts, decisions, strict=True)
    ]
    exact = any(each.cacheable == "exact" or not each.understood for each in facts)
    moments = [d.valid_until_ns for d in decisions if d.valid_until_ns is not None]
    if context.decision.valid_until_ns is not None:
        moments.append(context.decision.valid_until_ns)
    return _native.Plan(
        statements=statements,
        cache="exact" if exact or not facts else "template",
        bound=() if exact else tuple(sorted(index for each in facts for index in each.bound)),
        valid_until_ns=min(moments, default=None),
        revision=decisions[0].revision if decisions else context.decision.revision,
        settled=any(each.settled for each in facts),
    )


def _planned(
    text: bytes, facts: StatementFacts, decision: StatementDecision, context: SessionContext
) -> _native.PlannedStatement:
    span = facts.span if facts.understood or facts.span != (0, 0) else whole(text)
    denied = (
        not decision.allow
        and not context.decision.observe
        and context.decision.level is not Level.OPEN
    )
    verdict = "deny" if denied else "allow"
    return _native.PlannedStatement(
        tokens=span,
        audit=fragment(
            facts, context, verdict=verdict, reasons=decision.reasons, decision=decision
        ),
        edits=[_native.Edit(e.start, e.end, e.text.encode()) for e in facts.edits]
        if not denied
        else [],
        denial=_native.Denial(denial_error(facts, decision.reasons)) if denied else None,
        effects=_effects(facts.effects) if not denied else None,
        notices=[_notice(reason) for reason in decision.warnings],
        rows_max=_least(context.decision.rows_max, decision.rows_max),
        seconds_max=_least(context.decision.seconds_max, decision.seconds_max),
        governed=denied or facts.governed,
        catalog_check="none" if denied else catalog_check(facts, context),
    )


def _least(*limits: N | None) -> N | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _effects(effects: SessionEffects | None) -> _native.Effects | None:
    if effects is None:
        return None
    return _native.Effects(
        refresh=effects.refresh,
        prepare=effects.prepare,
        execute=effects.execute,
        deallocate=effects.deallocate,
        deallocate_all=effects.deallocate_all,
        declare=effects.declare,
        fetch=effects.fetch,
        close_cursor=effects.close_cursor,
        close_all_cursors=effects.close_all_cursors,
    )


def denial_error(
    facts: StatementFacts, reasons: Sequence[Mapping[str, Any]]
) -> _native.ErrorFields:
    """Return what a client sees of a denial: PostgreSQL's own words, then which policy, then what to do."""
    written = [table.name for table in facts.tables if table.written]
    name = next(iter([*written, *(table.name for table in facts.tables)]), None)
    message = f"permission denied for table {name}" if name else f"{facts.kind} denied by policy"
    return _native.ErrorFields(
        sqlstate=SqlState.INSUFFICIENT_PRIVILEGE.value,
        message=message,
        detail=" ".join(_sentence(reason) for reason in _denying(reasons))
        or "No policy allows this.",
        hint="Ask the owner of the policy named above, or leave out what it denies.",
    )


def _denying(reasons: Sequence[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    denying = [reason for reason in reasons if reason.get("effect") == "deny"]
    return denying or reasons


def _sentence(reason: Mapping[str, Any]) -> str:
    policy, rule, message = (
        reason.get("policy"),
        reason.get("rule"),
        str(reason.get("message", "")).strip(),
    )
    if not policy:
        return message
    for told in (
        f"Denied by rule {rule} of policy {policy}.",
        f"Denied by policy {policy}.",
        f"Guardrail of policy {policy}.",
    ):
        message = message.removesuffix(told).rstrip()
    where = f"Denied by policy {policy}" + (f", rule {rule}" if rule else "")
    return f"{where}: {message}" if message else f"{where}."


def _notice(reason: Mapping[str, Any]) -> _native.ErrorFields:
    return _native.ErrorFields(
        sqlstate="01000",
        message=f"a policy in mode warn would deny this statement: {_sentence(reason)}",
        severity="WARNING",
    )


_AUDITED_BYTES = 64 << 10


def whole(text: bytes) -> tuple[int, int]:
    """Return the tokens of a text that is not taken apart; of a long one its beginning, which the audit shows."""
    if len(text) <= _AUDITED_BYTES:
        return 0, len(_native.tokens(text))
    return 0, max(0, len(_native.tokens(text[:_AUDITED_BYTES])) - 1)  # The last one may be cut.


def deny_plan(text: bytes, report: ErrorReport, context: SessionContext) -> _native.Plan:
    """Return the plan that denies a whole text with one error."""
    facts = StatementFacts("unknown", ("session",), whole(text), understood=False)
    reason = {"policy": None, "rule": None, "effect": "deny", "message": report.message}
    error = _native.ErrorFields(
        sqlstate=report.sqlstate.value,
        message=report.message,
        detail=report.detail,
        hint=report.hint,
    )
    return _native.Plan(
        statements=[
            _native.PlannedStatement(
                tokens=facts.span,
                audit=fragment(facts, context, verdict="deny", reasons=[reason], decision=None),
                denial=_native.Denial(error),
                governed=True,
            )
        ],
        cache="exact",
        revision=context.decision.revision,
    )
