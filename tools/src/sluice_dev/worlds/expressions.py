"""Expressions of a given kind over the columns in scope, drawn at random."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from sluice_dev.worlds import words
from sluice_dev.worlds.schema import Function, Relation, Schema, quoted

_HOLE = re.compile(r"\{([a-z0-9]+)(?::([a-z]+))?\}")
_KINDS = (
    "text",
    "text",
    "text",
    "int",
    "int",
    "num",
    "bool",
    "date",
    "ts",
    "jsonb",
    "json",
    "texts",
    "uuid",
    "bytea",
    "xml",
    "interval",
    "float",
    "other",
    "ints",
    "tsvector",
)


@dataclass(frozen=True, slots=True)
class Ref:
    """A column that may be named in an expression."""

    sql: str
    kind: str
    secret: bool


@dataclass(slots=True)
class Scope:
    """What FROM offers: columns, and aliases that stand for whole rows; ``outer`` for sub-selects."""

    refs: list[Ref] = field(default_factory=list[Ref])
    rows: list[tuple[str, tuple[str, ...]]] = field(
        default_factory=list[tuple[str, tuple[str, ...]]]
    )
    keys: tuple[str, ...] = ()
    """Expressions of GROUP BY; with them, only they may be named outside aggregates."""

    def joined(self, other: Scope) -> Scope:
        """Return both."""
        return Scope([*self.refs, *other.refs], [*self.rows, *other.rows], self.keys)


class Expressions:
    """Draws from the vocabulary. Queries come from ``sub``: (kind, scope, depth) → a parenthesised SELECT."""

    def __init__(self, schema: Schema, rng: random.Random) -> None:
        self.schema, self.rng = schema, rng
        self.words = words.vocabulary(schema.major)
        self.by_kind: dict[str, list[Function]] = {}
        for one in schema.functions:
            if not one.many:
                self.by_kind.setdefault(one.kind, []).append(one)
        self.sub: Callable[[tuple[str, ...], Scope, int], str] = lambda _k, _s, _d: "(SELECT NULL)"

    def relation(self, *, writable: bool = False) -> Relation:
        """Return a relation, governed ones more often."""
        fitting = [one for one in self.schema.relations if one.writable or not writable]
        return self.rng.choices(fitting, [one.weight for one in fitting])[0]

    def kind(self) -> str:
        """Return any kind."""
        return self.rng.choice(_KINDS)

    def leaf(self, kind: str, scope: Scope) -> str:
        """Return a column of that kind, cast to it where there is none, or a literal."""
        rng = self.rng
        fitting = [ref for ref in scope.refs if ref.kind == kind]
        secret = [ref for ref in fitting if ref.secret]
        if secret and rng.random() < 0.5:
            return rng.choice(secret).sql
        if fitting and rng.random() < 0.75:
            return rng.choice(fitting).sql
        if kind == "text" and scope.refs and rng.random() < 0.4:
            return f"{rng.choice(scope.refs).sql}::text"
        return rng.choice(words.LITERALS[kind])

    def expression(self, kind: str, scope: Scope, depth: int) -> str:
        """Return an expression of the kind; ``depth`` bounds nesting."""
        rng = self.rng
        if kind == "any":
            kind = self.kind()
        if depth <= 0 or rng.random() < 0.25 or kind not in self.words.templates:
            return self.leaf(kind, scope)
        functions = self.by_kind.get(kind)
        if functions and rng.random() < 0.12:
            return self.call(rng.choice(functions), scope, depth - 1)
        return self.fill(rng.choice(self.words.templates[kind]), scope, depth - 1)

    def call(self, function: Function, scope: Scope, depth: int) -> str:
        """Return a call of a built-in function with arguments of its kinds."""
        arguments = [
            f"({self.expression(kind, scope, depth)})::{name}"
            for kind, name in zip(function.arguments, function.types, strict=True)
        ]
        name = quoted(function.name)
        if self.rng.random() < 0.2:
            name = f"pg_catalog.{name}"
        return f"{name}({', '.join(arguments)})"

    def fill(self, template: str, scope: Scope, depth: int) -> str:
        """Return the template with its holes filled."""
        return _HOLE.sub(lambda match: self._hole(match[1], match[2], scope, depth), template)

    def _hole(self, name: str, argument: str | None, scope: Scope, depth: int) -> str:
        rng = self.rng
        match name:
            case "sub":
                return self.sub((argument or "text",), scope, depth)
            case "list":
                return self.sub((argument or "text", "*"), scope, depth)
            case "list2":
                return self.sub(("text", "int", "*"), scope, depth)
            case "exists":
                return self.sub(("*",), scope, depth)
            case "row":
                return rng.choice(scope.rows)[0] if scope.rows else "ROW(1, 'a')"
            case "whole":
                return f"{rng.choice(scope.rows)[0]}::text" if scope.rows else "1"
            case "record" | "field":
                return self._field(scope, record=name == "record")
            case "key":
                return rng.choice(scope.keys) if scope.keys else "1"
            case "count":
                return "(SELECT count(*) FROM " + self.relation().sql + ")::int"
            case "relation":
                return self.relation().sql
            case "small" | "pattern" | "regex" | "path":
                return rng.choice(words.LITERALS[name])
            case "any" if argument == "sortable":
                return self.expression(rng.choice(["text", "int", "date", "bool"]), scope, depth)
            case _:
                inner = self.expression(name, scope, depth)
                return inner if inner.isidentifier() else f"({inner})"

    def _field(self, scope: Scope, *, record: bool) -> str:
        if not scope.rows:
            return "SELECT 1 AS a" if record else "a"
        if record:
            self._row = self.rng.choice(scope.rows)
            return self._row[0]
        return self.rng.choice(self._row[1])
