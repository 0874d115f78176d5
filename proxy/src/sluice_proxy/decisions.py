"""OPA's answers and the state of a session, as the pure parts (facts, masks, plan) see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from sluice_proxy.catalog.model import Catalog

Parts = tuple[str | tuple[str], ...]
"""A compiled expression: text, and one-element tuples that name a column of the row."""


class Level(IntEnum):
    """How much a session is held (DESIGN §4)."""

    OPEN = 0
    GUARDED = 1
    RESTRICTED = 2


@dataclass(frozen=True, slots=True)
class Mask:
    """One mask with its parameters, as the compiler wrote it."""

    kind: str
    count: int | None = None
    first: int | None = None
    last: int | None = None
    size: float | None = None
    parts: Parts | None = None
    rank: str | None = None


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Rows of matching tables for which the expression is not true do not exist for the session."""

    table: str
    """Pattern ``schema.table`` with ``*``."""
    parts: Parts
    policy: str


@dataclass(frozen=True, slots=True)
class ClassEntry:
    """One line of the classification."""

    table: str
    column: str
    class_: str


@dataclass(frozen=True, slots=True)
class SessionDecision:
    """``data.sluice.session.decision``, parsed. Field meanings: policy/contract/session_output.schema.json."""

    revision: str
    sequence: int
    valid_until_ns: int | None
    allow: bool
    level: Level
    observe: bool
    policies: tuple[str, ...]
    reasons: tuple[Mapping[str, Any], ...]
    entries: tuple[ClassEntry, ...]
    unreviewed_masked: bool
    masks: Mapping[str, Mask]
    row_filters: tuple[RowFilter, ...]
    rows_max: int | None
    seconds_max: float | None
    trusted_functions: frozenset[str]
    trusted_channels: frozenset[str]
    write_oracle_keys_accepted: bool
    write_oracle_row_values_accepted: bool


@dataclass(frozen=True, slots=True)
class StatementDecision:
    """``data.sluice.statement.decision``, parsed."""

    revision: str
    sequence: int
    valid_until_ns: int | None
    allow: bool
    policies: tuple[str, ...]
    reasons: tuple[Mapping[str, Any], ...]
    rows_max: int | None
    seconds_max: float | None
    warnings: tuple[Mapping[str, Any], ...]
    would: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class TemporaryRelation:
    """A relation in the session's own temporary schema, as the probe reported it."""

    name: str
    kind: str
    """``pg_class.relkind``."""
    columns: tuple[str, ...]
    reads: frozenset[tuple[int, int]] = frozenset()
    """Of a view: oids of the relations that it reads, each with the number of a column, or 0."""
    reads_own: frozenset[str] = frozenset()
    """Of a view: temporary relations that it reads."""
    unread: bool = False
    """Of what stays: a view, or a policy speaks of it; it is not read before it is in the catalog."""


@dataclass(frozen=True, slots=True)
class SessionContext:
    """Everything about a session that a plan may depend on."""

    database: str
    """``namespace/name`` of the DataClassification."""
    role: str
    search_path: tuple[str, ...]
    """Schemas in the order in which PostgreSQL searches them, ``pg_catalog`` and ``pg_temp``
    where they stand (explicitly or implicitly)."""
    temporary: Mapping[str, TemporaryRelation]
    decision: SessionDecision
    catalog: Catalog | None
    """None when the session is open or guarded and the catalog cannot be read."""
    server_major: int
    made: Mapping[tuple[str, str], TemporaryRelation] = field(
        default_factory=dict[tuple[str, str], TemporaryRelation]
    )
    """By schema and name: what stays and was made in the present transaction, so that no other session sees it yet."""
    unsearched: tuple[str, ...] = ()
    """Schemas that the setting search_path names and that were not searched when the session was asked: not there,
    or not to be used. Others may change that at any moment, so what calls and operators mean is judged with them."""

    @property
    def searchable(self) -> tuple[str, ...]:
        """All schemas in which a name without one may be found."""
        return (*self.search_path, *self.unsearched)
