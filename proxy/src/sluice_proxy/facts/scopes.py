"""FROM items, the levels of a query they are visible at, and what a leaky predicate over them needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sluice_proxy.catalog.model import Column, ColumnType, Relation
from sluice_proxy.facts.model import TableUse
from sluice_proxy.governed import GovernedRelation

SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})


@dataclass(slots=True)
class Derived:
    """What comparing a sub-select's column takes. Never changed once made."""

    total: bool = True
    """It may be an operand of the total operators."""
    base: str | None = None
    """``schema.typname`` of its base type; None when not known."""
    type: ColumnType | None = None
    """The column's type, when it is a column's."""
    collation: str | None = None
    weak: bool = False
    """Its mask shows different values alike."""


@dataclass(eq=False, slots=True)
class Source:
    """One FROM item, or the target of a write."""

    refname: str
    """The name that column references use; empty when it has none."""
    level: Level
    schema: str | None = None
    table: str | None = None
    """Of a relation without an alias, for references such as ``public.users.email``."""
    relation: Relation | None = None
    governed: GovernedRelation | None = None
    columns: tuple[str, ...] | None = None
    """Names as the statement sees them, in order; None when not known."""
    renamed: dict[str, str] = field(default_factory=dict[str, str])
    """The column below behind each visible name that an alias list changed."""
    query: Query | None = None
    """The sub-select or CTE behind it."""
    target: bool = False
    """The target of a write: references to it read raw values."""
    nullable: bool = False
    """It stands on the nullable side of an outer join."""
    hidden_name: bool = False
    """A join's alias hides its own name outside of the join."""
    only: bool = False
    splice: tuple[int, int] | None = None
    table_command: bool = False
    aliased: bool = False
    use: TableUse | None = None
    fenced: bool = False
    guarded: bool = False
    """A predicate repeats its filter, so the filter's columns must be projected."""
    everything: bool = False
    """All its columns are asked for (``*``, a whole row, NATURAL)."""
    members: tuple[Source, ...] = ()
    """The FROM items behind a join's alias."""
    wanted: set[str] = field(default_factory=set[str])
    system: set[str] = field(default_factory=set[str])
    number: int = field(default_factory=itertools.count().__next__)
    """By it sets of sources are put in order, so that the same statement always ends the same way."""
    operands: dict[str, Any] = field(default_factory=dict[str, Any])
    """What comparing each column of a relation takes, worked out once: ``columns.operand`` keeps it."""

    @property
    def filtered(self) -> bool:
        """True while rows that the session must not see may still be there for the planner to reorder over."""
        if self.members:
            return any(member.filtered for member in self.members)
        if self.fenced or self.target:
            return self.target and self.governed is not None and bool(self.governed.filters)
        if self.governed is not None:
            return bool(self.governed.filters)
        return self.query is not None and self.query.filtered

    def column(self, name: str) -> Column | None:
        """Return the relation's column that the statement calls ``name``."""
        if self.relation is None:
            return None
        return self.relation.column(self.origin(name))

    def has(self, name: str) -> bool | None:
        """Say whether it has a column of that name; None when its columns are not known."""
        return None if self.columns is None else name in self.columns

    def leaky(self, name: str) -> bool:
        """Say whether this column is an expression over hidden rows that a predicate would evaluate early."""
        if self.members:
            return any(member.leaky(name) for member in self.members)
        query = self.query
        if query is None or not self.filtered:
            return False
        unknown = query.columns is None and query.leaky_targets
        return unknown or self.origin(name) in query.leaky_columns

    def origin(self, name: str) -> str:
        """Return the name that a visible column has below this FROM item's alias list."""
        return self.renamed.get(name, name)

    def derived(self, name: str) -> Derived:
        """Say what comparing a column of a sub-select or of a join takes."""
        if self.members:
            return Derived(total=not self.filtered)
        if self.query is None:
            return Derived()
        if self.query.columns is None:
            return Derived(total=not self.filtered)
        return self.query.derived.get(self.origin(name)) or Derived()


@dataclass(eq=False, slots=True)
class Query:
    """One sub-select, CTE or set operation."""

    level: Level | None = None
    columns: tuple[str, ...] | None = None
    leaky_columns: set[str] = field(default_factory=set[str])
    derived: dict[str, Derived] = field(default_factory=dict[str, Derived])
    """What is known of its columns; names that are absent are nobody's in particular."""
    total: bool = False
    """Nothing in it can raise or leak: it may stand in a predicate as it is."""
    leaky_targets: bool = False
    end: int = 0
    """The token behind its last one."""
    limited: bool = False
    """It has LIMIT or OFFSET; only OFFSET is a fence everywhere."""
    offset: bool = False
    locking: bool = False
    opaque: bool = False
    """The planner neither flattens it nor pushes anything into it."""
    fenced: bool = False
    arms: list[Query] = field(default_factory=list["Query"])

    done: bool = False
    """It is walked: what ``filtered`` says of it changes by fences only."""
    remembered: tuple[int, bool] = (-1, False)
    """How many fences there were when ``filtered`` was last worked out, and what it was."""

    @property
    def filtered(self) -> bool:
        """True when hidden rows are below it and nothing keeps the planner out."""
        if self.opaque or self.fenced or self.offset:
            return False
        if self.done and self.remembered[0] == Fences.made:
            return self.remembered[1]
        found = self._filtered()
        self.remembered = (Fences.made, found)
        return found

    def _filtered(self) -> bool:
        if any(arm.filtered for arm in self.arms):
            return True
        if self.level is None:
            return False
        # A LATERAL sub-select is flattened into the level whose rows it reads.
        return any(source.filtered for source in (*self.level.sources, *self.level.outer))


class Fences:
    """Counts what makes remembered answers about filters stale; of all statements together, which is only cautious."""

    made: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class Cte:
    """A WITH query that is in sight."""

    name: str
    query: Query


@dataclass(eq=False, slots=True)
class Level:
    """The names of one query level."""

    parent: Level | None
    sources: list[Source] = field(default_factory=list[Source])
    ctes: dict[str, Cte] = field(default_factory=dict[str, Cte])
    outer: set[Source] = field(default_factory=set[Source])
    """Sources of outer levels that this level refers to."""
    total: bool = True
    """Nothing in its FROM clause can raise or leak."""
    bare: dict[str, tuple[Source, Any]] = field(default_factory=dict[str, tuple[Source, Any]])
    """What unqualified names were found to mean, with the last source there was then: ``columns`` keeps it."""
    _names: dict[str, Source] = field(default_factory=dict[str, Source])
    _made_of: tuple[int, Source | None] = (0, None)
    """How many sources ``_names`` was made of, and the last of them: what is added comes last."""

    def cte(self, name: str) -> Cte | None:
        """Return the WITH query that a bare name means here."""
        level: Level | None = self
        while level is not None:
            if name in level.ctes:
                return level.ctes[name]
            level = level.parent
        return None

    def chain(self) -> Iterator[Level]:
        """Yield this level and the ones around it."""
        level: Level | None = self
        while level is not None:
            yield level
            level = level.parent

    def named(self, refname: str) -> Source | None:
        """Return the FROM item that a qualified reference means."""
        for level in self.chain():
            found = level.own(refname)
            if found is not None:
                return found
        return None

    def own(self, refname: str) -> Source | None:
        """Return the FROM item of this very level that a qualified reference means."""
        sources, (count, last) = self.sources, self._made_of
        if count != len(sources) or (count and sources[-1] is not last):
            if not 0 < count < len(sources) or sources[count - 1] is not last:
                self._names, count = {}, 0
            for source in sources[count:]:
                if not source.hidden_name:
                    self._names.setdefault(source.refname, source)
            self._made_of = (len(sources), sources[-1] if sources else None)
        return self._names.get(refname)

    def renamed(self) -> None:
        """Note that names of FROM items changed."""
        self._made_of = (0, None)
        self._names = {}

    def real(self) -> list[Source]:
        """Return the FROM items, without the aliases of joins."""
        return [source for source in self.sources if not source.members]

    def qualified(self, schema: str, table: str) -> Source | None:
        """Return the FROM item that ``schema.table.column`` means."""
        for level in self.chain():
            for source in level.sources:
                if source.schema == schema and source.table == table and not source.aliased:
                    return source
        return None

    def note(self, source: Source) -> None:
        """Record that an expression of this level reads a source."""
        for level in self.chain():
            if level is source.level:
                return
            level.outer.add(source)
