"""Admitting sessions and saying what holds for each: answers SessionOpenRequest and SessionStateRequest."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from sluice_proxy import _native, admission
from sluice_proxy import log_keys as keys
from sluice_proxy.bundles.client import BundleClient
from sluice_proxy.catalog.model import RelationKind
from sluice_proxy.contexts import Contexts, decision_digest
from sluice_proxy.databases import CATALOG_LOOK_S, Database, Databases
from sluice_proxy.decide import Decider, Workload
from sluice_proxy.decisions import Level, SessionContext, SessionDecision, TemporaryRelation
from sluice_proxy.governed import problems
from sluice_proxy.made import made_relations
from sluice_proxy.probe import PROBE_SQL, SessionProbe, parse_probe
from sluice_proxy.reports import ClientError, ErrorReport, SqlState
from sluice_proxy.scrubbing import KEEP_PRIMARY
from sluice_proxy.session_refusals import (
    NO_POLICY,
    RECONNECT,
    check_reported_user,
    check_users,
    error_fields,
    reason_to_close,
    server_tls,
    tightened,
)

log = structlog.get_logger(__name__)

UNPROBED_PATH: Final = ("pg_catalog", "public")
"""The search path assumed for the records of open sessions, which are never asked."""
_NOTHING: Final[Mapping[str, TemporaryRelation]] = {}
CLOSE_AFTER_S: Final = 30.0
"""What a statement that runs may still take when its session must end (DESIGN §5)."""


class DenialObserver(Protocol):
    """Is told of sessions that are refused; what is denied inside of sessions is in the audit."""

    def add_reasons(self, database: str, reasons: Iterable[Mapping[str, Any]], text: str) -> None:
        """Take one: the database, the policy's reasons, what the client is told."""
        ...


@dataclass(slots=True)
class Session:
    """One live session, as the brain knows it."""

    database: Database
    role: str
    decision: SessionDecision
    state_known: bool = False
    """A state was given: from then on ``decision`` is what the client works under."""
    closing: bool = False
    catalog_version: int | None = None
    """Of the catalog at the last state that was given."""


@dataclass(frozen=True, slots=True)
class _Decided:
    decision: SessionDecision
    decided_ns: int


class Sessions:
    """All live sessions of a sidecar."""

    def __init__(
        self,
        *,
        decider: Decider,
        bundles: BundleClient,
        databases: Databases,
        contexts: Contexts,
        workload: Workload,
        denials: DenialObserver | None = None,
    ) -> None:
        self._decider = decider
        self._bundles = bundles
        self._databases = databases
        self._contexts = contexts
        self._identity = workload.opa()
        self._denials = denials
        self._live: dict[int, Session] = {}
        self._decided: dict[tuple[str, str], _Decided] = {}
        self._deciding: dict[tuple[str, str], asyncio.Task[SessionDecision]] = {}
        self._problems: dict[tuple[str, int, str], tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._live)

    def closed(self, session: int) -> None:
        """Forget a session."""
        self._live.pop(session, None)

    def forget_decisions(self) -> None:
        """Ask OPA anew for every role: the policy changed, or time alone may have changed the answer."""
        self._decided.clear()
        self._deciding.clear()
        self._problems.clear()

    def database_problems(self) -> Mapping[str, str]:
        """Return what of the policy does not fit a catalog as it is, by database, as far as sessions found it."""
        catalogs = {
            database.name: self._databases.catalog(database) for database in self._databases
        }
        return {
            name: f"the policy does not fit its catalog: {' '.join(found[:3])}"
            for (name, version, _), found in self._problems.items()
            if found and (catalog := catalogs.get(name)) is not None and catalog.version == version
        }

    def next_change_ns(self) -> int | None:
        """Return the next moment at which time alone could change a decision in use; None: never."""
        moments = [
            item.decision.valid_until_ns
            for item in self._decided.values()
            if item.decision.valid_until_ns is not None
        ]
        return min(moments, default=None)

    async def open(self, request: _native.SessionOpenRequest) -> _native.SessionAdmission:
        """Admit a session or not.

        Raises:
            ClientError: Not, and why.
        """
        if self._bundles.in_force is None:
            raise ClientError(NO_POLICY)
        database = admission.choose_database(request.listener, request.database, self._databases)
        decision = await self._decide(database.name, request.user)
        if not decision.allow:
            refusal = admission.refusal(database, request.user, decision)
            if self._denials is not None:
                self._denials.add_reasons(database.name, decision.reasons, refusal.message)
            raise ClientError(refusal)
        admission.check_startup(request.parameters, decision.level)
        if decision.level == Level.RESTRICTED:
            await self._require_catalog(database)
            # What a session may see is decided for the catalog as it is when the session begins.
            await self._databases.refresh(database, wait_s=CATALOG_LOOK_S)
            await self._check_fit(database, decision)
        tls = server_tls(database)
        self._live[request.session] = Session(database, request.user, decision)
        log.info(
            "session admitted",
            **{
                keys.SESSION: request.session,
                keys.DATABASE: database.name,
                keys.ROLE: request.user,
                keys.LEVEL: decision.level.name.lower(),
                keys.SEQUENCE: decision.sequence,
            },
        )
        audit = {
            "identity": self._identity,
            "database": database.name,
            "role": request.user,
            "level": decision.level.name.lower(),
            "enforcement": "observe" if decision.observe else "enforce",
            "policies": list(decision.policies),
        }
        return _native.SessionAdmission(
            upstream=database.upstream,
            probe=PROBE_SQL if decision.level >= Level.GUARDED else None,
            parameters=tuple(request.parameters),
            audit=json.dumps(audit).encode(),
            upstream_name=f"{database.name} at {database.upstream}",
            tls=tls,
        )

    async def state(self, request: _native.SessionStateRequest) -> _native.SessionState:
        """Say what holds for a session from now on, by the policy in force when this returns.

        Raises:
            ClientError: The session cannot go on at all.
        """
        while True:
            revision, state = await self._state(request)
            in_force = self._bundles.in_force
            if in_force is None or revision == in_force.revision:
                return state

    async def _state(
        self, request: _native.SessionStateRequest
    ) -> tuple[str, _native.SessionState]:
        session = self._live.get(request.session)
        if session is None:
            raise ClientError(RECONNECT)
        in_force = self._bundles.in_force
        if in_force is None:
            raise ClientError(NO_POLICY)
        decision = await self._decide(session.database.name, session.role)
        probe = None if request.probe_row is None else parse_probe(request.probe_row)
        if probe is not None and decision.level >= Level.GUARDED:
            check_users(probe, session.role)
        elif request.reason == "start":
            check_reported_user(request.parameter_status, session.role)
        close = reason_to_close(
            session.decision,
            decision,
            probe,
            works=session.state_known,
            outdated=request.reason == "outdated",
        )
        if close is None and probe is not None:
            close = self._old_views(session, probe)
        if close is None and decision.level == Level.RESTRICTED:
            close = await self._restricted_problem(session, decision, request.reason)
        if close is None:
            session.decision, session.state_known = decision, True
        elif not session.closing:
            session.closing = True
            log.info(
                "session must end", **{keys.SESSION: request.session, keys.REASON: close.message}
            )
        context = self._context(session, decision, probe, request.parameter_status)
        if probe is not None and probe.new and decision.level == Level.RESTRICTED:
            made = await made_relations(self._databases, session.database, decision, probe.new)
            context = dataclasses.replace(context, made=made)
        expired = self._bundles.too_old()
        return decision.revision, _native.SessionState(
            context=self._contexts.number(context, session.database, expired=expired),
            level=int(decision.level),
            revision=decision.revision,
            sequence=in_force.sequence,
            scrub=_native.Scrub(
                enabled=decision.level == Level.RESTRICTED, keep_primary=KEEP_PRIMARY
            ),
            close=None if close is None else error_fields(close, severity="FATAL"),
            close_after_s=CLOSE_AFTER_S,
            observe=decision.observe,
            channels=decision.trusted_channels if decision.level == Level.RESTRICTED else None,
        )

    async def _decide(self, database: str, role: str) -> SessionDecision:
        """Return the decision for a role; sessions of one role share it, also while it is being asked for."""
        key = (database, role)
        kept = self._decided.get(key)
        in_force = self._bundles.in_force
        if kept is not None and in_force is not None:
            until = kept.decision.valid_until_ns
            fresh = until is None or time.time_ns() < until
            if fresh and kept.decision.revision == in_force.revision:
                return kept.decision
        asking = self._deciding.get(key)
        if asking is None:
            asking = asyncio.create_task(
                self._decider.session(database=database, role=role), name=f"decide-{database}"
            )
            self._deciding[key] = asking
            asking.add_done_callback(lambda done: self._decision_came(key, done))
        return await asyncio.shield(asking)

    def _decision_came(self, key: tuple[str, str], done: asyncio.Task[SessionDecision]) -> None:
        current = self._deciding.get(key) is done
        if current:
            del self._deciding[key]
        if done.cancelled() or done.exception() is not None or not current:
            return
        if len(self._decided) >= 10_000:  # Roles are the client's to name.
            self._decided.clear()
        self._decided[key] = _Decided(done.result(), time.time_ns())

    async def _require_catalog(self, database: Database) -> None:
        problem = self._databases.catalog_problem(database)
        if problem is not None:
            await self._databases.refresh(database)
            problem = self._databases.catalog_problem(database)
        if problem is not None:
            raise ClientError(
                ErrorReport(
                    sqlstate=SqlState.CANNOT_CONNECT_NOW,
                    message=f"database {database.name} cannot be governed now, connection refused",
                    detail=f"Columns are masked or rows are filtered for this session, but {problem}.",
                    hint="Ask the administrator to look at the catalog role and at /readyz.",
                )
            )

    async def _check_fit(self, database: Database, decision: SessionDecision) -> None:
        found = self._misfits(database, decision)
        if found:
            # Half a second ago the catalog may have been another.
            await self._databases.refresh(database)
            found = self._misfits(database, decision)
        if found:
            raise ClientError(
                ErrorReport(
                    sqlstate=SqlState.CANNOT_CONNECT_NOW,
                    message=f"the policy of {database.name} does not fit its catalog",
                    detail=" ".join(f"{problem.rstrip('.')}." for problem in found[:5]),
                    hint="Correct the policy or the table; sessions are admitted as soon as they fit.",
                )
            )

    def _misfits(self, database: Database, decision: SessionDecision) -> tuple[str, ...]:
        catalog = self._databases.catalog(database)
        if catalog is None:
            return ()
        key = (database.name, catalog.version, decision_digest(decision))
        found = self._problems.get(key)
        if found is None:
            if len(self._problems) >= 1000:
                self._problems.clear()
            found = self._problems[key] = problems(catalog, decision)
            for problem in found:
                log.error(
                    "policy does not fit the catalog",
                    **{keys.DATABASE: database.name, keys.REASON: problem},
                )
        return found

    async def _restricted_problem(
        self, session: Session, decision: SessionDecision, reason: str
    ) -> ErrorReport | None:
        """Return why a restricted session cannot go on.

        An old catalog alone ends no session that has begun: statements that need a new plan are refused, the others
        are pinned to what they were planned for.
        """
        try:
            if reason == "start" or self._databases.catalog(session.database) is None:
                await self._require_catalog(session.database)
            await self._check_fit(session.database, decision)
        except ClientError as error:
            return error.report
        return None

    def _old_views(self, session: Session, probe: SessionProbe) -> ErrorReport | None:
        """Return why a session with temporary views cannot go on: they keep the masks of another catalog."""
        catalog = self._databases.catalog(session.database)
        version = None if catalog is None else catalog.version
        before, session.catalog_version = session.catalog_version, version
        if before in (None, version) or not any(
            item.kind == RelationKind.VIEW for item in probe.temporary.values()
        ):
            return None
        return tightened("The catalog changed, and the session holds temporary views.")

    def _context(
        self,
        session: Session,
        decision: SessionDecision,
        probe: SessionProbe | None,
        parameter_status: Sequence[tuple[str, str]],
    ) -> SessionContext:
        catalog = self._databases.catalog(session.database)
        return SessionContext(
            database=session.database.name,
            role=session.role,
            search_path=UNPROBED_PATH if probe is None else probe.search_path,
            temporary=_NOTHING if probe is None else probe.temporary,
            decision=decision,
            catalog=catalog,
            server_major=_major(parameter_status) if probe is None else probe.server_major,
            unsearched=() if probe is None else probe.unsearched,
        )


def _major(parameter_status: Sequence[tuple[str, str]]) -> int:
    version = dict(parameter_status).get("server_version", "")
    digits = version.partition(".")[0].strip()
    head = "".join(character for character in digits[:3] if character.isdecimal())
    return int(head) if head else 0
