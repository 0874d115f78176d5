"""Smoke decisions: no content is published for which OPA does not answer both questions about every database.

Nor what the oldest supported OPA could not load: it would be fetched, refused and fetched again for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, cast

from sluice_operator.controller.opa import LocalOpa, OpaError
from sluice_policy import Compiled, Profile
from sluice_policy.library import library

PASSED_MAX: Final = 4096
"""Revisions that are remembered as tried."""
OLDEST: Final = "v1.21.3"
"""The oldest OPA that sidecars may run: what it cannot load is not published, whatever OPA tries it here."""
NAMED_MAX: Final = 3
ROLES_MAX: Final = 8
NOBODY: Final = "sluice_smoke"
"""A role that no policy names."""

MODULE: Final = b"""package sluice_smoke

sessions[name] := decision if {
	some name, document in input.sessions
	decision := data.sluice.session.decision with input as document
}

statements[name] := decision if {
	some name, document in input.statements
	decision := data.sluice.statement.decision with input as document
}

malformed := data.sluice.scope.malformed
"""

SESSION_FIELDS: Final = frozenset(
    {
        "contract",
        "revision",
        "sequence",
        "valid_until",
        "allow",
        "level",
        "enforcement",
        "policies",
        "reasons",
        "classification",
        "masks",
        "row_filters",
        "limits",
        "trusted",
        "write_oracles",
    }
)
STATEMENT_FIELDS: Final = frozenset(
    {
        "contract",
        "revision",
        "sequence",
        "valid_until",
        "allow",
        "policies",
        "reasons",
        "limits",
        "warnings",
        "would",
    }
)


def smoke_modules() -> dict[str, bytes]:
    """Return the Rego library, and what asks it many questions at once; by path."""
    return {**library(), "sluice_smoke.rego": MODULE}


class Smoke:
    """Tries content in a local OPA, each revision once."""

    def __init__(self, opa: LocalOpa, *, oldest: str = OLDEST) -> None:
        """Make one.

        Args:
            opa: Was started with ``smoke_modules``.
            oldest: Capabilities of the oldest OPA that sidecars may run: a version, or a file.
        """
        self._opa = opa
        self._oldest = oldest
        self._lacking: str | None = None
        """What the oldest OPA has against the library; empty: nothing."""
        self._modules = library()
        self._lock = asyncio.Lock()
        self._passed: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def problem(
        self, compiled: Compiled, profile: Profile, document: Mapping[str, Any]
    ) -> str | None:
        """Return why content must not be published; None when it may.

        Args:
            compiled: The content.
            profile: Whose it is.
            document: Its document.

        Raises:
            OpaError: OPA is away: nothing can be said.
        """
        key = (profile.id, compiled.revision)
        if key in self._passed:
            return None
        async with self._lock:
            found = await self._try(compiled, profile, document)
        if found is None:
            self._passed[key] = None
            while len(self._passed) > PASSED_MAX:
                self._passed.popitem(last=False)
        return found

    async def _try(
        self, compiled: Compiled, profile: Profile, document: Mapping[str, Any]
    ) -> str | None:
        if compiled.modules != self._modules:
            return "the content has another Rego library than this OPA was started with"
        if self._lacking is None:
            self._lacking = await self._opa.lacks(self._oldest) or ""
        if self._lacking:
            return f"the oldest OPA that sidecars may run ({self._oldest}) cannot load it: {self._lacking}"
        # What a bundle's roots name, OPA lets nobody else write: these are not among them.
        manifest = {
            "revision": compiled.revision,
            "roots": ["sluice_nothing"],
            "metadata": {"sequence": 1},
        }
        await self._opa.ask("PUT", "/v1/data/system/bundles/sluice/manifest", manifest)
        data = compiled.data.removeprefix(b'{"sluice_data":').removesuffix(b"}")
        await self._opa.ask("PUT", "/v1/data/sluice_data", text=data)
        databases = _asked(document)
        questions = _questions(profile, document, databases)
        try:
            answer: dict[str, Any] = await self._opa.ask(
                "POST", "/v1/data/sluice_smoke", {"input": questions}
            )
        except OpaError as error:
            await self._opa.ask("GET", "/health")  # Away: not the content's fault.
            return f"OPA fails to decide: {error}"
        return _judge(answer.get("result") or {}, questions, databases, compiled.revision)


def _asked(document: Mapping[str, Any]) -> dict[str, Any]:
    """The databases to ask about: all, but of those that no policy names one for each distinct entry.

    What the others answer differs in their names alone; there may be hundreds of them for each of hundreds of profiles.
    """
    databases: Mapping[str, Any] = document["databases"]
    named = {name for policy in document["policies"] for name in policy["databases"]}
    chosen = {name: databases[name] for name in databases if name in named}
    seen: list[Any] = []
    for name in sorted(databases):
        if name not in named and databases[name] not in seen:
            seen.append(databases[name])
            chosen[name] = databases[name]
    return chosen


def _roles(document: Mapping[str, Any], database: str) -> list[str]:
    """Roles to ask as: some that policies speak of, and one that none does."""
    found: set[str] = set()
    for policy in document["policies"]:
        if database in policy["databases"]:
            subjects: list[dict[str, dict[str, list[str]]]] = policy.get("subjects") or []
            for subject in subjects:
                found.update(subject.get("role", {}).get("names", ()))
    return [NOBODY, *sorted(found)[:ROLES_MAX]]


def _questions(
    profile: Profile, document: Mapping[str, Any], databases: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    workload = {
        "namespace": profile.namespace,
        "service_account": profile.service_account,
        "pod": None,
        "labels": dict(profile.labels),
        "assurance": "verified",
    }
    common = {
        "contract": 1,
        "identity": {"workload": workload, "actor": None},
        "clock": {"now_ns": time.time_ns(), "trusted": True},
    }
    statement: dict[str, Any] = {
        "kind": "select",
        "actions": ["select"],
        "tables": [{"name": "public.smoke", "access": "read", "columns": [], "classes": []}],
        "functions": [],
        "unfiltered_write": False,
        "limit": None,
        "write_oracles": [],
    }
    sessions: dict[str, Any] = {}
    statements: dict[str, Any] = {}
    for name in databases:
        for role in _roles(document, name):
            session: dict[str, Any] = {"database": name, "role": role}
            sessions[f"{name} as {role}"] = {**common, "session": session}
            statements[f"{name} as {role}"] = {
                **common,
                "session": {**session, "search_path": ["public"]},
                "statement": statement,
            }
    return {"sessions": sessions, "statements": statements}


def _judge(
    result: Mapping[str, Any],
    questions: Mapping[str, Mapping[str, Any]],
    databases: Mapping[str, Any],
    revision: str,
) -> str | None:
    bad: list[str] = []
    malformed: Any = result.get("malformed")
    for kind, fields in (("sessions", SESSION_FIELDS), ("statements", STATEMENT_FIELDS)):
        answers: Mapping[str, Any] = result.get(kind) or {}
        for asked, question in sorted(questions[kind].items()):
            answer: Any = answers.get(asked)
            state = databases[question["session"]["database"]]["state"]
            if answer is None:
                bad.append(f"no {kind[:-1]} decision for {asked}")
            elif not _well_formed(answer, fields, revision) or answer["reasons"] == malformed:
                # What was asked is well formed: who calls it malformed could not read the content.
                bad.append(f"a {kind[:-1]} decision for {asked} that breaks the contract")
            elif state == "denied" and answer["allow"]:
                bad.append(f"a {kind[:-1]} decision that allows {asked}, though it is denied")
    if not bad:
        return None
    more = f", and {len(bad) - NAMED_MAX} more" if len(bad) > NAMED_MAX else ""
    return f"OPA gives {'; '.join(bad[:NAMED_MAX])}{more}"


def _well_formed(answer: Any, fields: frozenset[str], revision: str) -> bool:
    if not isinstance(answer, dict):
        return False
    known = cast("dict[str, Any]", answer)
    return (
        fields <= known.keys()
        and known["contract"] == 1
        and known["revision"] == revision
        and isinstance(known["allow"], bool)
    )
