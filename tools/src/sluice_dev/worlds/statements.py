"""Statements of every kind, drawn at random from one seed, as steps on the wire."""

from __future__ import annotations

import random
from collections.abc import Callable

from sluice_dev.worlds import words
from sluice_dev.worlds.conversations import Conversations
from sluice_dev.worlds.expressions import Scope
from sluice_dev.worlds.queries import Queries
from sluice_dev.worlds.schema import Schema, quoted
from sluice_dev.worlds.statement import Statement, simple
from sluice_dev.worlds.states import States
from sluice_dev.worlds.wire import Step, query
from sluice_dev.worlds.writes import Writes

_EXPLAIN = (
    "",
    "(COSTS OFF) ",
    "(VERBOSE, COSTS OFF) ",
    "(ANALYZE, TIMING OFF, SUMMARY OFF) ",
    "(FORMAT JSON) ",
)


class Statements:
    """An endless source; the same seed and schema give the same statements."""

    def __init__(self, schema: Schema, seed: int) -> None:
        self.schema, self.rng = schema, random.Random(seed)  # noqa: S311 - repeatable, not secret.
        self.queries = Queries(schema, self.rng)
        self.express = self.queries.expressions
        self.writes = Writes(self.queries)
        self.converse = Conversations(self.queries, self.writes)
        self.states = States(self.queries, self.writes)

    def draw(self) -> Statement:
        """Return the next statement."""
        rng = self.rng
        self.queries.begin()
        writes, converse = self.writes, self.converse
        makers: tuple[tuple[int, Callable[[], Statement]], ...] = (
            (50, self.select),
            (8, lambda: simple(writes.insert())),
            (9, lambda: simple(writes.update())),
            (5, lambda: simple(writes.delete())),
            (4, lambda: simple(writes.merge())),
            (4, lambda: simple(writes.modifying())),
            (4, converse.derived),
            (2, converse.temporary),
            (3, converse.viewed),
            (4, converse.copy_out),
            (2, converse.copy_in),
            (3, converse.prepared),
            (2, converse.named),
            (2, converse.pipeline),
            (3, converse.cursor),
            (3, converse.savepoints),
            (3, converse.traces),
            (4, converse.again),
            (2, self.explain),
            (2, self.values),
            (1, self.several),
            (2, self.catalog),
        )
        made = rng.choices([maker for _w, maker in makers], [weight for weight, _m in makers])[0]()
        if rng.random() < 0.08:
            setting = rng.choice(words.SETTINGS)
            made = Statement(
                (setting, *made.sql), (Step(query(setting)), *made.steps), made.ordered
            )
        return made

    def life(self) -> Statement:
        """Return the life of a session; PostgreSQL alone may not survive it."""
        self.queries.begin()
        return self.states.draw()

    def select(self) -> Statement:
        """A SELECT, by simple or extended query, text or binary."""
        rng = self.rng
        clause = self.queries.with_clause(2) if rng.random() < 0.15 else ""
        made = self.queries.select(Scope(), rng.choice([1, 2, 2, 3]), locks=not clause)
        sql = clause + made.sql
        if rng.random() < 0.3:
            return Statement((sql,), (self.converse.extended(sql),), made.ordered)
        return simple(sql, ordered=made.ordered)

    def explain(self) -> Statement:
        """EXPLAIN of whatever."""
        inner = self.writes.any() if self.rng.random() < 0.4 else self.select().sql[-1]
        return simple(f"EXPLAIN {self.rng.choice(_EXPLAIN)}{inner}", ordered=True)

    def values(self) -> Statement:
        """A bare expression, VALUES or TABLE."""
        draw = self.rng.random()
        if draw < 0.3:
            return simple(f"TABLE {self.express.relation().sql}")
        column = self.express.expression(self.express.kind(), Scope(), 3)
        return simple(f"VALUES ({column})" if draw < 0.5 else f"SELECT {column} AS c1")

    def several(self) -> Statement:
        """Several statements in one Query."""
        made = [
            self.writes.any() if self.rng.random() < 0.6 else self.select().sql[-1]
            for _ in range(2)
        ]
        return simple("; ".join(made))

    def catalog(self) -> Statement:
        """Catalog relations: counters, statistics, definitions."""
        rng = self.rng
        relation = self.queries.sources.catalog()
        names = [quoted(column.name) for column in relation.columns]
        some = rng.sample(names, min(len(names), rng.choice([1, 2, 4])))
        where = rng.choice(
            [
                "",
                f" WHERE {rng.choice(names)}::text LIKE '%user%'",
                f" WHERE {rng.choice(names)}::text = '{rng.choice(words.LITERALS['small'])}'",
            ]
        )
        return simple(f"SELECT {', '.join(some)} FROM {relation.sql}{where}")
