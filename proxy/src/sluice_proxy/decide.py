"""Asking OPA: the two decisions over its unix socket, parsed and checked against the policy in force."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

import aiohttp

from sluice_proxy.bundles.client import BundleClient
from sluice_proxy.decisions import (
    ClassEntry,
    Level,
    Mask,
    Parts,
    RowFilter,
    SessionDecision,
    StatementDecision,
)
from sluice_proxy.opa_library import AsyncOpaClient
from sluice_proxy.reports import ClientError, ErrorReport, SqlState

CONTRACT: Final = 1
TIMEOUT_S: Final = 1.0
"""For one statement or session in all, retries included (DESIGN §8)."""
RETRY_DELAY_S: Final = 0.01
RECONNECT_DELAY_S: Final = 0.05
CONNECTIONS_MAX: Final = 64

_Decision = TypeVar("_Decision", SessionDecision, StatementDecision)


class UnixOpaClient(AsyncOpaClient):
    """opa-python-client's async client, over a unix socket instead of TCP."""

    def __init__(self, path: Path) -> None:
        """Make one; enter it as a context to open the connections."""
        super().__init__(retries=0, timeout=TIMEOUT_S)  # pyright: ignore[reportUnknownMemberType]
        self._path = path

    async def _init_session(self) -> None:
        self._connector = aiohttp.UnixConnector(path=str(self._path), limit=CONNECTIONS_MAX)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            # Those who ask bound it themselves: of two bounds at one moment, the inner takes the
            # outer's cancellation away.
            timeout=aiohttp.ClientTimeout(total=None),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Who the sidecar acts for. Fixed for its life; nothing an application sends has a say."""

    namespace: str
    service_account: str
    pod: str | None
    labels: Mapping[str, str]
    assurance: str
    """``verified``, ``asserted`` or ``inferred``."""

    def opa(self) -> dict[str, Any]:
        """Return the ``identity`` of the input documents."""
        workload = {
            "namespace": self.namespace,
            "service_account": self.service_account,
            "pod": self.pod,
            "labels": dict(self.labels),
            "assurance": self.assurance,
        }
        return {"workload": workload, "actor": None}


class StatementInput(Protocol):
    """What a statement tells about itself; ``facts.StatementFacts`` is one."""

    def opa(self) -> dict[str, Any]:
        """Return the ``statement`` of the input document."""
        ...


class Observer(Protocol):
    """Is told how long a decision took."""

    def decision(self, kind: str, seconds: float, outcome: str) -> None:
        """Take one measurement; ``outcome`` is ``ok``, ``stale`` or ``failed``."""
        ...


class _StaleError(Exception):
    """OPA decided with another revision than the one in force."""


class Decider:
    """Both decisions. Every answer is of the revision in force, or an error."""

    def __init__(
        self, client: UnixOpaClient, bundles: BundleClient, workload: Workload, observer: Observer
    ) -> None:
        self._client = client
        self._bundles = bundles
        self._identity = workload.opa()
        self._observer = observer
        self.problem: str | None = None
        """Why the last decision failed; None when it came."""

    async def session(self, *, database: str, role: str) -> SessionDecision:
        """Decide what holds for a role's sessions with a database (``namespace/name``).

        Raises:
            ClientError: OPA is away or slow, or the policy is not in force (57P03).
        """
        document = self._document({"database": database, "role": role})
        return await self._ask("session", document, parse_session)

    async def statement(
        self,
        *,
        database: str,
        role: str,
        search_path: Sequence[str],
        statement: Mapping[str, Any],
        revision: str,
    ) -> StatementDecision:
        """Decide one statement.

        Args:
            database: ``namespace/name``.
            role: The session's role.
            search_path: As the session has it.
            statement: ``StatementFacts.opa()``.
            revision: What the session works under; a decision of another one is an error.

        Raises:
            ClientError: OPA is away or slow, or the policy changed meanwhile (57P03).
        """
        session = {"database": database, "role": role, "search_path": list(search_path)}
        document = self._document(session)
        document["statement"] = dict(statement)
        decision = await self._ask("statement", document, parse_statement)
        if decision.revision != revision:
            raise ClientError(POLICY_CHANGED)
        return decision

    def _document(self, session: dict[str, Any]) -> dict[str, Any]:
        clock = {"now_ns": time.time_ns(), "trusted": True}
        return {
            "contract": CONTRACT,
            "identity": self._identity,
            "clock": clock,
            "session": session,
        }

    async def _ask(
        self, kind: str, document: dict[str, Any], parse: Callable[[Any], _Decision]
    ) -> _Decision:
        began = time.perf_counter()
        outcome = "failed"
        try:
            async with asyncio.timeout(TIMEOUT_S):
                self.problem = None
                while True:
                    try:
                        decision = parse(await self._query(kind, document))
                        self._check_in_force(decision)
                    except _StaleError:
                        outcome = "stale"
                        await asyncio.sleep(RETRY_DELAY_S)
                        continue
                    except TimeoutError:  # It is an OSError, and no reason to go on.
                        raise
                    except (aiohttp.ClientConnectionError, OSError) as error:
                        # OPA is being started again, or closed a kept connection: there is time left to see.
                        outcome = "failed"
                        self.problem = f"OPA cannot be reached: {error}"
                        await asyncio.sleep(RECONNECT_DELAY_S)
                        continue
                    self.problem = None
                    outcome = "ok"
                    return decision
        except TimeoutError as error:
            if outcome == "stale":
                self.problem = "OPA decides with another policy than the one in force"
            elif self.problem is None:
                self.problem = f"OPA did not answer within {TIMEOUT_S:g} s"
            raise ClientError(_unavailable(self.problem)) from error
        except (aiohttp.ClientError, ValueError) as error:
            self.problem = f"OPA refused the question: {error}"
            raise ClientError(_unavailable("OPA did not decide")) from error
        except DecisionError as error:
            self.problem = f"OPA's answer is not understood: {error}"
            raise ClientError(_unavailable("OPA's answer is not understood")) from error
        finally:
            self._observer.decision(kind, time.perf_counter() - began, outcome)

    async def _query(self, kind: str, document: dict[str, Any]) -> Any:
        answer = cast(
            "dict[str, Any]",
            await self._client.query_rule(document, f"sluice.{kind}", "decision"),  # pyright: ignore[reportUnknownMemberType]
        )
        if "result" not in answer:
            raise DecisionError("the decision is undefined")
        return answer["result"]

    def _check_in_force(self, decision: SessionDecision | StatementDecision) -> None:
        self._bundles.decided_with(decision.revision, decision.sequence)
        in_force = self._bundles.in_force
        if in_force is None or decision.revision != in_force.revision:
            raise _StaleError


async def active_policy(client: UnixOpaClient, workload: Workload) -> tuple[str, int] | None:
    """Return revision and sequence that OPA decides with now, by asking it; None when it does not decide."""
    document = {
        "contract": CONTRACT,
        "identity": workload.opa(),
        "clock": {"now_ns": time.time_ns(), "trusted": True},
        "session": {"database": "", "role": ""},
    }
    try:
        async with asyncio.timeout(TIMEOUT_S):
            answer = cast(
                "dict[str, Any]",
                await client.query_rule(document, "sluice.session", "decision"),  # pyright: ignore[reportUnknownMemberType]
            )
        result = answer["result"]
        return str(result["revision"]), int(result["sequence"])
    except (aiohttp.ClientError, OSError, ValueError, TypeError, KeyError):
        return None  # TimeoutError is an OSError.


class DecisionError(Exception):
    """A decision document does not keep the contract."""


POLICY_CHANGED: Final = ErrorReport(
    sqlstate=SqlState.CANNOT_CONNECT_NOW,
    message="the policy changed while the statement was being judged",
    hint="Send the statement again.",
)


def _unavailable(reason: str) -> ErrorReport:
    return ErrorReport(
        sqlstate=SqlState.CANNOT_CONNECT_NOW,
        message="the statement cannot be judged now",
        detail=f"{reason}.",
        hint="Try again; statements that were judged before go on.",
    )


def parse_session(result: Any) -> SessionDecision:
    """Return ``data.sluice.session.decision`` as values.

    Raises:
        DecisionError: A field is missing or of another kind.
    """
    try:
        document = _contract(result)
        classification = document["classification"]
        limits = document["limits"]
        oracles = document["write_oracles"]
        return SessionDecision(
            revision=str(document["revision"]),
            sequence=int(document["sequence"]),
            valid_until_ns=document["valid_until"],
            allow=_flag(document["allow"]),
            level=Level[str(document["level"]).upper()],
            observe=_choice(document["enforcement"], observe=True, enforce=False),
            policies=tuple(document["policies"]),
            reasons=tuple(document["reasons"]),
            entries=tuple(
                ClassEntry(entry["table"], entry["column"], entry["class"])
                for entry in classification["columns"]
            ),
            unreviewed_masked=_choice(classification["unreviewed"], mask=True, allow=False),
            masks={name: parse_mask(mask) for name, mask in document["masks"].items()},
            row_filters=tuple(
                RowFilter(item["table"], parse_parts(item["parts"]), item["policy"])
                for item in document["row_filters"]
            ),
            rows_max=limits["rows_per_statement"],
            seconds_max=limits["statement_seconds"],
            trusted_functions=frozenset(document["trusted"]["functions"]),
            trusted_channels=frozenset(document["trusted"]["channels"]),
            write_oracle_keys_accepted=_choice(oracles["keys"], accept=True, deny=False),
            write_oracle_row_values_accepted=_choice(
                oracles["row_values"], accept=True, deny=False
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DecisionError(f"session decision: {type(error).__name__}: {error}") from error


def parse_statement(result: Any) -> StatementDecision:
    """Return ``data.sluice.statement.decision`` as values.

    Raises:
        DecisionError: A field is missing or of another kind.
    """
    try:
        document = _contract(result)
        limits = document["limits"]
        return StatementDecision(
            revision=str(document["revision"]),
            sequence=int(document["sequence"]),
            valid_until_ns=document["valid_until"],
            allow=_flag(document["allow"]),
            policies=tuple(document["policies"]),
            reasons=tuple(document["reasons"]),
            rows_max=limits["rows_per_statement"],
            seconds_max=limits["statement_seconds"],
            warnings=tuple(document["warnings"]),
            would=tuple(document["would"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DecisionError(f"statement decision: {type(error).__name__}: {error}") from error


def parse_mask(document: Mapping[str, Any]) -> Mask:
    """Return one mask of the contract."""
    parts = document.get("parts")
    size = document.get("size")
    if size is not None and not (math.isfinite(size) and size > 0):
        raise ValueError("a bucket's size must be above 0")
    return Mask(
        kind=str(document["kind"]),
        count=document.get("count"),
        first=document.get("first"),
        last=document.get("last"),
        size=size,
        parts=None if parts is None else parse_parts(parts),
        rank=document.get("rank"),
    )


def parse_parts(items: Sequence[Any]) -> Parts:
    """Return a compiled expression: texts, and one-element tuples for columns."""
    return tuple(item if isinstance(item, str) else (str(item["column"]),) for item in items)


def _contract(result: Any) -> dict[str, Any]:
    if not isinstance(result, dict):
        raise TypeError("not an object")
    document = cast("dict[str, Any]", result)
    if document["contract"] != CONTRACT:
        raise ValueError(f"contract {document['contract']!r}")
    return document


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("not a boolean")
    return value


def _choice(value: Any, **choices: bool) -> bool:
    return choices[value]
