"""Telling the operator what the data plane has in force."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

import structlog

from sluice_proxy import log_keys as keys
from sluice_proxy.bundles.model import Bundle
from sluice_proxy.sidecar.denials import Denials
from sluice_proxy.sidecar.remote import Remote, RemoteError

log = structlog.get_logger(__name__)

RENEW_S: Final = 30.0
STEP_S: Final = 1.0
LOOK_S: Final = 0.5
"""So often is looked whether something changed; the operator sums up each 2 s."""
PAUSE_MAX_S: Final = 10.0
"""Between attempts while the operator is away."""
LASTING_S: Final = 5.0
FAILED_LASTING_S: Final = 1.0
"""What OPA says of a bundle may be about the one before, for a moment."""
FLUSH_AFTER_S: Final = 0.3
PROBLEMS_MAX: Final = 32
FAILED_CHARS_MAX: Final = 512


class Reported(Protocol):
    """What is reported about; ``run.Sidecar`` is one."""

    @property
    def in_force(self) -> Bundle | None:
        """What every session of the data plane works under."""
        ...

    def not_ready(self) -> Mapping[str, str]:
        """Return what is missing, by part."""
        ...

    def degraded(self) -> Mapping[str, str]:
        """Return what does not work fully, by part."""
        ...

    def database_problems(self) -> Mapping[str, str]:
        """Return what of the policy does not fit a catalog, by database."""
        ...

    @property
    def bundles(self) -> Activating:
        """Where bundles come in."""
        ...


class Activating(Protocol):
    """What came and what OPA made of it; ``BundleClient`` is one."""

    @property
    def offered(self) -> Bundle | None:
        """What OPA may fetch."""
        ...

    @property
    def in_force(self) -> Bundle | None:
        """What OPA has activated."""
        ...

    @property
    def activation_error(self) -> str | None:
        """What OPA has against what it may fetch."""
        ...


class Surveyed(Protocol):
    """What catalogs say of the policy; ``Survey`` is one."""

    def documents(self) -> list[dict[str, Any]]:
        """Return ``databases`` of ``status.schema.json``."""
        ...

    def problems(self) -> list[dict[str, Any]]:
        """Return more ``problems``."""
        ...


def status_document(
    profile: str, reported: Reported, survey: Surveyed | None = None
) -> dict[str, Any]:
    """Return the report without denials (``status.schema.json``)."""
    bundle, missing = reported.in_force, reported.not_ready()
    databases = reported.database_problems()
    own = {
        part: reason
        for part, reason in {**reported.degraded(), **missing}.items()
        if not part.startswith("catalog ")
    }
    found = [] if survey is None else survey.problems()
    told = {problem["database"] for problem in found}
    problems = [
        {"database": name[:320], "message": message[:1024]}
        for name, message in [
            *(("", f"{part}: {reason}") for part, reason in sorted(own.items())),
            *sorted(databases.items()),
        ]
        if name[:320] not in told
    ]
    problems += found
    document: dict[str, Any] = {
        "contract": 1,
        "profile": profile,
        "sequence": None if bundle is None else bundle.sequence,
        "revision": None if bundle is None else bundle.revision,
        "ready": not missing,
        "problems": problems[:PROBLEMS_MAX],
        "denials": [],
    }
    if survey is not None and (catalogs := survey.documents()):
        document["databases"] = catalogs
    if (failed := _failed(reported.bundles)) is not None:
        document["failed"] = failed
    return document


def _failed(bundles: Activating) -> dict[str, Any] | None:
    """Return what OPA could not activate, and why; None when it has what it was offered, or has not said."""
    offered, error = bundles.offered, bundles.activation_error
    if offered is None or offered is bundles.in_force or error is None:
        return None
    return {
        "sequence": offered.sequence,
        "revision": offered.revision,
        "message": error[:FAILED_CHARS_MAX],
    }


class StatusReporter:
    """Reports at the start, when something changed (at most once a second), and each 30 s."""

    def __init__(
        self,
        remote: Remote,
        profile: str,
        reported: Reported,
        denials: Denials,
        survey: Surveyed | None = None,
    ) -> None:
        self._remote = remote
        self._survey = survey
        self._profile = profile
        self._reported = reported
        self._denials = denials
        self._problem: str | None = None
        self._since: dict[str, float] = {}
        self._sent_at = 0.0

    async def run(self) -> None:
        """Report until cancelled, whatever happens."""
        while True:
            try:
                await self._report()
            except Exception as error:
                log.exception("reporting failed", **{keys.ERROR_TYPE: type(error).__name__})
            await asyncio.sleep(PAUSE_MAX_S)

    async def _report(self) -> None:
        said: dict[str, Any] | None = None
        at, pause = 0.0, STEP_S
        while True:
            document = self._document()
            due = time.monotonic() - at >= RENEW_S
            if not (due or _differs(document, said) or self._denials):
                await asyncio.sleep(LOOK_S)
                continue
            if await self._send(document):
                said, pause = document, STEP_S
            else:
                pause = min(pause * 2, PAUSE_MAX_S)
            at = time.monotonic()
            await asyncio.sleep(pause * random.uniform(1.0, 1.2))  # noqa: S311

    async def flush(self) -> None:
        """Report what is left, at the end; not on the heels of the last report, or it would be refused."""
        await asyncio.sleep(max(0.0, self._sent_at + FLUSH_AFTER_S - time.monotonic()))
        await self._send(self._document())

    def _document(self) -> dict[str, Any]:
        """Return the report, with the problems that have lasted: what a start passes through is none."""
        document = status_document(self._profile, self._reported, self._survey)
        now = time.monotonic()
        problems: list[dict[str, Any]] = document["problems"]
        catalogs: list[dict[str, Any]] = document.get("databases") or []
        failed: dict[str, Any] | None = document.get("failed")
        present = {_key(problem) for problem in problems}
        present |= {_away(one) for one in catalogs if not one["reachable"]}
        failure = "" if failed is None else f"failed {failed['sequence']}"
        self._since = {key: self._since.get(key, now) for key in (*present, failure)}

        def lasts(key: str, seconds: float) -> bool:
            return now - self._since[key] >= seconds

        document["problems"] = [one for one in problems if lasts(_key(one), LASTING_S)]
        if catalogs:
            document["databases"] = [
                one if one["reachable"] or lasts(_away(one), LASTING_S) else _as_before(one)
                for one in catalogs
                if one["reachable"] or lasts(_away(one), LASTING_S) or "columns" in one
            ]
        if failed is not None and not lasts(failure, FAILED_LASTING_S):
            del document["failed"]
        return document

    async def _send(self, document: Mapping[str, Any]) -> bool:
        taken = self._denials.take()
        self._sent_at = time.monotonic()
        entries = [denial.document(count) for denial, count in taken]
        try:
            await self._remote.status({**document, "denials": entries})
        except RemoteError as error:
            self._denials.give_back(taken)
            if str(error) != self._problem:
                log.warning("status not reported", **{keys.REASON: str(error)})
            self._problem = str(error)
            return False
        self._problem = None
        return True


def _key(problem: Mapping[str, str]) -> str:
    """Return what stays the same of a problem while numbers in its message change: its database, or its part."""
    return problem["database"] or problem["message"].partition(":")[0]


def _away(catalog: Mapping[str, Any]) -> str:
    return f"catalog {catalog['name']}"


def _as_before(catalog: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was said of a catalog that was read, and cannot be for a moment."""
    return {name: value for name, value in catalog.items() if name != "message"} | {
        "reachable": True
    }


def _differs(document: Mapping[str, Any], said: Mapping[str, Any] | None) -> bool:
    """Whether there is news; ages inside of messages are none."""
    if said is None:
        return True

    def parts(one: Mapping[str, Any]) -> list[Any]:
        failed: Mapping[str, Any] = one.get("failed") or {}
        return [
            one["sequence"],
            one["revision"],
            one["ready"],
            [problem["database"] for problem in one["problems"]],
            [problem for problem in one["problems"] if "policies" in problem],
            one.get("databases"),
            failed.get("sequence"),
        ]

    return parts(document) != parts(said)
