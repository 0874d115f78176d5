"""Judging statements: text and context in, plan out. Answers PlanRequest."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from typing import Any, Final, Protocol

import structlog

from sluice_proxy import _native
from sluice_proxy import log_keys as keys
from sluice_proxy.contexts import Contexts, NumberedContext
from sluice_proxy.databases import CATALOG_LOOK_S, Databases
from sluice_proxy.decide import Decider
from sluice_proxy.decisions import Level, SessionContext, StatementDecision
from sluice_proxy.facts import StatementFacts, read_facts
from sluice_proxy.huge import BYTES_MIN, HugeTexts
from sluice_proxy.plan import deny_plan, make_plan, whole
from sluice_proxy.reports import ClientError, ErrorReport, SqlState

log = structlog.get_logger(__name__)


class StageObserver(Protocol):
    """Is told how long each stage of a plan took."""

    def stage(self, stage: str, seconds: float) -> None:
        """Take one measurement; ``stage`` is ``facts``, ``decision``, ``plan`` or ``total``."""
        ...


class Judge:
    """Makes plans. The same question asked by several sessions at once is judged once."""

    def __init__(
        self,
        *,
        decider: Decider,
        databases: Databases,
        contexts: Contexts,
        observer: StageObserver,
    ) -> None:
        self._decider = decider
        self._databases = databases
        self._contexts = contexts
        self._observer = observer
        self._huge = HugeTexts()
        self._judging: dict[tuple[Any, ...], asyncio.Task[_native.Plan]] = {}
        self.errors = 0
        """Statements that were refused because judging them raised."""

    async def plan(self, request: _native.PlanRequest) -> _native.Plan:
        """Return the plan.

        Raises:
            ClientError: The statement is refused, not for what it is but for the state of things.
        """
        key = (request.context, request.text, request.simple, tuple(request.parameter_types))
        judging = self._judging.get(key)
        if judging is None:
            judging = asyncio.create_task(self._judge(request), name="judge")
            self._judging[key] = judging
            judging.add_done_callback(lambda done: self._judged(key, done))
        return await asyncio.shield(judging)

    async def check_catalog(self, request: _native.CatalogCheckRequest) -> _native.CatalogChecked:
        """Return whether the catalog is still the one of the plan's context.

        When it is not, the sessions were told by then.

        Raises:
            ClientError: It cannot be looked at.
        """
        made = self._contexts.catalog_of(request.context)
        if made is None:
            raise ClientError(CONTEXT_GONE)
        database, version = made
        catalog = await self._databases.look(database)
        if catalog is None:
            problem = self._databases.catalog_problem(database) or "its catalog does not answer"
            raise ClientError(_unchecked(database.name, problem))
        return _native.CatalogChecked(same=catalog.version == version)

    def _judged(self, key: tuple[Any, ...], done: asyncio.Task[_native.Plan]) -> None:
        self._judging.pop(key, None)
        if not done.cancelled():
            done.exception()  # Whoever asked may be gone; it was logged where it was raised.

    async def _judge(self, request: _native.PlanRequest) -> _native.Plan:
        began = time.perf_counter()
        numbered = self._contexts.get(request.context)
        if numbered is None:
            raise ClientError(CONTEXT_GONE)
        context = numbered.context
        try:
            plan = await self._plan(request, numbered)
        except ClientError as error:
            unavailable = error.report.sqlstate == SqlState.CANNOT_CONNECT_NOW
            if context.decision.observe or (
                context.decision.level == Level.OPEN and not unavailable
            ):
                return passing_plan(request.text, context, error.report.message)
            if unavailable:
                raise
            plan = deny_plan(request.text, error.report, context)
        except Exception as error:  # noqa: BLE001  DESIGN §8: that statement is refused, the session goes on.
            # The text may stand in the exception's own message, so only its type and place are told.
            self.errors += 1
            log.error(  # noqa: TRY400
                "judging a statement failed",
                **{keys.ERROR_TYPE: type(error).__name__, keys.PLACE: _place(error)},
            )
            if context.decision.level == Level.OPEN:
                return passing_plan(request.text, context, "internal error")
            raise ClientError(INTERNAL) from None
        if numbered.expired and any(statement.governed for statement in plan.statements):
            raise ClientError(POLICY_TOO_OLD)
        self._observer.stage("total", time.perf_counter() - began)
        return plan

    async def _plan(self, request: _native.PlanRequest, numbered: NumberedContext) -> _native.Plan:
        """Judge, while the catalog is looked at beside it.

        When that finds a change, sessions are told before the plan is handed out, and the data plane asks again: a plan
        is made from a catalog that was read after the statement came.
        """
        level = numbered.context.decision.level
        if level == Level.RESTRICTED:
            await self._check_catalog(numbered)
        if level == Level.OPEN or numbered.database.catalog_dsn is None:
            return await self._plan_now(request, numbered.context)
        looking = asyncio.create_task(self._databases.refresh(numbered.database), name="catalog")
        try:
            return await self._plan_now(request, numbered.context)
        finally:
            await asyncio.wait({looking}, timeout=CATALOG_LOOK_S)
            looking.cancel()

    async def _plan_now(
        self, request: _native.PlanRequest, context: SessionContext
    ) -> _native.Plan:
        facts = await self._read(request, context)
        began = time.perf_counter()
        decisions = await self._decide(facts, context)
        self._observer.stage("decision", time.perf_counter() - began)
        began = time.perf_counter()
        make = functools.partial(make_plan, request.text, facts, decisions, context)
        plan = await self._huge.run(make) if len(request.text) >= BYTES_MIN else make()
        self._observer.stage("plan", time.perf_counter() - began)
        return plan

    async def _check_catalog(self, numbered: NumberedContext) -> None:
        problem = self._databases.catalog_problem(numbered.database)
        if problem is None:
            return
        await self._databases.refresh(numbered.database)
        problem = self._databases.catalog_problem(numbered.database)
        if problem is not None:
            raise ClientError(
                ErrorReport(
                    sqlstate=SqlState.CANNOT_CONNECT_NOW,
                    message="the statement cannot be judged now",
                    detail=f"Database {numbered.database.name}: {problem}.",
                    hint="Try again; statements that were judged before go on.",
                )
            )

    async def _read(
        self, request: _native.PlanRequest, context: SessionContext
    ) -> tuple[StatementFacts, ...]:
        began = time.perf_counter()
        read = functools.partial(
            read_facts,
            request.text,
            context,
            simple=request.simple,
            parameter_types=request.parameter_types,
        )
        facts = await self._huge.run(read) if len(request.text) >= BYTES_MIN else read()
        self._observer.stage("facts", time.perf_counter() - began)
        return facts

    async def _decide(
        self, facts: tuple[StatementFacts, ...], context: SessionContext
    ) -> tuple[StatementDecision, ...]:
        """Ask OPA for each statement, once for those that say the same of themselves."""
        answers: dict[str, StatementDecision] = {}
        decisions: list[StatementDecision] = []
        for statement in facts:
            document = statement.opa()
            key = json.dumps(document, sort_keys=True)
            if key not in answers:
                answers[key] = await self._decider.statement(
                    database=context.database,
                    role=context.role,
                    search_path=context.search_path,
                    statement=document,
                    revision=context.decision.revision,
                )
            decisions.append(answers[key])
        return tuple(decisions)


def _unchecked(database: str, problem: str) -> ErrorReport:
    return ErrorReport(
        sqlstate=SqlState.CANNOT_CONNECT_NOW,
        message="the answer cannot be given now",
        detail=f"The statement uses views, functions or tables with children, whose definitions may have changed. "
        f"Database {database}: {problem}.",
        hint="Try again; ask the administrator to look at the catalog role and at /readyz.",
    )


CONTEXT_GONE: Final = ErrorReport(
    sqlstate=SqlState.CANNOT_CONNECT_NOW,
    message="the policy changed while the statement was being judged",
    hint="Send the statement again.",
)
INTERNAL: Final = ErrorReport(
    sqlstate=SqlState.INTERNAL_ERROR,
    message="the statement could not be judged, it was not run",
    detail="An internal error of Sluice; it is in the sidecar's log.",
    hint="The session goes on. Report the log line and the kind of statement.",
)
POLICY_TOO_OLD: Final = ErrorReport(
    sqlstate=SqlState.CANNOT_CONNECT_NOW,
    message="the policy in force is too old, the statement was not run",
    detail="It has not been confirmed for longer than its maximum age.",
    hint="Ask the administrator why the sidecar gets no policy; /readyz says what it waits for.",
)


def passing_plan(text: bytes, context: SessionContext, problem: str) -> _native.Plan:
    """Return the plan that leaves a text of an open session as it is, recorded as not understood."""
    decision = context.decision
    audit = {
        "kind": "unknown",
        "verdict": "allow",
        "problem": problem,
        "tables": [],
        "classes": [],
        "masks": [],
        "policies": list(decision.policies),
        "revision": decision.revision,
    }
    statement = _native.PlannedStatement(tokens=whole(text), audit=json.dumps(audit).encode())
    return _native.Plan(statements=[statement], cache="none", revision=decision.revision)


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    code = trace.tb_frame.f_code
    return f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} in {code.co_name}"
