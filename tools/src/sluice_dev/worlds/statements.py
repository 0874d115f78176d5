"""Statements of every kind, drawn at random from one seed, as steps on the wire."""

from __future__ import annotations

import random
from dataclasses import dataclass

from sluice_dev.worlds import words
from sluice_dev.worlds.expressions import Scope
from sluice_dev.worlds.queries import Queries
from sluice_dev.worlds.schema import Relation, Schema, quoted
from sluice_dev.worlds.wire import Step, extended, query

_EXPLAIN = (
    "",
    "(COSTS OFF) ",
    "(VERBOSE, COSTS OFF) ",
    "(ANALYZE, TIMING OFF, SUMMARY OFF) ",
    "(FORMAT JSON) ",
)


@dataclass(frozen=True, slots=True)
class Statement:
    """What is sent, in a transaction that is rolled back unless ``bare``."""

    sql: tuple[str, ...]
    steps: tuple[Step, ...]
    ordered: bool = False
    bare: bool = False
    origin: str = "grammar"


def simple(
    *sql: str, ordered: bool = False, copy_in: tuple[bytes, ...] = (), origin: str = "grammar"
) -> Statement:
    """Return each text as a Query of its own."""
    steps = tuple(Step(query(one), 1, copy_in) for one in sql)
    return Statement(sql, steps, ordered, origin=origin)


class Statements:
    """An endless source; the same seed and schema give the same statements."""

    def __init__(self, schema: Schema, seed: int) -> None:
        self.schema, self.rng = schema, random.Random(seed)  # noqa: S311 - repeatable, not secret.
        self.queries = Queries(schema, self.rng)
        self.express = self.queries.expressions

    def draw(self) -> Statement:
        """Return the next statement."""
        rng = self.rng
        self.queries.begin()
        makers = (
            (52, self.select),
            (8, self.insert),
            (9, self.update),
            (5, self.delete),
            (4, self.merge),
            (4, self.derived),
            (4, self.copy_out),
            (2, self.copy_in),
            (3, self.prepared),
            (3, self.cursor),
            (3, self.explain),
            (2, self.values),
            (2, self.modifying_cte),
            (1, self.several),
            (3, self.catalog),
        )
        made = rng.choices([maker for _w, maker in makers], [weight for weight, _m in makers])[0]()
        if rng.random() < 0.08:
            setting = rng.choice(words.SETTINGS)
            made = Statement(
                (setting, *made.sql), (Step(query(setting)), *made.steps), made.ordered
            )
        return made

    def select(self) -> Statement:
        """A SELECT, by simple or extended query, text or binary."""
        rng = self.rng
        clause = self.queries.with_clause(2) if rng.random() < 0.15 else ""
        made = self.queries.select(Scope(), rng.choice([1, 2, 2, 3]), locks=not clause)
        sql = clause + made.sql
        if rng.random() < 0.3:
            return Statement((sql,), (self._extended(sql),), made.ordered)
        return simple(sql, ordered=made.ordered)

    def _extended(self, sql: str) -> Step:
        """Some literals become parameters."""
        rng = self.rng
        parameters: list[bytes] = []
        for literal in ("'alice'", "'user5@corp.example'", "'a'", "105", "101"):
            if sql.count(literal) == 1 and f"{literal}\\" not in sql and rng.random() < 0.8:
                parameters.append(literal.strip("'").encode())
                sql = sql.replace(literal, f"${len(parameters)}")
        return Step(
            extended(
                sql, parameters, result_format=rng.choice([0, 0, 1]), rows=rng.choice([0, 0, 0, 2])
            )
        )

    def _target(self) -> tuple[Relation, str, Scope]:
        relation = self.express.relation(writable=True)
        alias = self.queries.alias()
        _text, scope = self._scope(relation, alias)
        return relation, alias, scope

    def _scope(self, relation: Relation, alias: str) -> tuple[str, Scope]:
        names = tuple(quoted(column.name) for column in relation.columns)
        return self.queries.named(
            relation.sql, alias, names, tuple(column.kind for column in relation.columns)
        )

    def _returning(self, scope: Scope, alias: str) -> str:
        rng = self.rng
        if rng.random() < 0.3:
            return ""
        if rng.random() < 0.25:
            return f" RETURNING {alias}.*" if rng.random() < 0.5 else f" RETURNING {alias}"
        return " RETURNING " + ", ".join(
            self.express.expression(self.express.kind(), scope, 1)
            for _ in range(rng.choice([1, 2]))
        )

    def _value(self, kind: str, scope: Scope) -> str:
        rng = self.rng
        if rng.random() < 0.1:
            return "DEFAULT"
        if kind == "int" and rng.random() < 0.6:
            return str(rng.choice([1, 2, 3, 5, 101, 103, 105, 2000, 2001]))
        return self.express.expression(kind, scope, rng.choice([0, 0, 1]))

    def insert(self) -> Statement:
        """INSERT of values or of a query, with ON CONFLICT and RETURNING."""
        rng = self.rng
        relation, alias, scope = self._target()
        writable = [column for column in relation.columns if not column.generated] or list(
            relation.columns
        )
        columns = [column for column in writable if rng.random() < 0.8] or writable[:1]
        names = ", ".join(quoted(column.name) for column in columns)
        kinds = tuple(column.kind for column in columns)
        if rng.random() < 0.5:
            rows = ", ".join(
                f"({', '.join(self._value(kind, Scope()) for kind in kinds)})"
                for _ in range(rng.choice([1, 1, 2]))
            )
            source = f"VALUES {rows}"
        else:
            inner = self.queries.select(Scope(), 1, kinds)
            source = (
                inner.sql if len(inner.kinds) == len(kinds) else f"SELECT * FROM {relation.sql}"
            )
        conflict = ""
        if rng.random() < 0.4:
            target = f"({quoted(rng.choice(columns).name)})" if rng.random() < 0.6 else ""
            conflict = f" ON CONFLICT {target} DO NOTHING"
            if target and rng.random() < 0.5:
                column = rng.choice(columns)
                value = rng.choice(
                    [f"excluded.{quoted(column.name)}", self._value(column.kind, scope)]
                )
                conflict = f" ON CONFLICT {target} DO UPDATE SET {quoted(column.name)} = {value}"
                if rng.random() < 0.4:
                    conflict += f" WHERE {self.express.expression('bool', scope, 1)}"
        sql = f"INSERT INTO {relation.sql} AS {alias} ({names}) {source}{conflict}{self._returning(scope, alias)}"
        return simple(sql)

    def update(self) -> Statement:
        """UPDATE, also FROM another relation, which is joined by a key so that one row wins."""
        rng = self.rng
        relation, alias, scope = self._target()
        columns = rng.sample(relation.columns, min(len(relation.columns), rng.choice([1, 1, 2])))
        source, name, both = "", "", scope
        if rng.random() < 0.3:
            other = self.express.relation()
            name = self.queries.alias()
            text, there = self._scope(other, name)
            source, both = f" FROM {text}", scope.joined(there)
        sets = ", ".join(
            f"{quoted(column.name)} = {self._value(column.kind, both)}" for column in columns
        )
        where = f" WHERE {self.express.expression('bool', both, rng.choice([1, 2]))}"
        if source and rng.random() < 0.8:
            where += f" AND {alias}.id = {name}.id"
        only = "ONLY " if rng.random() < 0.1 else ""
        sql = f"UPDATE {only}{relation.sql} AS {alias} SET {sets}{source}{where}"
        return simple(sql + self._returning(both, alias))

    def delete(self) -> Statement:
        """DELETE, also USING another relation."""
        relation, alias, scope = self._target()
        using, both = "", scope
        if self.rng.random() < 0.3:
            text, there = self.queries.source(Scope(), 1)
            using, both = f" USING {text}", scope.joined(there)
        where = f" WHERE {self.express.expression('bool', both, 2)}"
        returning = self._returning(scope, alias)
        return simple(f"DELETE FROM {relation.sql} AS {alias}{using}{where}{returning}")

    def merge(self) -> Statement:
        """MERGE over a join by id."""
        rng = self.rng
        relation, alias, scope = self._target()
        other = self.express.relation()
        name = self.queries.alias()
        text, there = self._scope(other, name)
        both = scope.joined(there)
        column = rng.choice(relation.columns)
        when = f"WHEN MATCHED AND {self.express.expression('bool', both, 1)} THEN "
        when += rng.choice(
            [
                "DELETE",
                "DO NOTHING",
                f"UPDATE SET {quoted(column.name)} = {self._value(column.kind, both)}",
            ]
        )
        if rng.random() < 0.4:
            key = rng.choice(relation.columns)
            when += f" WHEN NOT MATCHED THEN INSERT ({quoted(key.name)}) VALUES ({self._value(key.kind, there)})"
        on = f"{alias}.id = {name}.id"
        if rng.random() < 0.3:
            on += f" AND {self.express.expression('bool', both, 1)}"
        return simple(f"MERGE INTO {relation.sql} AS {alias} USING {text} ON {on} {when}")

    def derived(self) -> Statement:
        """A table made from a query, then read."""
        rng = self.rng
        made = self.queries.select(Scope(), 2)
        where = rng.choice(["pg_temp.", "TEMP ", "sandbox."])
        name = rng.choice(["d1", "users", "orders"])
        target = f"TEMP TABLE {name}" if where != "sandbox." else f"TABLE sandbox.{name}"
        schema = "sandbox." if where == "sandbox." else rng.choice(["", "pg_temp."])
        first = f"CREATE {target} AS {made.sql}"
        if rng.random() < 0.2:
            first = f"SELECT * INTO {target} FROM ({made.sql}) q"
        then = rng.choice(
            [
                f"SELECT count(*) FROM {schema}{name}",
                f"SELECT * FROM {schema}{name}",
                f"SELECT q::text FROM {schema}{name} q WHERE q::text LIKE '%a%'",
                f"SELECT c1::int FROM {schema}{name}",
                f"INSERT INTO {schema}{name} SELECT * FROM {schema}{name} RETURNING *",
                f"DROP TABLE {schema}{name}; SELECT * FROM {name}",
            ]
        )
        return simple(first, then)

    def copy_out(self) -> Statement:
        """COPY of a query or a table to the client."""
        rng = self.rng
        options = rng.choice(words.COPY_OPTIONS)
        if rng.random() < 0.3:
            relation = self.express.relation()
            names = [quoted(column.name) for column in relation.columns if rng.random() < 0.5]
            columns = f" ({', '.join(names)})" if names and rng.random() < 0.6 else ""
            return simple(f"COPY {relation.sql}{columns} TO STDOUT{options}")
        made = self.queries.select(Scope(), 2, locks=False)
        return simple(f"COPY ({made.sql}) TO STDOUT{options}", ordered=made.ordered)

    def copy_in(self) -> Statement:
        """COPY FROM STDIN, then what is there now."""
        rng = self.rng
        relation = self.express.relation(writable=True)
        columns = [column for column in relation.columns if not column.generated][
            : rng.choice([1, 2, 3, 9])
        ]
        names = ", ".join(quoted(column.name) for column in columns)
        fields = [
            rng.choice(["1", "2001", "x", "\\N", "101", "a@b", "2024-01-05"]) for _ in columns
        ]
        line = ("\t".join(fields) + "\n").encode()
        then = f"SELECT count(*) FROM {relation.sql}"
        return simple(f"COPY {relation.sql} ({names}) FROM STDIN", then, copy_in=(line,))

    def prepared(self) -> Statement:
        """PREPARE and EXECUTE, by SQL."""
        made = self.queries.select(Scope(), 2)
        middle = self.rng.choice(
            [
                "SELECT 1",
                "SET LOCAL search_path = archive, public",
                "CREATE TEMP TABLE users (id int, email text)",
            ]
        )
        sql = (f"PREPARE p1 AS {made.sql}", "EXECUTE p1", middle, "EXECUTE p1", "DEALLOCATE p1")
        return simple(*sql, ordered=made.ordered)

    def cursor(self) -> Statement:
        """DECLARE and FETCH in several directions; a WITH HOLD cursor would outlive the transaction."""
        rng = self.rng
        made = self.queries.select(Scope(), 2, total=True)
        fetch = ("FETCH ALL FROM k",)
        if made.ordered:
            fetch = (
                "FETCH 2 FROM k",
                rng.choice(
                    [
                        "FETCH ABSOLUTE 1 FROM k",
                        "MOVE FORWARD 2 IN k",
                        "FETCH BACKWARD 1 FROM k",
                        "FETCH RELATIVE 0 FROM k",
                    ]
                ),
                "FETCH ALL FROM k",
            )
        scroll = rng.choice(["", "SCROLL ", "NO SCROLL "])
        return simple(f"DECLARE k {scroll}CURSOR FOR {made.sql}", *fetch, ordered=made.ordered)

    def explain(self) -> Statement:
        """EXPLAIN of whatever."""
        inner = self.rng.choice([self.select, self.select, self.update, self.delete])()
        return simple(f"EXPLAIN {self.rng.choice(_EXPLAIN)}{inner.sql[-1]}", ordered=True)

    def values(self) -> Statement:
        """A bare expression, VALUES or TABLE."""
        draw = self.rng.random()
        if draw < 0.3:
            return simple(f"TABLE {self.express.relation().sql}")
        column = self.express.expression(self.express.kind(), Scope(), 3)
        return simple(f"VALUES ({column})" if draw < 0.5 else f"SELECT {column} AS c1")

    def modifying_cte(self) -> Statement:
        """A write in WITH, its RETURNING read above."""
        inner = self.rng.choice([self.insert, self.update, self.delete])().sql[-1]
        if " RETURNING " not in inner:
            inner += " RETURNING *"
        other, _scope = self.queries.source(Scope(), 0)
        reads = [
            "SELECT * FROM w",
            "SELECT count(*) FROM w",
            f"SELECT count(*) FROM w, {other}",
            "SELECT w::text FROM w WHERE w::text > 'a'",
        ]
        return simple(f"WITH w AS ({inner}) {self.rng.choice(reads)}")

    def several(self) -> Statement:
        """Several statements in one Query."""
        made = [
            self.rng.choice([self.select, self.insert, self.update])().sql[-1] for _ in range(2)
        ]
        return simple("; ".join(made))

    def catalog(self) -> Statement:
        """Catalog relations: counters, statistics, definitions."""
        rng = self.rng
        relation = rng.choice(self.schema.catalog)
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
