"""SELECTs drawn at random; what SQL leaves open (ties, rows under a LIMIT) is closed by ORDER BY where it matters."""

from __future__ import annotations

import random
from dataclasses import dataclass

from sluice_dev.worlds import words
from sluice_dev.worlds.expressions import Expressions, Ref, Scope
from sluice_dev.worlds.schema import Schema, quoted
from sluice_dev.worlds.sources import Sources

_OVER = (
    "count(*)",
    "min({text})",
    "sum({int})",
    "bool_or({bool})",
    "count(*) FILTER (WHERE {bool})",
)
_FRAMES = (
    "PARTITION BY {text}",
    "PARTITION BY {int} ORDER BY {text}",
    "ORDER BY {text}, {whole} ROWS BETWEEN 1 PRECEDING AND {small} FOLLOWING EXCLUDE CURRENT ROW",
    "ORDER BY {int} RANGE BETWEEN UNBOUNDED PRECEDING AND {small} FOLLOWING EXCLUDE TIES",
    "ORDER BY {text} GROUPS BETWEEN {small} PRECEDING AND {small} FOLLOWING EXCLUDE GROUP",
)
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
        self.words = words.vocabulary(schema.major)
        self.sources = Sources(self)
        self._number = 0
        self.ctes: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
        """Name, columns and their kinds of what WITH made."""

    def alias(self) -> str:
        """Return a fresh alias, now and then one that shadows a name of the schema."""
        self._number += 1
        if self.rng.random() < 0.04:
            return quoted(self.rng.choice(self.schema.relations).name)
        return f"t{self._number}"

    def begin(self) -> None:
        """Forget the names of the statement before."""
        self._number = 0
        self.ctes = []

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
        text, here = self.sources.from_clause(outer, depth)
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
            columns[-1] = self.expressions.fill(rng.choice(self.words.windows), scope, depth - 1)
        distinct, window = "", ""
        if rng.random() < 0.13 and self._sortable(wanted):
            distinct = rng.choice(["DISTINCT ", "DISTINCT ", "DISTINCT ON (1) "])
        if kinds is None and not distinct and rng.random() < 0.06:
            columns[-1], window = self._named_window(scope, depth)
        listed = self._listed(columns)
        tail, ordered = self._tail(wanted, total=total or distinct.endswith(") "))
        tail = window + tail
        if locks and not distinct and not window and rng.random() < 0.15:
            tail += rng.choice(_LOCKS)
            if here.rows and "NOWAIT" not in tail and rng.random() < 0.3:
                tail = f"{tail.removesuffix(' SKIP LOCKED')} OF {rng.choice(here.rows)[0]}"
        names = tuple(f"c{n}" for n in range(1, len(wanted) + 1))
        return Query(f"SELECT {distinct}{listed} FROM {text}{where}{tail}", wanted, names, ordered)

    def _named_window(self, scope: Scope, depth: int) -> tuple[str, str]:
        call = self.expressions.fill(self.rng.choice(_OVER), scope, depth - 1)
        window = self.expressions.fill(self.rng.choice(_FRAMES), scope, depth - 1)
        return f"{call} OVER w", f" WINDOW w AS ({window})"

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
        kinds = rng.choices(["text", "int", "date", "bool"], k=rng.choice([0, 1, 1, 2]))
        keys = [self._key(kind, scope) for kind in kinds]
        grouped = Scope(
            [Ref(f"({key})", kind, secret=False) for key, kind in zip(keys, kinds, strict=True)],
            keys=tuple(keys),
        )
        columns = [self._aggregate(kind, scope, grouped, depth) for kind in wanted]
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
            having = f" HAVING {self._aggregate('bool', scope, grouped, depth)}"
        tail, ordered = self._tail(wanted, total=total)
        names = tuple(f"c{n}" for n in range(1, len(wanted) + 1))
        sql = f"SELECT {self._listed(columns)} FROM {text}{where}{group}{having}{tail}"
        return Query(sql, wanted, names, ordered)

    def _key(self, kind: str, scope: Scope) -> str:
        """Return an expression for GROUP BY, which takes no bare constant."""
        key = self._expr(kind, scope, 1)
        return f"({key})::{kind}" if key in words.LITERALS[kind] else key

    def _aggregate(self, kind: str, scope: Scope, grouped: Scope, depth: int) -> str:
        """Return an aggregate over the rows, or now and then an expression over the keys."""
        templates = self.words.aggregates.get(kind)
        if not templates or self.rng.random() < 0.15:
            return self._expr(kind, grouped, 1)
        inner = Scope(scope.refs, scope.rows, grouped.keys)
        return self.expressions.fill(self.rng.choice(templates), inner, depth - 1)

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
        text, here = self.sources.from_clause(scope, min(depth - 1, 0))
        both = here.joined(scope)
        where = f" WHERE {self._condition(both, min(depth - 1, 1))}" if rng.random() < 0.7 else ""
        draw = rng.random()
        if kind in self.words.aggregates and draw < 0.6:
            column = self.expressions.fill(rng.choice(self.words.aggregates[kind]), both, 1)
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
            self.ctes.append((name, names, inner.kinds))
        if recursive:
            parts.append(self._recursive())
            self.ctes.append(("r", ("n", "c"), ("int", "text")))
        return f"WITH {'RECURSIVE ' if recursive else ''}{', '.join(parts)} "

    def _recursive(self) -> str:
        """Return a recursive query of two columns that ends: over numbers, or over a relation's rows."""
        rng = self.rng
        if rng.random() < 0.4:
            return "r(n, c) AS (SELECT 1, 'a' UNION ALL SELECT n + 1, c || 'b' FROM r WHERE n < 4)"
        text, here = self.sources.from_clause(Scope(), 0)
        first = f"SELECT 1, {self._expr('text', here, 1)} FROM {text}"
        text, here = self.sources.from_clause(Scope(), 0)
        value = self._expr("text", here, 1)
        where = f"r.n < 3 AND {self._condition(here, 1)}"
        how = rng.choice(["", "", " SEARCH DEPTH FIRST BY n SET o", " CYCLE n SET seen USING path"])
        return f"r(n, c) AS ({first} UNION SELECT r.n + 1, {value} FROM r CROSS JOIN {text} WHERE {where}){how}"

    def _condition(self, scope: Scope, depth: int) -> str:
        return self._expr("bool", scope, max(depth, 1))

    def _expr(self, kind: str, scope: Scope, depth: int) -> str:
        return self.expressions.expression(kind, scope, depth)
