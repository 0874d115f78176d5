"""What names mean in the text of a view: the entries of FROM, their columns, and what the rows hang on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pglast import ast

Source = tuple[int, str]
Sources = frozenset[Source] | None

_NOTHING: frozenset[Source] = frozenset()


class UnknownError(Exception):
    """The text has a construct whose columns cannot be told."""


@dataclass(frozen=True, slots=True)
class Output:
    """One column of a query's result; ``direct`` when it is another's value unchanged."""

    name: str
    sources: Sources
    direct: Source | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a FROM clause."""

    alias: str
    outputs: tuple[Output, ...]
    relation: int | None = None
    anything: Sources = _NOTHING
    open_ended: bool = False
    """A function or table function: a column of any name comes from ``anything``."""

    def find(self, name: str) -> Output | None:
        """Return its column of that name."""
        for output in self.outputs:
            if output.name == name:
                return output
        return Output(name, self.anything) if self.open_ended else None


@dataclass(slots=True)
class Scope:
    """One SELECT, while it is read."""

    items: list[Item]
    ctes: dict[str, tuple[Output, ...]]
    outer: Scope | None
    reads: set[Source] = field(default_factory=set[Source])
    reads_unknown: bool = False
    decides: set[Source] = field(default_factory=set[Source])
    """What which rows there are hangs on."""
    nulls: set[Source] = field(default_factory=set[Source])
    """The same, where only IS NULL is asked."""
    decides_unknown: bool = False
    conditions: bool = False
    """Something decides which rows there are."""

    def decide(self, sources: Sources) -> None:
        """Record that which rows there are hangs on these."""
        self.conditions = True
        if sources is None:
            self.decides_unknown = True
        else:
            self.decides.update(sources)

    def note(self, sources: Sources) -> Sources:
        """Record that these are read, and return them."""
        if sources is None:
            self.reads_unknown = True
        else:
            self.reads.update(sources)
        return sources

    def column(self, node: Any) -> Output:
        """Return what a reference to one column shows, here or in what is around."""
        fields = [f.sval if isinstance(f, ast.String) else None for f in node.fields]
        name = fields[-1]
        if name is None or len(fields) > 2:
            raise UnknownError
        current: Scope | None = self
        while current is not None:
            items = current.items
            if len(fields) == 2:
                items = [item for item in items if item.alias == fields[0]]
            found = [output for item in items if (output := item.find(name)) is not None]
            if len(found) == 1:
                return found[0]
            if found:
                return Output(name, union(o.sources for o in found))
            current = current.outer
        raise UnknownError

    def star(self, node: Any) -> Sources:
        """Return what a whole row (``u.*``) shows."""
        if len(node.fields) != 2 or not isinstance(node.fields[0], ast.String):
            raise UnknownError
        current: Scope | None = self
        while current is not None:
            for item in current.items:
                if item.alias == node.fields[0].sval:
                    return union([*(o.sources for o in item.outputs), item.anything])
            current = current.outer
        raise UnknownError


def union(parts: Iterable[Sources]) -> Sources:
    """Return all of them; unknown when one is."""
    found: set[Source] = set()
    for part in parts:
        if part is None:
            return None
        found |= part
    return frozenset(found)


def renamed(outputs: Sequence[Output], names: Sequence[str]) -> tuple[Output, ...]:
    """Give the first columns the names of an alias."""
    if len(names) > len(outputs):
        raise UnknownError
    kept = [o.name for o in outputs[len(names) :]]
    return tuple(
        Output(name, output.sources, output.direct)
        for name, output in zip([*names, *kept], outputs, strict=True)
    )
