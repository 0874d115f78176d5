"""INSERT, UPDATE, DELETE and MERGE drawn at random, with RETURNING, and in WITH."""

from __future__ import annotations

from sluice_dev.worlds.expressions import Ref, Scope
from sluice_dev.worlds.queries import Queries
from sluice_dev.worlds.schema import Column, Relation, quoted

_IDS = (1, 2, 3, 5, 101, 103, 105, 2000, 2001)


class Writes:
    """Draws texts over the relations that the identity may write."""

    def __init__(self, queries: Queries) -> None:
        self.queries, self.rng, self.express = queries, queries.rng, queries.expressions
        self.major = queries.schema.major

    def any(self) -> str:
        """Return one that may stand in WITH."""
        return self.rng.choice([self.insert, self.update, self.delete])()

    def _target(self) -> tuple[Relation, str, Scope]:
        relation = self.express.relation(writable=True)
        alias = self.queries.alias()
        return relation, alias, self.over(relation, alias)[1]

    def over(self, relation: Relation, alias: str) -> tuple[str, Scope]:
        """Return a relation under an alias, and its columns."""
        names = tuple(quoted(column.name) for column in relation.columns)
        refs = [
            Ref(f"{alias}.{name}", column.kind, column.secret)
            for name, column in zip(names, relation.columns, strict=True)
        ]
        return f"{relation.sql} {alias}", Scope(refs, [(alias, names)])

    def _deciding(self, scope: Scope) -> Scope:
        """Return what conditions name: mostly no classified column, since writes decided by masks are refused."""
        if self.rng.random() < 0.2:
            return scope
        return Scope([ref for ref in scope.refs if not ref.secret])

    def returning(self, scope: Scope, alias: str) -> str:
        """Return a RETURNING clause, or nothing; from 18 on also of the row before and after."""
        rng = self.rng
        draw = rng.random()
        if draw < 0.3:
            return ""
        if self.major >= 18 and draw < 0.5:
            return self._both_rows(scope)
        if rng.random() < 0.25:
            return f" RETURNING {alias}.*" if rng.random() < 0.5 else f" RETURNING {alias}"
        listed = (
            self.express.expression(self.express.kind(), scope, 1)
            for _ in range(rng.choice([1, 2]))
        )
        return f" RETURNING {', '.join(listed)}"

    def _both_rows(self, scope: Scope) -> str:
        rng = self.rng
        names = [name for _row, columns in scope.rows[:1] for name in columns] or ["id"]
        old, new, how = rng.choice(
            [("old", "new", ""), ("o", "n", "WITH (OLD AS o, NEW AS n) "), ("old", "n", "WITH (NEW AS n) ")]
        )  # fmt: skip
        name, other = rng.choice(names), rng.choice(names)
        return f" RETURNING {how}" + rng.choice(
            [
                f"{old}.{name}, {new}.{other}",
                f"{old}.*",
                f"{new}::text",
                f"{old}.{name}::text LIKE 'c%', {new}.{name} IS DISTINCT FROM {old}.{name}",
                f"coalesce({new}.{name}::text, {old}.{other}::text)",
            ]
        )

    def value(self, kind: str, scope: Scope) -> str:
        """Return what a column of that kind is set to."""
        rng = self.rng
        if rng.random() < 0.1:
            return "DEFAULT"
        if kind == "int" and rng.random() < 0.6:
            return str(rng.choice(_IDS))
        if kind == "other" and rng.random() < 0.8:
            return "NULL"  # Of types without a kind; what is drawn hardly ever has the type.
        return self.express.expression(kind, scope, rng.choice([0, 0, 1]))

    def insert(self) -> str:
        """INSERT of values or of a query, with ON CONFLICT and RETURNING."""
        rng = self.rng
        relation, alias, scope = self._target()
        writable = [column for column in relation.columns if not column.generated] or list(
            relation.columns
        )
        columns = [column for column in writable if rng.random() < 0.9] or writable[:1]
        names = ", ".join(quoted(column.name) for column in columns)
        kinds = tuple(column.kind for column in columns)
        draw = rng.random()
        if draw < 0.5:
            rows = ", ".join(
                f"({', '.join(self.value(kind, Scope()) for kind in kinds)})"
                for _ in range(rng.choice([1, 1, 2]))
            )
            source = f"VALUES {rows}"
        elif draw < 0.55:
            names, source = "", "DEFAULT VALUES"
        else:
            inner = self.queries.select(Scope(), 1, kinds)
            source = (
                inner.sql if len(inner.kinds) == len(kinds) else f"SELECT * FROM {relation.sql}"
            )
        over = rng.choice(["", "", "", "OVERRIDING SYSTEM VALUE ", "OVERRIDING USER VALUE "])
        listed = f" ({names}) {over}" if names else " "
        conflict = self._conflict(columns, scope) if rng.random() < 0.4 else ""
        returning = self.returning(scope, alias)
        return f"INSERT INTO {relation.sql} AS {alias}{listed}{source}{conflict}{returning}"

    def _conflict(self, columns: list[Column], scope: Scope) -> str:
        rng = self.rng
        target = f"({quoted(rng.choice(columns).name)})" if rng.random() < 0.6 else ""
        if not target or rng.random() < 0.5:
            return f" ON CONFLICT {target} DO NOTHING"
        column = rng.choice(columns)
        name = quoted(column.name)
        value = rng.choice([f"excluded.{name}", self.value(column.kind, scope)])
        where = ""
        if rng.random() < 0.4:
            where = f" WHERE {self.express.expression('bool', self._deciding(scope), 1)}"
        return f" ON CONFLICT {target} DO UPDATE SET {name} = {value}{where}"

    def _set(self, column: Column, scope: Scope) -> str:
        name, draw = quoted(column.name), self.rng.random()
        if column.kind == "texts" and draw < 0.3:
            return f"{name}[1] = {self.express.expression('text', scope, 1)}"
        if column.type.endswith("address_t") and draw < 0.5:
            return f"{name}.city = {self.express.expression('text', scope, 1)}"
        if column.kind == "jsonb" and draw < 0.3:
            return f"{name}['a'] = {self.express.expression('jsonb', scope, 1)}"
        return f"{name} = {self.value(column.kind, scope)}"

    def _sets(self, columns: list[Column], scope: Scope) -> str:
        if len(columns) < 2 or self.rng.random() < 0.6:
            return ", ".join(self._set(column, scope) for column in columns)
        names = ", ".join(quoted(column.name) for column in columns)
        if self.rng.random() < 0.5:
            kinds = tuple(column.kind for column in columns)
            inner = self.queries.select(scope, 1, kinds, total=True)
            return f"({names}) = (SELECT * FROM ({inner.sql}) q LIMIT 1)"
        values = ", ".join(self.express.expression(column.kind, scope, 1) for column in columns)
        return f"({names}) = ROW({values})"

    def _met(self, one: Scope, two: Scope) -> str:
        """Return how two relations are joined: by their keys, where both have one."""
        if any("id" not in columns for _row, columns in (*one.rows, *two.rows)):
            return self.queries.sources.equal(one, two)
        return f"{one.rows[0][0]}.id = {two.rows[0][0]}.id"

    def update(self) -> str:
        """UPDATE, also FROM another relation, which is joined by a key so that one row wins."""
        rng = self.rng
        relation, alias, scope = self._target()
        columns = rng.sample(relation.columns, min(len(relation.columns), rng.choice([1, 1, 2])))
        source, there, both = "", scope, scope
        if rng.random() < 0.3:
            text, there = self.over(self.express.relation(), self.queries.alias())
            source, both = f" FROM {text}", scope.joined(there)
        where = (
            f" WHERE {self.express.expression('bool', self._deciding(both), rng.choice([1, 2]))}"
        )
        if source and rng.random() < 0.8:
            where += f" AND {self._met(scope, there)}"
        only = "ONLY " if rng.random() < 0.1 else ""
        sets = self._sets(list(columns), self._deciding(both))
        returning = self.returning(both, alias)
        return f"UPDATE {only}{relation.sql} AS {alias} SET {sets}{source}{where}{returning}"

    def delete(self) -> str:
        """DELETE, also USING another relation."""
        relation, alias, scope = self._target()
        using, both = "", scope
        if self.rng.random() < 0.3:
            text, there = self.queries.sources.source(Scope(), 1)
            using, both = f" USING {text}", scope.joined(there)
        where = f" WHERE {self.express.expression('bool', self._deciding(both), 2)}"
        returning = self.returning(scope, alias)
        return f"DELETE FROM {relation.sql} AS {alias}{using}{where}{returning}"

    def merge(self) -> str:
        """MERGE over a join by id, from a relation or a query; with RETURNING from 17 on."""
        rng = self.rng
        relation, alias, scope = self._target()
        name = self.queries.alias()
        text, there = self.over(self.express.relation(), name)
        if rng.random() < 0.25:
            text = f"(SELECT * FROM {text.removesuffix(f' {name}')} q0) {name}"
        both = scope.joined(there)
        on = self._met(scope, there)
        if rng.random() < 0.3:
            on += f" AND {self.express.expression('bool', self._deciding(both), 1)}"
        whens = [self._matched(relation, both) for _ in range(rng.choice([1, 1, 2]))]
        if rng.random() < 0.4:
            key = rng.choice(relation.columns)
            value = self.value(key.kind, there)
            whens.append(f"WHEN NOT MATCHED THEN INSERT ({quoted(key.name)}) VALUES ({value})")
        if self.major >= 17 and rng.random() < 0.3:
            condition = self.express.expression("bool", self._deciding(scope), 1)
            whens.append(f"WHEN NOT MATCHED BY SOURCE AND {condition} THEN DELETE")
        returning = ""
        if self.major >= 17 and rng.random() < 0.5:
            returning = self.returning(both, alias) or " RETURNING merge_action()"
        sql = f"MERGE INTO {relation.sql} AS {alias} USING {text} ON {on}"
        return f"{sql} {' '.join(whens)}{returning}"

    def _matched(self, relation: Relation, both: Scope) -> str:
        column = self.rng.choice(relation.columns)
        then = self.rng.choice(
            ["DELETE", "DO NOTHING", f"UPDATE SET {self._set(column, self._deciding(both))}"]
        )
        condition = self.express.expression("bool", self._deciding(both), 1)
        return f"WHEN MATCHED AND {condition} THEN {then}"

    def modifying(self) -> str:
        """A write in WITH, its RETURNING read above, or written elsewhere by the statement above."""
        rng = self.rng
        inner = self.merge() if self.major >= 17 and rng.random() < 0.15 else self.any()
        if " RETURNING " not in inner:
            inner += " RETURNING *"
        other, _scope = self.queries.sources.source(Scope(), 0)
        above = rng.choice(
            [
                "SELECT * FROM w",
                "SELECT count(*) FROM w",
                f"SELECT count(*) FROM w, {other}",
                "SELECT w::text FROM w WHERE w::text > 'a'",
                "INSERT INTO public.scratch_notes (content) SELECT w::text FROM w RETURNING content",
                "UPDATE public.products SET name = w::text FROM w WHERE sku = 'none' RETURNING name",
                "DELETE FROM public.scratch_notes n USING w WHERE n.content = w::text",
                f"SELECT count(*) FROM w WHERE EXISTS (SELECT FROM {other})",
            ]
        )
        second = ""
        if rng.random() < 0.2:
            second = f", v AS ({self.any()})"
        return f"WITH w AS ({inner}){second} {above}"
