"""What takes several messages: prepared statements, cursors, savepoints, temporary tables, COPY, pipelines."""

from __future__ import annotations

import re
import struct

from sluice_dev.worlds import words
from sluice_dev.worlds.expressions import Scope
from sluice_dev.worlds.queries import Queries
from sluice_dev.worlds.schema import quoted
from sluice_dev.worlds.statement import Statement, simple
from sluice_dev.worlds.wire import Step, bound, closed, extended, query
from sluice_dev.worlds.writes import Writes

_LITERALS = (("'alice'", 25), ("'user5@corp.example'", 25), ("'a'", 25), ("105", 23), ("101", 23))
"""What becomes a parameter, with its type."""
_MIDDLE = (
    "SELECT 1",
    "SET LOCAL search_path = archive, public",
    "CREATE TEMP TABLE users (id int, email text)",
    "SAVEPOINT m",
    "SET LOCAL TimeZone = 'Asia/Tokyo'",
)
"""What happens between two executions of one prepared statement."""

_CONSTANT = re.compile(r"(?<![\w$.\\&])(?:'(?:[^'\\]|'')*'|\d+)(?![\w.'])")
_LOOKS = (
    "SELECT locktype, mode, count(*) FROM pg_locks GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT locktype, relation::regclass, mode, granted FROM pg_locks WHERE pid = pg_backend_pid() ORDER BY 1, 2, 3",
    "SELECT relname, n_tup_ins, n_tup_upd, seq_scan, idx_tup_fetch FROM pg_stat_xact_user_tables ORDER BY 1",
    "SELECT relname, idx_blks_read FROM pg_statio_user_indexes ORDER BY 1, indexrelname",
    "SELECT current_setting('application_name'), current_setting('search_path')",
    "SELECT lastval()",
    "SELECT name, is_holdable FROM pg_cursors",
    "SELECT name, parameter_types FROM pg_prepared_statements ORDER BY 1",
    "SELECT pg_current_xact_id_if_assigned() IS NULL",
    "SELECT xmin = xmax, tableoid::regclass FROM users ORDER BY id",
    "SELECT id, xmax = '0' FROM products ORDER BY id",
    "SELECT pg_relation_size('users'), pg_table_size('users')",
    "SELECT last_value FROM pg_sequences ORDER BY sequencename",
    "SHOW ALL",
)
"""Where a session may read what its statements did."""


class Conversations:
    """Draws statements that need more than one text or message."""

    def __init__(self, queries: Queries, writes: Writes) -> None:
        self.queries, self.writes, self.rng = queries, writes, queries.rng

    def parameterised(self, sql: str) -> tuple[str, list[bytes], list[int]]:
        """Return the text with some literals turned into parameters, their values and types."""
        values: list[bytes] = []
        types: list[int] = []
        for literal, oid in _LITERALS:
            if oid == 23 and "varchar(" in sql:
                continue
            if sql.count(literal) == 1 and f"{literal}\\" not in sql and self.rng.random() < 0.8:
                values.append(literal.strip("'").encode())
                types.append(oid)
                sql = sql.replace(literal, f"${len(values)}")
        return sql, values, types

    def extended(self, sql: str) -> Step:
        """Return one extended query: types declared or not, parameters and results in text or binary."""
        rng = self.rng
        sql, values, types = self.parameterised(sql)
        declared = types if rng.random() < 0.5 else []
        binary = bool(declared) and rng.random() < 0.5
        if binary:
            values = [
                struct.pack("!i", int(value)) if oid == 23 else value
                for value, oid in zip(values, types, strict=True)
            ]
        form = rng.choice([0, 0, 1])
        rows = rng.choice([0, 0, 0, 2])
        data = extended(sql, values, types=declared, binary=binary, result_format=form, rows=rows)
        return Step(data)

    def named(self) -> Statement:
        """A named statement of the protocol, bound again after something changed."""
        rng = self.rng
        made = self.queries.select(Scope(), 2)
        sql, values, types = self.parameterised(made.sql)
        middle = rng.choice(_MIDDLE)
        steps = (
            Step(extended(sql, values, types=types, name="n1")),
            Step(query(middle)),
            Step(bound("n1", values, result_format=rng.choice([0, 1]))),
            Step(closed("n1")),
        )
        return Statement((sql, middle, "(n1)"), steps, made.ordered)

    def pipeline(self) -> Statement:
        """Several statements before one Sync; what follows an error is skipped."""
        texts = [
            self.writes.any() if self.rng.random() < 0.4 else self.queries.select(Scope(), 1).sql
            for _ in range(self.rng.choice([2, 3]))
        ]
        data = b"".join(extended(sql, sync=sql is texts[-1]) for sql in texts)
        return Statement(tuple(texts), (Step(data),))

    def prepared(self) -> Statement:
        """PREPARE and EXECUTE, by SQL, with and without declared types."""
        rng = self.rng
        made = self.queries.select(Scope(), 2)
        sql, values, types = self.parameterised(made.sql)
        declared, given = "", ""
        if values:
            named = ", ".join("text" if oid == 25 else "int" for oid in types)
            declared = f"({named})" if rng.random() < 0.6 else ""
            shown = ", ".join(
                f"'{value.decode()}'" if oid == 25 else value.decode()
                for value, oid in zip(values, types, strict=True)
            )
            given = f"({shown})"
        into = "CREATE TEMP TABLE d3 AS " if rng.random() < 0.1 else ""
        run = f"EXECUTE p1{given}"
        again = "TABLE d3" if into else run
        texts = (f"PREPARE p1{declared} AS {sql}", into + run, rng.choice(_MIDDLE), again)
        return simple(*texts, "DEALLOCATE p1", ordered=made.ordered)

    def cursor(self) -> Statement:
        """DECLARE and FETCH in several directions; a WITH HOLD cursor would outlive the transaction."""
        rng = self.rng
        if rng.random() < 0.15:
            return self._current_of()
        made = self.queries.select(Scope(), 2, total=True)
        fetch = ("FETCH ALL FROM k",)
        if made.ordered:
            middle = rng.choice(
                [
                    "FETCH ABSOLUTE 1 FROM k",
                    "MOVE FORWARD 2 IN k",
                    "FETCH BACKWARD 1 FROM k",
                    "FETCH RELATIVE 0 FROM k",
                ]
            )
            fetch = ("FETCH 2 FROM k", middle, "FETCH ALL FROM k")
        scroll = rng.choice(["", "SCROLL ", "NO SCROLL ", "BINARY ", "INSENSITIVE "])
        texts = (f"DECLARE k {scroll}CURSOR FOR {made.sql}", *fetch)
        return simple(*texts, ordered=made.ordered)

    def _current_of(self) -> Statement:
        relation = self.queries.expressions.relation(writable=True)
        column = quoted(self.rng.choice(relation.columns).name)
        write = self.rng.choice(
            [
                f"DELETE FROM {relation.sql} WHERE CURRENT OF k RETURNING {column}",
                f"UPDATE {relation.sql} SET {column} = DEFAULT WHERE CURRENT OF k",
            ]
        )
        opened = f"DECLARE k CURSOR FOR SELECT {column} FROM {relation.sql} ORDER BY 1 FOR UPDATE"
        if self.rng.random() < 0.6:
            opened = f"DECLARE k CURSOR FOR SELECT {column} FROM {relation.sql}"
        return simple(opened, "MOVE 1 IN k", write, "CLOSE k")

    def savepoints(self) -> Statement:
        """An error caught by a savepoint, and what holds after it."""
        rng = self.rng
        failing = rng.choice(
            [
                "SELECT 1 / 0",
                self.writes.any(),
                self.queries.select(Scope(), 1).sql,
                "CREATE TEMP TABLE users (id int, email text)",
                "SET LOCAL search_path = archive, public",
            ]
        )
        made = self.queries.select(Scope(), 1)
        texts = ["SAVEPOINT a", failing, "ROLLBACK TO SAVEPOINT a", made.sql]
        if rng.random() < 0.4:
            texts += ["RELEASE a", self.writes.any()]
        return simple(*texts, ordered=made.ordered)

    def again(self) -> Statement:
        """One statement, the same with other constants, and the first once more: plans are kept by their template."""
        sql = self.writes.any()
        if self.rng.random() < 0.7:
            sql = self.queries.select(Scope(), 2).sql
        back = "ROLLBACK TO SAVEPOINT z"
        return simple("SAVEPOINT z", sql, back, _CONSTANT.sub(self._other, sql), back, sql)

    def _other(self, constant: re.Match[str]) -> str:
        rng = self.rng
        if rng.random() < 0.5:
            return constant[0]
        if constant[0].isdigit():
            return rng.choice(("0", "1", "2", "3", "101", "2147483648", "1e3"))
        return rng.choice(
            words.LITERALS["pattern"] + words.LITERALS["regex"] + ("'101'", "'users'")
        )

    def traces(self) -> Statement:
        """A statement, often one that locks or writes, and a look at what it left behind in the session."""
        rng = self.rng
        first = self.writes.any() if rng.random() < 0.5 else self.queries.select(Scope(), 2).sql
        if rng.random() < 0.2:
            condition = self.queries.expressions.expression("bool", Scope(), 1)
            key = rng.choice(["id", "length(email)", "tenant_id"])
            lock = rng.choice(["pg_advisory_xact_lock", "pg_try_advisory_xact_lock"])
            first = f"SELECT count({lock}({key})) FROM users WHERE {condition}"
        return simple(first, rng.choice(_LOOKS))

    def derived(self) -> Statement:
        """A table made from a query, then read."""
        rng = self.rng
        made = self.queries.select(Scope(), 2)
        sandbox = rng.random() < 0.1
        name = rng.choice(["d1", "users", "orders"])
        target = f"TABLE sandbox.{name}" if sandbox else f"TEMP TABLE {name}"
        schema = "sandbox." if sandbox else rng.choice(["", "pg_temp."])
        first = f"CREATE {target} {rng.choice(['', '', 'ON COMMIT DROP ']) if not sandbox else ''}AS {made.sql}"
        if rng.random() < 0.2:
            first = f"SELECT * INTO {target} FROM ({made.sql}) q"
        elif rng.random() < 0.05:
            first += " WITH NO DATA"
        then = rng.choice(
            [
                f"SELECT count(*) FROM {schema}{name}",
                f"SELECT * FROM {schema}{name}",
                f"SELECT q::text FROM {schema}{name} q WHERE q::text LIKE '%a%'",
                f"SELECT c1::int FROM {schema}{name}",
                f"INSERT INTO {schema}{name} SELECT * FROM {schema}{name} RETURNING *",
                f"COPY {schema}{name} TO STDOUT",
                f"DROP TABLE {schema}{name}; SELECT * FROM {name}",
            ]
        )
        return simple(first, then)

    def temporary(self) -> Statement:
        """A temporary table of declared columns, filled from governed ones, joined with them."""
        rng = self.rng
        name = rng.choice(["d4", "d4", "users"])
        filled = self.queries.select(Scope(), 1, ("text", "int"))
        relation = self.queries.expressions.relation()
        column = quoted(rng.choice(relation.columns).name)
        merge = f"MERGE INTO {name} d USING {relation.sql} r ON d.b = r.id WHEN MATCHED THEN "
        merge += f"UPDATE SET a = r.{column}::text"
        then = rng.choice(
            [
                f"SELECT * FROM {name} JOIN {relation.sql} r ON r.{column}::text = a",
                f"SELECT a, (SELECT count(*) FROM {relation.sql} r WHERE r.{column}::text = a) FROM {name}",
                f"UPDATE {name} SET a = r.{column}::text FROM {relation.sql} r WHERE r.id = b RETURNING a",
                f"DELETE FROM {name} USING {relation.sql} r WHERE r.{column}::text = a RETURNING a",
                merge,
                f"INSERT INTO {name} VALUES ('x', 1); TABLE {name}",
                f"TRUNCATE {name}",
                f"ALTER TABLE {name} ADD COLUMN c text",
            ]
        )
        created = f"CREATE TEMP TABLE {name} (a text, b int)"
        return simple(created, f"INSERT INTO {name} {filled.sql}", then, f"SELECT * FROM {name}")

    def viewed(self) -> Statement:
        """A temporary view or sequence over governed relations, read, replaced and joined."""
        rng = self.rng
        if rng.random() < 0.15:
            drawn = self.queries.select(Scope(), 1, ("int",)).sql
            count = f"SELECT nextval('q1'), q.c1 FROM ({drawn}) q(c1)"
            texts = ("CREATE TEMP SEQUENCE q1", count, "SELECT last_value FROM q1", "TABLE q1")
            return simple(*texts)
        made = self.queries.select(Scope(), 2)
        name = rng.choice(["v1", "v1", "users"])
        how = rng.choice(["TEMP", "TEMP", "OR REPLACE TEMP"])
        relation = self.queries.expressions.relation()
        column = quoted(rng.choice(relation.columns).name)
        then = rng.choice(
            [
                f"SELECT * FROM {name}",
                f"SELECT q::text FROM {name} q WHERE q::text ~ 'c'",
                f"SELECT count(*) FROM {name} q JOIN {relation.sql} r ON q.c1::text = r.{column}::text",
                f"SELECT c1::int FROM {name} WHERE c1::text < '5'",
                f"CREATE TEMP VIEW v2 AS SELECT * FROM {name}; SELECT * FROM v2",
                f"CREATE TEMP TABLE d5 AS SELECT * FROM {name}; UPDATE d5 SET c1 = NULL; TABLE d5",
                f"INSERT INTO {name} SELECT * FROM {name}",
                f"SELECT pg_get_viewdef('{name}'::regclass)",
                f"COPY (SELECT * FROM {name}) TO STDOUT",
            ]
        )
        texts = [f"CREATE {how} VIEW {name} AS {made.sql}", then]
        if rng.random() < 0.3:
            texts.insert(1, rng.choice(_MIDDLE))
        return simple(*texts)

    def copy_out(self) -> Statement:
        """COPY of a query, of what a write returns, or of a table to the client."""
        rng = self.rng
        options = rng.choice(words.COPY_OPTIONS)
        draw = rng.random()
        if draw < 0.3:
            relation = self.queries.expressions.relation()
            names = [quoted(column.name) for column in relation.columns if rng.random() < 0.5]
            columns = f" ({', '.join(names)})" if names and rng.random() < 0.6 else ""
            return simple(f"COPY {relation.sql}{columns} TO STDOUT{options}")
        if draw < 0.4:
            inner = self.writes.any()
            inner += "" if " RETURNING " in inner else " RETURNING *"
            return simple(f"COPY ({inner}) TO STDOUT{options}")
        made = self.queries.select(Scope(), 2, locks=False)
        return simple(f"COPY ({made.sql}) TO STDOUT{options}", ordered=made.ordered)

    def copy_in(self) -> Statement:
        """COPY FROM STDIN, then what is there now."""
        rng = self.rng
        relation = self.queries.expressions.relation(writable=True)
        while relation.kind == "v":
            relation = self.queries.expressions.relation(writable=True)
        columns = [column for column in relation.columns if not column.generated][
            : rng.choice([1, 2, 3, 9])
        ]
        names = ", ".join(quoted(column.name) for column in columns)
        fields = [
            rng.choice(["1", "2001", "x", "\\N", "101", "a@b", "2024-01-05"]) for _ in columns
        ]
        csv = rng.random() < 0.3
        line = ((",".join(fields) if csv else "\t".join(fields)) + "\n").encode()
        options = " WITH (FORMAT csv, NULL '\\N')" if csv else ""
        where = " WHERE id > 5" if rng.random() < 0.1 else ""
        first = f"COPY {relation.sql} ({names}) FROM STDIN{options}{where}"
        return simple(first, f"SELECT count(*) FROM {relation.sql}", copy_in=(line,))
