"""Lives of sessions drawn at random: what is made, rolled back, prepared, renamed and read, by messages in any order.

What lasts is written in transactions that are rolled back; what is temporary comes and goes.
"""

from __future__ import annotations

from collections.abc import Callable

from sluice_dev.worlds.expressions import Scope
from sluice_dev.worlds.queries import Queries
from sluice_dev.worlds.statement import Statement
from sluice_dev.worlds.wire import Step, bound, closed, extended, frame, query, text
from sluice_dev.worlds.writes import Writes

_NAMES = ("users", "users", "orders", "people", "d1", "date", "v_user_contacts")
"""Of temporary relations; most hide one that lasts, one is a type's."""
_READS = (
    "SELECT * FROM {n}",
    "SELECT email FROM users",
    "SELECT count(*), min(email) FROM {n}",
    "TABLE {n}",
    "SELECT u FROM users u",
    "SELECT id, email FROM public.users ORDER BY id",
    "SELECT (SELECT email FROM {n} LIMIT 1) FROM users",
    "SELECT x.* FROM {n} x JOIN users y ON x.id = y.id",
    "SELECT email FROM users WHERE email LIKE 'a%' OR id = 101",
    "SELECT NULL::date, NULL::users, email FROM users",
    "SELECT left(email, 1), upper(username) FROM users",
    "SELECT string_agg(email, ',' ORDER BY id) FROM users",
    "SELECT contact_email FROM orders",
    "SELECT count(*) FROM v_user_contacts",
    "SELECT (d).email FROM (SELECT d FROM {n} d) q",
)
_WRITES = (
    "UPDATE {n} SET email = 'x' WHERE id = 101 RETURNING *",
    "UPDATE users SET username = email WHERE id = 1 RETURNING username",
    "UPDATE users SET username = (SELECT email FROM {n} LIMIT 1) WHERE id = 2 RETURNING username",
    "DELETE FROM {n} WHERE id > 100 RETURNING email",
    "INSERT INTO {n} SELECT * FROM users RETURNING *",
    "INSERT INTO d1 SELECT id, email FROM users",
)
_COLUMNS = (
    "(id int, email text)",
    "(id int, email text, username text)",
    "(a text, b int)",
    "(LIKE public.users)",
    "(email varchar(40) DEFAULT 'none', id int)",
)
_PATHS = (
    "archive, public",
    "public",
    "pg_temp, public",
    "'$user', public, archive",
    "sandbox, public",
    "pg_catalog",
)
_SETTINGS = (
    "RESET ALL",
    "DISCARD TEMP",
    "DISCARD PLANS",
    "DISCARD SEQUENCES",
    "DISCARD ALL",
    "RESET search_path",
    "SET LOCAL TimeZone = 'Asia/Tokyo'",
    "SET standard_conforming_strings = off",
    "SET client_encoding = 'LATIN1'",
)
_FAILING = ("SELECT 1 / 0", "SELEC", "SELECT nothing FROM users", "ROLLBACK TO SAVEPOINT nowhere")
_PREPARED = ("p1", "p2", "p3")
_MOVES_MAX = 12


class States:
    """Draws them."""

    def __init__(self, queries: Queries, writes: Writes) -> None:
        self.queries, self.writes, self.rng = queries, writes, queries.rng
        self._open = self._written = False

    def draw(self) -> Statement:
        """Return one life."""
        self._open = self._written = False
        texts: list[str] = []
        steps: list[Step] = []
        for number in range(self.rng.randint(5, _MOVES_MAX)):
            told, step = self._first() if number == 0 else self._move()
            texts.append(told)
            steps.append(step)
        return Statement(tuple(texts), tuple(steps), own=True, origin="states")

    def _first(self) -> tuple[str, Step]:
        """Return what gives later moves something to work with."""
        one, two, three = (self._read() for _ in _PREPARED)
        sql = f"PREPARE p1 AS {one}; PREPARE p2 AS {two}"
        parsed = frame("P", text("p3") + text(three) + b"\0\0") + frame("S", b"")
        return f"{sql}; (p3) {three}", Step(query(sql) + parsed, 2)

    def _move(self) -> tuple[str, Step]:
        draw = self.rng.random()
        if draw < 0.5:
            sql = self._text()
            return sql, Step(query(sql))
        if draw < 0.65:
            sql = "; ".join(self._text() for _ in range(self.rng.choice([2, 2, 3])))
            return sql, Step(query(sql))
        return self._pipeline()

    def _text(self) -> str:
        makers: tuple[tuple[int, Callable[[], str]], ...] = (
            (16, self._transaction),
            (16, self._definition),
            (5, self._path),
            (3, lambda: self.rng.choice(_SETTINGS)),
            (22, self._read),
            (6, self._write),
            (16, self._prepared),
            (10, self._cursor),
            (3, lambda: self.rng.choice(_FAILING)),
        )
        weights = [weight for weight, _maker in makers]
        return self.rng.choices([maker for _w, maker in makers], weights)[0]()

    def _transaction(self) -> str:
        rng = self.rng
        if not self._open and rng.random() < 0.7:
            self._open = True
            return rng.choice(["BEGIN", "BEGIN", "START TRANSACTION ISOLATION LEVEL SERIALIZABLE"])
        name = rng.choice("ab")
        chosen = rng.choice(
            [
                f"SAVEPOINT {name}",
                f"SAVEPOINT {name}",
                f"ROLLBACK TO SAVEPOINT {name}",
                f"RELEASE {name}",
                "ROLLBACK",
                "ROLLBACK AND CHAIN",
                "COMMIT",
                "COMMIT AND CHAIN",
            ]
        )
        if self._written and chosen.startswith("COMMIT"):
            chosen = "ROLLBACK"
        if chosen in ("ROLLBACK", "COMMIT"):
            self._open = self._written = False
        return chosen

    def _definition(self) -> str:
        rng = self.rng
        name = rng.choice(_NAMES)
        there = rng.choice(["", "", "IF NOT EXISTS "])
        gone = rng.choice(["", "", " ON COMMIT DROP", " ON COMMIT DELETE ROWS"])
        gone = gone if self._open else ""
        made = self._read()
        return rng.choice(
            [
                f"CREATE TEMP TABLE {there}{name} {rng.choice(_COLUMNS)}{gone}",
                f"CREATE TEMP TABLE {there}{name} {rng.choice(_COLUMNS)}{gone}",
                f"CREATE TEMP TABLE {there}{name}{gone} AS {made}",
                f"CREATE TEMP TABLE {name} AS EXECUTE {rng.choice(_PREPARED)}",
                f"CREATE TEMP TABLE {name} () INHERITS ({rng.choice(_NAMES)})",
                f"CREATE {rng.choice(['', 'OR REPLACE '])}TEMP VIEW {name} AS {made}",
                f"SELECT * INTO TEMP {name} FROM users",
                f"CREATE TEMP SEQUENCE {there}{name}",
                f"DROP TABLE {rng.choice(['', 'IF EXISTS ', 'IF EXISTS pg_temp.'])}{name}",
                f"DROP VIEW IF EXISTS {name}",
                f"DROP TABLE pg_temp.{name} CASCADE",
                f"ALTER TABLE pg_temp.{name} RENAME TO {rng.choice(_NAMES)}",
                f"ALTER TABLE pg_temp.{name} RENAME COLUMN email TO username",
                f"ALTER TABLE pg_temp.{name} DROP COLUMN email",
                f"ALTER TABLE {name} ADD COLUMN IF NOT EXISTS email text DEFAULT 'new'",
                f"TRUNCATE pg_temp.{name}",
            ]
        )

    def _path(self) -> str:
        rng = self.rng
        path = rng.choice(_PATHS)
        if rng.random() < 0.2:
            return f"SELECT set_config('search_path', '{path.replace(chr(39), '')}', {rng.choice(['true', 'false'])})"
        return f"SET {rng.choice(['', 'LOCAL ', 'SESSION '])}search_path = {path}"

    def _read(self) -> str:
        if self.rng.random() < 0.25:
            return self.queries.select(Scope(), 1, total=True).sql
        return self.rng.choice(_READS).format(n=self.rng.choice(_NAMES))

    def _write(self) -> str:
        if not self._open:
            return self._read()
        self._written = True
        if self.rng.random() < 0.2:
            return self.writes.any()
        return self.rng.choice(_WRITES).format(n=self.rng.choice(_NAMES))

    def _any(self) -> str:
        return self._write() if self._open and self.rng.random() < 0.2 else self._read()

    def _prepared(self) -> str:
        rng = self.rng
        name = rng.choice(_PREPARED)
        return rng.choice(
            [
                f"PREPARE {name} AS {self._any()}",
                f"PREPARE {name} AS {self._read()}",
                f"EXECUTE {name}" if not self._written or self._open else "SELECT 1",
                f"EXECUTE {name}" if self._open else f"CREATE TEMP TABLE d1 AS EXECUTE {name}",
                f"DEALLOCATE {name}",
                "DEALLOCATE ALL",
            ]
        )

    def _cursor(self) -> str:
        rng = self.rng
        name = rng.choice("kq")
        made = self.queries.select(Scope(), 1, total=True).sql
        kind = rng.choice(["CURSOR", "SCROLL CURSOR", "BINARY CURSOR", "CURSOR WITH HOLD"])
        return rng.choice(
            [
                f"DECLARE {name} {kind} FOR {made}",
                f"DECLARE {name} {kind} FOR SELECT id, email FROM users ORDER BY id",
                f"FETCH 2 FROM {name}",
                f"FETCH ALL FROM {name}",
                f"MOVE 1 IN {name}",
                f"CLOSE {name}",
                "CLOSE ALL",
            ]
        )

    def _pipeline(self) -> tuple[str, Step]:
        """Messages of the extended protocol; a Sync stands anywhere, and one at the end."""
        rng = self.rng
        told: list[str] = []
        data = b""
        syncs = 1
        for _ in range(rng.randint(1, 4)):
            what, sent = self._messages()
            told.append(what)
            data += sent
            if rng.random() < 0.3:
                told.append("(sync)")
                data += frame("S", b"")
                syncs += 1
        return "pipeline: " + " | ".join(told), Step(data + frame("S", b""), syncs)

    def _messages(self) -> tuple[str, bytes]:
        rng = self.rng
        name = rng.choice(("", *_PREPARED))
        portal = rng.choice(["", "", "k", "q"])
        draw = rng.random()
        if draw < 0.45:
            sql = self._text()
            return f"{name}: {sql}", extended(sql, name=name, sync=False)
        if draw < 0.55:
            sql = self._any()
            return f"parse {name}: {sql}", frame("P", text(name) + text(sql) + b"\0\0")
        if draw < 0.75:
            return f"run {name}", bound(name, rows=rng.choice([0, 0, 1]), sync=False)
        if draw < 0.8:
            return f"bind {portal} to {name}", frame("B", text(portal) + text(name) + bytes(6))
        if draw < 0.87:
            rows = rng.choice([0, 1, 2]).to_bytes(4, "big")
            return f"execute {portal}", frame("E", text(portal) + rows)
        if draw < 0.92:
            return f"close {name}", closed(name)[:-5]
        if draw < 0.96:
            return f"describe {name}", frame("D", b"S" + text(name))
        return "failing", extended(rng.choice(_FAILING), sync=False)
