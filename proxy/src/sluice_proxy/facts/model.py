"""What is known about a statement once it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class TextEdit:
    """Replace the tokens ``start`` to ``end``; insert behind token ``start - 1`` when equal."""

    start: int
    end: int
    text: str


@dataclass(slots=True)
class TableUse:
    """One relation that a statement touches."""

    name: str
    """``schema.table``, unquoted."""
    reads: set[str] = field(default_factory=set[str])
    writes: set[str] = field(default_factory=set[str])
    read: bool = False
    written: bool = False
    classes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Class of each classified column."""
    masks: Mapping[str, str] = field(default_factory=dict[str, str])
    """Kind of the mask of each masked column."""
    filtered: bool = False
    governed: bool = False

    def opa(self) -> dict[str, Any]:
        """Return the table as the contract's statement input has it."""
        access = "readwrite" if self.read and self.written else "write" if self.written else "read"
        columns = [
            {"name": name, "class": self.classes.get(name), "access": how}
            for how, names in (("read", self.reads), ("write", self.writes))
            for name in sorted(names)
        ]
        classes = sorted({self.classes[name] for name in self.reads if name in self.classes})
        return {"name": self.name, "access": access, "columns": columns, "classes": classes}


@dataclass(frozen=True, slots=True)
class SessionEffects:
    """What the statement does to its session; field meanings as in ``_native.Effects``."""

    refresh: bool = False
    prepare: str | None = None
    execute: str | None = None
    deallocate: str | None = None
    deallocate_all: bool = False
    declare: str | None = None
    fetch: str | None = None
    close_cursor: str | None = None
    close_all_cursors: bool = False


@dataclass(frozen=True, slots=True)
class StatementFacts:
    """One statement: what it does, and how its text must change for this session."""

    kind: str
    actions: tuple[str, ...]
    span: tuple[int, int]
    tables: tuple[TableUse, ...] = ()
    functions: tuple[str, ...] = ()
    unfiltered_write: bool = False
    limit: int | None = None
    write_oracles: tuple[str, ...] = ()
    temporary_only: bool = False
    edits: tuple[TextEdit, ...] = ()
    effects: SessionEffects | None = None
    bound: tuple[int, ...] = ()
    """Tokens of literals that decided something."""
    cacheable: str = "template"
    created: tuple[str, tuple[str, ...]] | None = None
    """The temporary table that it makes, when that is all it does to the session."""
    lasting: tuple[str, str, tuple[str, ...]] | None = None
    """Schema, name and columns of the table that stays and that it makes anew, when that is all it does."""
    dropped: tuple[str, ...] = ()
    """The temporary tables that it drops, when that is all it does to the session."""
    nameless: bool = False
    """What it changes of the session gives no name another meaning: a later one that is gone ends in an error."""
    placing: bool = False
    """It makes a schema: where a name without one leads is not known behind it."""
    settled: bool = False
    """True only if the transaction that the text came in changed nothing of the session: it ends in front of this."""
    understood: bool = True
    """False: an open session's text that the grammar does not know; nothing is claimed about it."""

    @property
    def governed(self) -> bool:
        """True when a governed table is touched."""
        return any(table.governed for table in self.tables)

    def opa(self) -> dict[str, Any]:
        """Return the ``statement`` part of ``data.sluice.statement.decision``'s input."""
        return {
            "kind": self.kind,
            "actions": list(self.actions),
            "tables": [table.opa() for table in self.tables],
            "functions": list(self.functions),
            "unfiltered_write": self.unfiltered_write,
            "limit": self.limit,
            "write_oracles": list(self.write_oracles),
        }
