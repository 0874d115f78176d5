"""FROM items drawn at random: relations, sub-selects, functions, VALUES, joins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluice_dev.worlds.expressions import Ref, Scope
from sluice_dev.worlds.schema import Column, Relation, quoted

if TYPE_CHECKING:
    from sluice_dev.worlds.queries import Queries


class Sources:
    """Draws FROM items; sub-selects come from the queries that they are part of."""

    def __init__(self, queries: Queries) -> None:
        self.queries, self.schema, self.rng = queries, queries.schema, queries.rng
        self.expressions, self.words = queries.expressions, queries.words

    def _expr(self, kind: str, scope: Scope, depth: int) -> str:
        return self.expressions.expression(kind, scope, depth)

    def source(self, scope: Scope, depth: int) -> tuple[str, Scope]:
        """Return one FROM item and what it offers; ``scope`` is what LATERAL may name."""
        rng = self.rng
        draw = rng.random()
        if depth <= 0 or draw < 0.6:
            if rng.random() < 0.06:
                return self._relation(self.catalog())
            return self._relation(self.expressions.relation())
        if draw < 0.67 and self.queries.ctes:
            name, names, kinds = rng.choice(self.queries.ctes)
            return self.named(name, self.queries.alias(), names, kinds)
        if draw < 0.8:
            lateral = "LATERAL " if rng.random() < 0.4 else ""
            inner = self.queries.select(scope if lateral else Scope(), depth - 1)
            alias = self.queries.alias()
            names = tuple(f"c{n}" for n in range(1, len(inner.kinds) + 1))
            return self._derived(f"{lateral}({inner.sql})", alias, names, inner.kinds)
        if draw < 0.9:
            return self._function(scope)
        if draw < 0.95:
            alias = self.queries.alias()
            values = f"(VALUES ({self._expr('int', scope, 0)}, {self._expr('text', scope, 0)}), (2, 'z'))"
            return self._derived(values, alias, ("c1", "c2"), ("int", "text"))
        left, one = self.source(scope, depth - 1)
        right, two = self.source(scope, 0)
        alias = f" {self.queries.alias()}" if rng.random() < 0.3 else ""
        both = one.joined(two)
        text = f"({left} {rng.choice(['CROSS JOIN', 'NATURAL JOIN'])} {right}){alias}"
        return text, Scope([], [(alias.strip(), ("id",))]) if alias else both

    def catalog(self) -> Relation:
        """Return a catalog relation, mostly one that may be read."""
        catalog = self.schema.catalog
        return self.rng.choices(catalog, [one.weight for one in catalog])[0]

    def _function(self, scope: Scope) -> tuple[str, Scope]:
        rng, alias = self.rng, self.queries.alias()
        template, kind = rng.choice(self.words.table_functions)
        call = self.expressions.fill(template, scope, 1)
        made = Scope([Ref(f"{alias}.c1", kind, secret=False)], [(alias, ("c1",))])
        draw = rng.random()
        if draw < 0.12:
            other = self.expressions.fill("jsonb_to_recordset({jsonb})", scope, 1)
            two = [
                Ref(f"{alias}.c1", "text", secret=False),
                Ref(f"{alias}.c2", "int", secret=False),
            ]
            return f"{other} AS {alias}(c1 text, c2 int)", Scope(two, [(alias, ("c1", "c2"))])
        if "TABLE(" in template:
            return f"{call} {alias}(c1)", made
        if draw < 0.2:
            other = self.expressions.fill("generate_series(1, {small})", scope, 0)
            return f"ROWS FROM ({call}, {other}) {alias}(c1, c2)", made
        if draw < 0.4:
            return f"{call} WITH ORDINALITY {alias}(c1)", made
        return f"{call} {alias}(c1)", Scope(made.refs)

    def _relation(self, relation: Relation) -> tuple[str, Scope]:
        rng = self.rng
        alias = self.queries.alias() if rng.random() < 0.85 else None
        columns: tuple[Column, ...] = relation.columns
        names = [quoted(column.name) for column in columns]
        text = relation.sql
        if relation.schema == "public" and rng.random() < 0.6:
            text = quoted(relation.name)
        only = rng.random()
        text = f"ONLY {text}" if only < 0.07 else f"ONLY ({text})" if only < 0.09 else text
        if only >= 0.98:
            text += " *"
        if alias is not None:
            text += f" AS {alias}" if rng.random() < 0.5 else f" {alias}"
            if rng.random() < 0.12:
                names = [f"c{n}" for n in range(1, rng.randint(1, len(names)) + 1)]
                text += f"({', '.join(names)})"
                names += [quoted(column.name) for column in columns[len(names) :]]
        if rng.random() < 0.004:
            text += " TABLESAMPLE BERNOULLI (100)"
        head = alias or quoted(relation.name)
        refs = [
            Ref(f"{head}.{name}" if rng.random() < 0.94 else name, column.kind, column.secret)
            for name, column in zip(names, columns, strict=True)
        ]
        return text, Scope(refs, [(head, tuple(names))])

    def named(
        self, text: str, alias: str, names: tuple[str, ...], kinds: tuple[str, ...]
    ) -> tuple[str, Scope]:
        """Return a FROM item under an alias, and its columns."""
        refs = [
            Ref(f"{alias}.{name}", kind, secret=False)
            for name, kind in zip(names, kinds, strict=True)
        ]
        return f"{text} {alias}", Scope(refs, [(alias, names)])

    def _derived(
        self, text: str, alias: str, names: tuple[str, ...], kinds: tuple[str, ...]
    ) -> tuple[str, Scope]:
        _text, scope = self.named(text, alias, names, kinds)
        return f"{text} {alias}({', '.join(names)})", scope

    def from_clause(self, scope: Scope, depth: int) -> tuple[str, Scope]:
        """Return FROM with one to three items, and the scope with ``scope`` as outer."""
        rng = self.rng
        text, here = self.source(scope, depth)
        for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
            other, there = self.source(scope.joined(here), depth - 1)
            both = here.joined(there)
            ways = ["comma", "cross", "on", "on", "on", "left", "left", "full", "right"]
            if _has_id(here) and _has_id(there):
                ways += ["using", "natural"]
            match rng.choice(ways):
                case "comma":
                    text += f", {other}"
                case "cross":
                    text += f" CROSS JOIN {other}"
                case "using":
                    word = rng.choice(["", "LEFT ", "FULL "])
                    named = f" AS {self.queries.alias()}" if rng.random() < 0.15 else ""
                    text += f" {word}JOIN {other} USING (id){named}"
                case "natural":
                    text += f" NATURAL LEFT JOIN {other}"
                case kind:
                    equal = self.equal(here, there)
                    word = {
                        "on": "JOIN",
                        "left": "LEFT JOIN",
                        "full": "FULL JOIN",
                        "right": "RIGHT JOIN",
                    }[kind]
                    if kind == "full" or rng.random() < 0.4:
                        text += f" {word} {other} ON {equal}"
                    else:
                        text += f" {word} {other} ON {self._expr('bool', both, 1)}"
            here = both
        return text, here

    def equal(self, one: Scope, two: Scope) -> str:
        """Return that a column of each is the same; ``false`` where no kinds meet."""
        for kind in self.rng.sample(["int", "int", "text", "date", "uuid"], 5):
            left = [ref for ref in one.refs if ref.kind == kind]
            right = [ref for ref in two.refs if ref.kind == kind]
            if left and right:
                chosen = self.rng.choice(left)
                # Joins of two masked columns are refused, mostly.
                open_ones = [ref for ref in right if not (chosen.secret and ref.secret)]
                if open_ones and self.rng.random() < 0.8:
                    right = open_ones
                return f"{chosen.sql} = {self.rng.choice(right).sql}"
        return "false"


def _has_id(scope: Scope) -> bool:
    return len(scope.rows) == 1 and "id" in scope.rows[0][1]
