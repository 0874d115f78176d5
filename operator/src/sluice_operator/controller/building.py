"""What is in force → content for a profile: compiled, tried in OPA, remembered by its revision alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sluice_operator.controller.smoke import Smoke
from sluice_operator.reconcile.census import Reach
from sluice_operator.reconcile.effective import Effective
from sluice_operator.reconcile.model import Refused
from sluice_policy import Compiled, Profile
from sluice_policy.compiler import compile_document


@dataclass(frozen=True, slots=True)
class Built:
    """A profile's content, without the content."""

    serial: int
    """Of what was in force."""
    revision: str
    reach: Reach
    problem: Refused | None
    """Why it must not be published, or cannot be."""


class Builder:
    """Compiles profiles, each at most once for what is in force."""

    def __init__(self, smoke: Smoke) -> None:
        """Make one."""
        self._smoke = smoke
        self._built: dict[str, Built] = {}

    def known(self, profile_id: str, serial: int) -> Built | None:
        """Return what was built of this for a profile."""
        built = self._built.get(profile_id)
        return built if built is not None and built.serial == serial else None

    def refuse(self, profile_id: str, why: Refused) -> None:
        """Take that what was built last cannot be published."""
        self._built[profile_id] = replace(self._built[profile_id], problem=why)

    def forget(self, profiles: set[str]) -> None:
        """Keep only these profiles."""
        self._built = {name: built for name, built in self._built.items() if name in profiles}

    async def compile(
        self, profiles: Sequence[Profile], effective: Effective
    ) -> list[tuple[dict[str, Any], Compiled]]:
        """Compile some profiles, in a thread."""
        return await asyncio.to_thread(lambda: [_compile(one, effective) for one in profiles])

    async def judge(
        self,
        profile: Profile,
        document: Mapping[str, Any],
        compiled: Compiled,
        *,
        effective: Effective,
        serial: int,
        published: str | None,
    ) -> Built:
        """Try content, but for what was tried before it was published.

        Raises:
            OpaError: OPA is away.
        """
        problem = None
        if compiled.revision != published:
            found = await self._smoke.problem(compiled, profile, document)
            problem = None if found is None else Refused("SmokeFailed", found)
        databases: Mapping[str, Any] = document["databases"]
        reach = Reach(
            policies=frozenset(entry["name"] for entry in document["policies"]),
            databases=frozenset(
                n for n, d in databases.items() if _admitted(n, d, effective, profile)
            ),
        )
        built = self._built[profile.id] = Built(serial, compiled.revision, reach, problem)
        return built


def _compile(profile: Profile, effective: Effective) -> tuple[dict[str, Any], Compiled]:
    document = effective.judged.document(profile, effective.denied)
    return document, compile_document(document)


def _admitted(
    name: str, document: Mapping[str, Any], effective: Effective, profile: Profile
) -> bool:
    """Whether a profile comes under a classification; also under one that is denied."""
    if document["state"] == "active":
        return bool(document["allowed"])
    database = effective.judged.databases.get(name)
    return database is not None and database.admits(profile.namespace)
