"""SELECTs drawn at random; what SQL leaves open (ties, rows under a LIMIT) is closed by ORDER BY where it matters."""

from __future__ import annotations

import random
from dataclasses import dataclass

from sluice_dev.worlds import words
from sluice_dev.worlds.expressions import Expressions, Ref, Scope
from sluice_dev.worlds.schema import Column, Relation, Schema, quoted

_LOCKS = (" FOR UPDATE", " FOR SHARE", " FOR NO KEY UPDATE SKIP LOCKED", " FOR KEY SHARE NOWAIT")


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT; ``ordered`` when its ORDER BY leaves no order open."""

    sql: str
    kinds: tuple[str, ...]
    names: tuple[str, ...]
    ordered: bool = False


class Queries:
    """Draws SELECTs. One object serves one statement after the other."""

    def __init__(self, schema: Schema, rng: random.Random) -> None:
        self.schema, self.rng = schema, rng
        self.expressions = Expressions(schema, rng)
        self.expressions.sub = self.sub_select
        self._number = 0
        self._ctes: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []

    def alias(self) -> str:
        """Return a fresh alias, now and then one that shadows a name of the schema."""
        self._number += 1
        if self.rng.random() < 0.04:
            return quoted(self.rng.choice(self.schema.relations).name)
        return f"t{self._number}"

    def begin(self) -> None:
        """Forget the names of the statement before."""
        self._number = 0
        self._ctes = []

    def source(self, scope: Scope, depth: int) -> tuple[str, Scope]:
        """Return one FROM item and what it offers; ``scope`` is what LATERAL may name."""
        rng = self.rng
        draw = rng.random()
        if depth <= 0 or draw < 0.6:
            if rng.random() < 0.06:
                return self._relation(rng.choice(self.schema.catalog))
            return self._relation(self.expressions.relation())
        if draw < 0.67 and self._ctes:
            name, names, kinds = rng.choice(self._ctes)
            return self.named(name, self.alias(), names, kinds)
        if draw < 0.8:
            lateral = "LATERAL " if rng.random() < 0.4 else ""
            inner = self.select(scope if lateral else Scope(), depth - 1)
            alias = self.alias()
            names = tuple(f"c{n}" for n in range(1, len(inner.kinds) + 1))
            return self._derived(f"{lateral}({inner.sql})", alias, names, inner.kinds)
        if draw < 0.9:
            template, kind = rng.choice(words.TABLE_FUNCTIONS)
            call = self.expressions.fill(template, scope, 1)
            alias = self.alias()
            if rng.random() < 0.3:
                refs = Scope([Ref(f"{alias}.c1", kind, secret=False)], [(alias, ("c1",))])
                return f"{call} WITH ORDINALITY {alias}(c1)", refs
            return f"{call} {alias}(c1)", Scope([Ref(f"{alias}.c1", kind, secret=False)])
        if draw < 0.95:
            alias = self.alias()
            values = f"(VALUES ({self._expr('int', scope, 0)}, {self._expr('text', scope, 0)}), (2, 'z'))"
            return self._derived(values, alias, ("c1", "c2"), ("int", "text"))
        left, one = self.source(scope, depth - 1)
        right, two = self.source(scope, 0)
        alias = f" {self.alias()}" if rng.random() < 0.3 else ""
        both = one.joined(two)
        text = f"({left} {rng.choice(['CROSS JOIN', 'NATURAL JOIN'])} {right}){alias}"
        return text, Scope([], [(alias.strip(), ("id",))]) if alias else both

    def _relation(self, relation: Relation) -> tuple[str, Scope]:
        rng = self.rng
        alias = self.alias() if rng.random() < 0.85 else None
        columns: tuple[Column, ...] = relation.columns
        names = [quoted(column.name) for column in columns]
        text = relation.sql
        if relation.schema == "public" and rng.random() < 0.6:
            text = quoted(relation.name)
        only = rng.random()
        text = f"ONLY {text}" if only < 0.07 else f"ONLY ({text})" if only < 0.09 else text
        if rng.random() < 0.02:
            text += " *"
        if alias is not None:
            text += f" AS {alias}" if rng.random() < 0.5 else f" {alias}"
            if rng.random() < 0.12:
                names = [f"c{n}" for n in range(1, rng.randint(1, len(names)) + 1)]
                text += f"({', '.join(names)})"
                names += [quoted(column.name) for column in columns[len(names) :]]
        if rng.random() < 0.01:
            text += " TABLESAMPLE BERNOULLI (100)"
        head = alias or quoted(relation.name)
        refs = [
            Ref(f"{head}.{name}" if rng.random() < 0.85 else name, column.kind, column.secret)
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
                    text += f" {word}JOIN {other} USING (id)"
                case "natural":
                    text += f" NATURAL LEFT JOIN {other}"
                case kind:
                    equal = self._equal(here, there)
                    word = {
                        "on": "JOIN",
                        "left": "LEFT JOIN",
                        "full": "FULL JOIN",
                        "right": "RIGHT JOIN",
                    }[kind]
                    if kind == "full" or rng.random() < 0.4:
                        text += f" {word} {other} ON {equal}"
                    else:
                        text += f" {word} {other} ON {self._condition(both, min(depth, 1))}"
            here = both
        return text, here

    def _equal(self, one: Scope, two: Scope) -> str:
        for kind in self.rng.sample(["int", "int", "text", "date", "uuid"], 5):
            left = [ref.sql for ref in one.refs if ref.kind == kind]
            right = [ref.sql for ref in two.refs if ref.kind == kind]
            if left and right:
                return f"{self.rng.choice(left)} = {self.rng.choice(right)}"
        return "false"

    def select(
        self,
        outer: Scope,
        depth: int,
        kinds: tuple[str, ...] | None = None,
        *,
        total: bool = False,
        locks: bool = False,
    ) -> Query:
        """Return a SELECT.

        Args:
            outer: What an enclosing query offers.
            depth: Bounds nesting.
            kinds: Kinds of its columns; None: drawn.
            total: With an ORDER BY over all its columns.
            locks: May end in FOR UPDATE and the like.
        """
        rng = self.rng
        if depth > 0 and rng.random() < 0.1:
            return self._set_operation(outer, depth, kinds, total=total)
        text, here = self.from_clause(outer, depth)
        scope = here.joined(outer) if rng.random() < 0.7 else here
        wanted = kinds or tuple(self.expressions.kind() for _ in range(rng.choice([1, 1, 2, 2, 3])))
        where = f" WHERE {self._condition(scope, depth)}" if rng.random() < 0.65 else ""
        if kinds is None and not total and rng.random() < 0.12 and here.rows:
            star = rng.choice(
                ["*", f"{here.rows[0][0]}.*", here.rows[0][0], f"({here.rows[0][0]}).*"]
            )
            return Query(f"SELECT {star} FROM {text}{where}", ("other",), ("c1",))
        if rng.random() < 0.3:
            return self._grouped(
                text, where, scope, depth, wanted, exact=kinds is not None, total=total
            )
        columns = [self._expr(kind, scope, depth) for kind in wanted]
        if kinds is None and rng.random() < 0.1:
            columns[-1] = self.expressions.fill(rng.choice(words.WINDOWS), scope, depth - 1)
        distinct = "DISTINCT " if rng.random() < 0.1 and self._sortable(wanted) else ""
        listed = self._listed(columns)
        tail, ordered = self._tail(wanted, total=total)
        if locks and not distinct and rng.random() < 0.15:
            tail += rng.choice(_LOCKS)
        names = tuple(f"c{n}" for n in range(1, len(wanted) + 1))
        return Query(f"SELECT {distinct}{listed} FROM {text}{where}{tail}", wanted, names, ordered)

    def _listed(self, columns: list[str]) -> str:
        return ", ".join(f"{column} AS c{n}" for n, column in enumerate(columns, 1))

    def _grouped(
        self,
        text: str,
        where: str,
        scope: Scope,
        depth: int,
        wanted: tuple[str, ...],
        *,
        exact: bool,
        total: bool,
    ) -> Query:
        rng = self.rng
        keys = [
            self._expr(kind, scope, 1)
            for kind in rng.choices(["text", "int", "date", "bool"], k=rng.choice([0, 1, 1, 2]))
        ]
        grouped = Scope(scope.refs, scope.rows, tuple(keys))
        columns = [
            self.expressions.expression(kind, grouped, depth, aggregate=True) for kind in wanted
        ]
        group = ""
        if keys:
            if not exact:
                columns = [*keys, *columns]
                wanted = (*["text"] * len(keys), *wanted)
            if not exact and rng.random() < 0.4:
                keys = [str(n) for n in range(1, len(keys) + 1)]
            how = rng.choice(
                ["{}", "{}", "{}", "ROLLUP ({})", "CUBE ({})", "GROUPING SETS (({}), ())"]
            )
            group = f" GROUP BY {how.format(', '.join(keys))}"
        having = ""
        if rng.random() < 0.3:
            having = (
                f" HAVING {self.expressions.expression('bool', grouped, depth, aggregate=True)}"
            )
        tail, ordered = self._tail(wanted, total=total)
        names = tuple(f"c{n}" for n in range(1, len(wanted) + 1))
        sql = f"SELECT {self._listed(columns)} FROM {text}{where}{group}{having}{tail}"
        return Query(sql, wanted, names, ordered)

    def _set_operation(
        self, outer: Scope, depth: int, kinds: tuple[str, ...] | None, *, total: bool
    ) -> Query:
        rng = self.rng
        wanted = kinds or tuple(rng.choices(["text", "int", "date", "bool"], k=rng.choice([1, 2])))
        if not self._sortable(wanted):
            wanted = tuple("text" for _ in wanted)
        left = self.select(outer, depth - 1, wanted)
        right = self.select(outer, depth - 1, wanted)
        word = rng.choice(["UNION", "UNION ALL", "INTERSECT", "EXCEPT", "EXCEPT ALL"])
        tail, ordered = self._tail(left.kinds, total=total)
        sql = f"({left.sql}) {word} ({right.sql}){tail}"
        return Query(sql, left.kinds, left.names, ordered)

    def _tail(self, kinds: tuple[str, ...], *, total: bool) -> tuple[str, bool]:
        rng = self.rng
        if not (total or rng.random() < 0.4) or not self._sortable(kinds):
            return "", False
        keys = ", ".join(
            str(n) + rng.choice(["", "", " DESC", " NULLS FIRST"]) for n in range(1, len(kinds) + 1)
        )
        limit = rng.choice(
            [
                "",
                "",
                " LIMIT 3",
                " LIMIT 1 OFFSET 2",
                " FETCH FIRST 2 ROWS ONLY",
                " FETCH FIRST 2 ROWS WITH TIES",
            ]
        )
        return f" ORDER BY {keys}{limit}", True

    def _sortable(self, kinds: tuple[str, ...]) -> bool:
        return all(kind in words.SORTABLE for kind in kinds)

    def sub_select(self, kinds: tuple[str, ...], scope: Scope, depth: int) -> str:
        """Return a parenthesised SELECT: one value of a kind, or with ``*`` rows of the kinds before it."""
        rng = self.rng
        if kinds[-1] == "*":
            wanted = kinds[:-1] or None
            return f"({self.select(scope, min(depth - 1, 1), wanted).sql})"
        kind = kinds[0]
        text, here = self.from_clause(scope, min(depth - 1, 0))
        both = here.joined(scope)
        where = f" WHERE {self._condition(both, min(depth - 1, 1))}" if rng.random() < 0.7 else ""
        draw = rng.random()
        if kind in words.AGGREGATES and draw < 0.6:
            column = self.expressions.fill(rng.choice(words.AGGREGATES[kind]), both, 1)
            return f"(SELECT {column} FROM {text}{where})"
        column = self._expr(kind, both, 1)
        if kind in words.SORTABLE and draw < 0.9:
            return f"(SELECT {column} FROM {text}{where} ORDER BY 1 LIMIT 1)"
        return f"(SELECT {column} FROM {text}{where})"

    def with_clause(self, depth: int) -> str:
        """Return WITH and its queries; later queries may name them."""
        rng = self.rng
        parts: list[str] = []
        recursive = rng.random() < 0.2
        for _ in range(rng.choice([1, 1, 2])):
            name = self.alias()
            inner = self.select(Scope(), depth - 1)
            names = tuple(f"c{n}" for n in range(1, len(inner.kinds) + 1))
            how = rng.choice(["", "", "MATERIALIZED ", "NOT MATERIALIZED "])
            parts.append(f"{name}({', '.join(names)}) AS {how}({inner.sql})")
            self._ctes.append((name, names, inner.kinds))
        if recursive:
            parts.append("r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 4)")
            self._ctes.append(("r", ("n",), ("int",)))
        return f"WITH {'RECURSIVE ' if recursive else ''}{', '.join(parts)} "

    def _condition(self, scope: Scope, depth: int) -> str:
        return self._expr("bool", scope, max(depth, 1))

    def _expr(self, kind: str, scope: Scope, depth: int) -> str:
        return self.expressions.expression(kind, scope, depth)


def _has_id(scope: Scope) -> bool:
    return len(scope.rows) == 1 and "id" in scope.rows[0][1]
