"""What the catalogs say of the policy: columns counted for the owner of a classification, and what does not fit.

Sidecars alone read catalogs, so they look and the operator tells. Looked again when the catalog or the policy changed.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, cast

import structlog

from sluice_proxy import log_keys as keys
from sluice_proxy.bundles.model import Bundle
from sluice_proxy.catalog.model import Catalog, Relation, RelationKind
from sluice_proxy.databases import Database, Databases
from sluice_proxy.decisions import ClassEntry, Level, SessionDecision
from sluice_proxy.governed import problems, warnings
from sluice_proxy.governed.classes import SYSTEM_SCHEMAS, Classes
from sluice_proxy.governed.entries import UNREVIEWED, Entries
from sluice_proxy.masks.order import REDACT
from sluice_proxy.reports import ClientError

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
SETTLE_S: Final = 2.0
"""After a change of policy sessions ask for their decisions first."""
NOBODY: Final = "sluice_survey"
"""A role that no policy names: what holds for roles in general."""
ROLES_MAX: Final = 8
DATABASES_MAX: Final = 64
FINDINGS_MAX: Final = 8
MESSAGE_CHARS_MAX: Final = 512
_COUNTED: Final = frozenset(
    {RelationKind.TABLE, RelationKind.PARTITIONED, RelationKind.FOREIGN_TABLE}
)
"""Views show what they read: their columns are not counted twice."""
_AGE: Final = re.compile(r"its catalog was last read \d+ s ago, the bound is [\d.]+ s")


class Asked(Protocol):
    """Decides what holds for a role; ``decide.Decider`` is one."""

    async def session(self, *, database: str, role: str) -> SessionDecision:
        """Return the decision.

        Raises:
            ClientError: It cannot be had now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Columns:
    """How far the review of a database's columns is."""

    classified: int
    unreviewed: int


@dataclass(frozen=True, slots=True)
class Misfit:
    """Something in the policy that a catalog does not bear out."""

    message: str
    policies: tuple[str, ...]
    """Full names of those that hold there."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found in one catalog under one policy."""

    version: int
    revision: str
    columns: Columns
    misfits: tuple[Misfit, ...] = ()
    drift: tuple[str, ...] = ()
    """Names that the classification or a row filter has and the catalog has not."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What a bundle says of one database."""

    entries: tuple[ClassEntry, ...]
    roles: tuple[str, ...]


class Survey:
    """Looks at all catalogs, behind the sessions."""

    def __init__(self, databases: Databases) -> None:
        """Make one; ``run`` does the work."""
        self._databases = databases
        self._found: dict[str, Finding] = {}
        self._said: tuple[str, Mapping[str, _Said]] = "", {}

    async def run(self, in_force: InForce, asked: Asked) -> None:
        """Look until cancelled.

        Args:
            in_force: Whose policy holds.
            asked: Decides.
        """
        revision = ""
        while True:
            await asyncio.sleep(LOOK_S)
            bundle = in_force.in_force
            if bundle is None:
                continue
            if bundle.revision != revision:
                revision = bundle.revision
                await asyncio.sleep(SETTLE_S)
                continue
            try:
                await self.look(bundle, asked)
            except ClientError:
                continue  # OPA is away, or the policy changed meanwhile.
            except Exception as error:
                log.exception("survey failed", **{keys.ERROR_TYPE: type(error).__name__})

    async def look(self, bundle: Bundle, asked: Asked) -> None:
        """Look at every catalog that was not seen under this policy.

        Raises:
            ClientError: A decision cannot be had now.
        """
        if self._said[0] != bundle.revision:
            self._said = bundle.revision, await asyncio.to_thread(_read, bundle.raw)
        for database in list(self._databases):
            catalog = self._databases.catalog(database)
            said = self._said[1].get(database.name)
            if catalog is None or said is None:
                self._found.pop(database.name, None)
                continue
            known = self._found.get(database.name)
            if known is None or (known.version, known.revision) != (
                catalog.version,
                bundle.revision,
            ):
                self._found[database.name] = await _find(database, catalog, bundle, said, asked)

    def documents(self) -> list[dict[str, Any]]:
        """Return ``databases`` of ``status.schema.json``: those with a catalog role."""
        found: list[dict[str, Any]] = []
        for database in sorted(self._databases, key=lambda one: one.name)[:DATABASES_MAX]:
            if database.catalog_dsn is None or self._pending(database):
                continue
            problem = self._databases.catalog_problem(database)
            one: dict[str, Any] = {"name": database.name[:320], "reachable": problem is None}
            if problem is not None:
                one["message"] = ageless(problem)[:MESSAGE_CHARS_MAX]
            finding = self._found.get(database.name)
            if finding is not None:
                columns = finding.columns
                one["columns"] = {
                    "classified": columns.classified,
                    "unreviewed": columns.unreviewed,
                }
                one["drift"] = [text[:MESSAGE_CHARS_MAX] for text in finding.drift]
            found.append(one)
        return found

    def problems(self) -> list[dict[str, Any]]:
        """Return what does not fit, as ``problems`` of ``status.schema.json``."""
        return [
            {
                "database": name[:320],
                "message": f"the policy does not fit its catalog: {misfit.message}"[:1024],
                "policies": [policy[:320] for policy in misfit.policies[:ROLES_MAX]],
            }
            for name, finding in sorted(self._found.items())
            for misfit in finding.misfits
        ]

    def _pending(self, database: Database) -> bool:
        """Whether the first look is still to come: that is neither good nor bad."""
        ages = self._databases.catalog_ages_s()
        problem = self._databases.catalog_problem(database) or ""
        return ages.get(database.name) == float("inf") and problem.endswith(" yet")


class InForce(Protocol):
    """Has the policy that every session works under; ``run.Sidecar`` is one."""

    @property
    def in_force(self) -> Bundle | None:
        """It; None before the first."""
        ...


def ageless(message: str) -> str:
    """Return a message without what is another number each time it is asked for."""
    return _AGE.sub("its catalog cannot be read any more", message)


def count(catalog: Catalog, entries: Iterable[ClassEntry]) -> Columns:
    """Count the columns of tables that a class holds for, and those that no entry matches."""
    given = tuple(entries)
    masks = dict.fromkeys([*(entry.class_ for entry in given), UNREVIEWED], REDACT)
    classes = Classes(catalog, Entries(replace(_NOTHING, entries=given, masks=masks)))
    classified = unreviewed = 0
    for relation in catalog.by_oid.values():
        if relation.kind not in _COUNTED or relation.schema in SYSTEM_SCHEMAS:
            continue
        for column in relation.columns:
            if _from_above(catalog, relation, column.name):
                continue
            holding = classes.column(relation, column.name)
            if holding.class_ == UNREVIEWED:
                unreviewed += 1
            elif not holding.public:
                classified += 1
    return Columns(classified, unreviewed)


def _from_above(catalog: Catalog, relation: Relation, column: str) -> bool:
    """Whether a column is a parent's: partitions are not counted again."""
    parents = (catalog.by_oid.get(oid) for oid in relation.parents)
    return any(one is not None and one.column(column) is not None for one in parents)


async def _find(
    database: Database, catalog: Catalog, bundle: Bundle, said: _Said, asked: Asked
) -> Finding:
    columns = await asyncio.to_thread(count, catalog, said.entries)
    misfits: dict[str, Misfit] = {}
    only = replace(_NOTHING, entries=said.entries)
    drift = dict.fromkeys(await asyncio.to_thread(warnings, catalog, only))
    for role in said.roles:
        decision = await asked.session(database=database.name, role=role)
        if not decision.allow:
            continue
        if decision.level == Level.RESTRICTED:
            for text in await asyncio.to_thread(problems, catalog, decision):
                misfits.setdefault(text, Misfit(text, decision.policies))
        drift |= dict.fromkeys(await asyncio.to_thread(warnings, catalog, decision))
    return Finding(
        version=catalog.version,
        revision=bundle.revision,
        columns=columns,
        misfits=tuple(misfits.values())[:FINDINGS_MAX],
        drift=tuple(sorted(drift))[:FINDINGS_MAX],
    )


def _read(raw: bytes) -> dict[str, _Said]:
    """Return what a verified bundle says of the databases that it admits this profile to."""
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:gz") as archive:
        content = archive.extractfile("data.json")
        document: Any = {} if content is None else json.loads(content.read())
    data = cast("dict[str, Any]", document.get("sluice_data") or {})
    databases: dict[str, Any] = data.get("databases") or {}
    policies: list[dict[str, Any]] = data.get("policies") or []
    return {
        name: _Said(
            tuple(ClassEntry(e["table"], e["column"], e["class"]) for e in one["columns"]),
            _roles(name, policies),
        )
        for name, one in databases.items()
        if one.get("state") == "active" and one.get("allowed")
    }


def _roles(database: str, policies: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the roles to ask as: one of no policy, and some that policies speak of."""
    found: set[str] = set()
    for policy in policies:
        if database in policy.get("databases", ()):
            subjects: list[dict[str, dict[str, list[str]]]] = policy.get("subjects") or []
            for subject in subjects:
                found.update(subject.get("role", {}).get("names", ()))
    return (NOBODY, *sorted(found)[: ROLES_MAX - 1])


_NOTHING: Final = SessionDecision(
    revision="",
    sequence=0,
    valid_until_ns=None,
    allow=True,
    level=Level.RESTRICTED,
    observe=False,
    policies=(),
    reasons=(),
    entries=(),
    unreviewed_masked=True,
    masks={},
    row_filters=(),
    rows_max=None,
    seconds_max=None,
    trusted_functions=frozenset(),
    trusted_channels=frozenset(),
    write_oracle_keys_accepted=False,
    write_oracle_row_values_accepted=False,
)
"""A decision that hides nothing but what is put into it."""
