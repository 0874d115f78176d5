"""A small shop in two secret worlds, and a way to send statements through facts, plan and splices to a real server."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from sluice_dev.postgres import Server
from sluice_proxy import _native
from sluice_proxy.catalog.model import Catalog
from sluice_proxy.catalog.reader import CatalogReader
from sluice_proxy.decisions import (
    ClassEntry,
    Level,
    Mask,
    RowFilter,
    SessionContext,
    SessionDecision,
)
from sluice_proxy.facts import read_facts
from sluice_proxy.probe import PROBE_SQL, parse_probe
from sluice_proxy.reports import ClientError

_LOOSE = "CREATE COLLATION loose (provider = icu, locale = 'und', deterministic = false)"
SCHEMA = """
CREATE SCHEMA old;
CREATE SCHEMA tools;
CREATE TYPE mood AS ENUM ('calm', 'loud');
CREATE TABLE users (
  id int PRIMARY KEY, tenant int NOT NULL DEFAULT 1, name text NOT NULL UNIQUE, email text UNIQUE, pay numeric(10,2),
  born date, note text, kind mood NOT NULL DEFAULT 'calm', doc json,
  bonus int NOT NULL DEFAULT 0, CHECK (bonus <= pay));
CREATE INDEX users_note ON users (note text_pattern_ops);
CREATE TABLE orders (id int PRIMARY KEY, user_id int NOT NULL, amount numeric(10,2) NOT NULL, memo text);
CREATE TABLE old.orders (id int PRIMARY KEY, card text, memo text);
CREATE TABLE people (id int PRIMARY KEY, email text);
CREATE COLLATION loose (provider = icu, locale = 'und', deterministic = false);
CREATE TABLE spots (id int PRIMARY KEY, tenant int NOT NULL DEFAULT 1, area box, side lseg, size numeric, big bigint,
  at date, label text, latin text COLLATE "C", posix text COLLATE "POSIX", soft text COLLATE loose);
CREATE TABLE events (id int NOT NULL, who text, at date DEFAULT '2020-01-01', tags text[], twice int
  GENERATED ALWAYS AS (id * 2) STORED) PARTITION BY RANGE (id);
CREATE TABLE events_low PARTITION OF events FOR VALUES FROM (0) TO (10);
CREATE TABLE events_high PARTITION OF events FOR VALUES FROM (10) TO (1000);
CREATE TABLE tree (id int PRIMARY KEY, parent int, label text);
CREATE MATERIALIZED VIEW digest AS SELECT id, email FROM people WITH NO DATA;
CREATE VIEW named AS SELECT id, email AS mail, upper(email) AS loud FROM people;
CREATE VIEW contacts AS SELECT id, tenant, email FROM users;
CREATE FUNCTION contact(u users) RETURNS text LANGUAGE sql STABLE AS $$ SELECT u.email $$;
CREATE FUNCTION tools.upper(text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT email FROM public.users LIMIT 1 $$;
CREATE FUNCTION tools.yes(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT true $$;
CREATE OPERATOR tools.= (LEFTARG = int, RIGHTARG = int, FUNCTION = tools.yes);
INSERT INTO users SELECT i, 1, 'user' || i, {email}, {pay}, {born}, 'note ' || i, 'calm', '{{"a": 1}}', i
  FROM generate_series(1, 20) i;
INSERT INTO users SELECT 100 + i, 2, 'hidden' || i, 'h' || i, 1, NULL, '(' || i || chr(92), 'loud', NULL, 0
  FROM generate_series(1, {hidden}) i;
INSERT INTO orders SELECT i, 1 + i % 20, i * 1.5, 'memo ' || i FROM generate_series(1, 40) i;
INSERT INTO old.orders SELECT i, {card}, 'old ' || i FROM generate_series(1, 5) i;
INSERT INTO events SELECT i, {email}, '2020-01-01', ARRAY['a', 'b' || i] FROM generate_series(1, 15) i;
INSERT INTO tree SELECT i, i / 2, 'n' || i FROM generate_series(1, 9) i;
INSERT INTO people SELECT i, {email} FROM generate_series(1, 5) i;
INSERT INTO spots SELECT i, 1, '(1,1),(0,0)', '[(1,1),(0,0)]', i, i, '2020-01-01', 'x' || i, 'x', 'x', 'x'
  FROM generate_series(1, 5) i;
INSERT INTO spots SELECT 9, 2, * FROM ({spot}) v;
REFRESH MATERIALIZED VIEW digest;
ANALYZE;
GRANT USAGE ON SCHEMA old, tools, public TO PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, old TO PUBLIC;
"""
WORLDS = {
    "A": {
        "email": "'canary' || i || '@one.example'",
        "pay": "70000 + i",
        "born": "DATE '1970-01-05' + i",
        "card": "'4929 canary ' || i",
        "hidden": 8,
        "spot": "SELECT box '(1e200,1e200),(-1e200,-1e200)', lseg '[(1e308,1e308),(-1e308,-1e308)]', 1e400, 5000000000,"
        " date '5874897-01-01', 'hidden', 'h', 'g', 'h'",
    },
    "B": {
        "email": "'cobalt' || i || '@one.example'",
        "pay": "40000 + i * 2",
        "born": "DATE '1970-06-07' + i",
        "card": "'5555 cobalt ' || i",
        "hidden": 3,
        "spot": "SELECT NULL::box, NULL::lseg, 1, 1, date '2020-01-01', 'other', NULL, NULL, NULL WHERE false",
    },
}
RAW = ("canary", "cobalt", "hidden", "7000", "4000", "1970-0")
EQUALS = " OPERATOR(pg_catalog.=) "
POLICY = "shop/desk"


def decision(*, identity: bool = False) -> SessionDecision:
    """Return a restricted session's decision; ``identity`` makes every mask and filter show everything."""
    classes = [
        ("public.users", "email", "pii.email"),
        ("public.users", "pay", "pii.pay"),
        ("public.users", "born", "pii.born"),
        ("old.orders", "card", "pci.pan"),
        ("public.people", "email", "pii.email"),
        ("public.events", "who", "pii.email"),
    ]
    masks = {
        "pii.email": Mask("email"),
        "pii.pay": Mask("redact"),
        "pii.born": Mask("year"),
        "pci.pan": Mask("redact"),
        "unreviewed": Mask("redact"),
    }
    if identity:
        own = Mask("expression", parts=("(", ("value",), ")"), rank="email")
        masks = dict.fromkeys(masks, own)
    where = "(true)" if identity else None
    # Dearer than what clients write, so that PostgreSQL would run theirs first wherever it is free to.
    dear = " OPERATOR(pg_catalog.+) 0" * 8
    parts = (where,) if where else ("((", ("tenant",), f"{dear}){EQUALS}1)")
    return SessionDecision(
        revision="r1",
        sequence=1,
        valid_until_ns=None,
        allow=True,
        level=Level.RESTRICTED,
        observe=False,
        policies=(POLICY,),
        reasons=(),
        entries=tuple(ClassEntry(*each) for each in classes),
        unreviewed_masked=False,
        masks=masks,
        row_filters=tuple(RowFilter(f"public.{t}", parts, POLICY) for t in ("users", "spots")),
        rows_max=None,
        seconds_max=None,
        trusted_functions=frozenset(),
        trusted_channels=frozenset({"jobs"}),
        write_oracle_keys_accepted=True,
        write_oracle_row_values_accepted=False,
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a session saw: rows as a sorted list, an SQLSTATE, or that Sluice refused."""

    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    sqlstate: str | None = None
    refused: str | None = None
    text: str = ""


class Session:
    """One connection whose statements are rewritten; each statement runs in a transaction that is rolled back."""

    def __init__(self, dsn: str, catalog: Catalog, made: SessionDecision) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.catalog, self.decision = catalog, made

    def context(self) -> SessionContext:
        result = self.connection.pgconn.exec_(PROBE_SQL.encode())
        state = parse_probe([result.get_value(0, column) for column in range(result.nfields)])
        return SessionContext(
            "shop/shop",
            "desk",
            state.search_path,
            state.temporary,
            self.decision,
            self.catalog,
            state.server_major,
        )

    def rewritten(self, sql: str, types: Sequence[int] = ()) -> str:
        facts = read_facts(sql.encode(), self.context(), simple=not types, parameter_types=types)
        edits = [_native.Edit(e.start, e.end, e.text.encode()) for f in facts for e in f.edits]
        return _native.apply_edits(sql.encode(), edits).decode()

    def parameter_types(self, sql: str) -> list[int]:
        """What the server takes the parameters of a statement for."""
        self.connection.pgconn.prepare(b"p", sql.encode())
        found = self.connection.pgconn.describe_prepared(b"p")
        self.connection.execute("DEALLOCATE p")
        return [found.param_type(index) for index in range(found.nparams)]

    def ask(self, sql: str) -> Answer:
        try:
            text = self.rewritten(sql)
        except ClientError as error:
            return Answer(refused=error.report.message)
        return self.raw(text)

    def raw(self, sql: str) -> Answer:
        return self._within(sql, lambda pgconn: pgconn.exec_(sql.encode()))

    def prepared(
        self, sql: str, values: list[str], types: list[int], *, plain: bool = False
    ) -> Answer:
        """Run a statement as a driver does, with parameters of declared types and without planning for their values."""
        text = sql
        if not plain:
            try:
                text = self.rewritten(sql, types)
            except ClientError as error:
                return Answer(refused=error.report.message)

        def run(pgconn: Any) -> Any:
            pgconn.exec_(b"SET LOCAL plan_cache_mode = force_generic_plan")
            made = pgconn.prepare(b"", text.encode(), types)
            if made.status == psycopg.pq.ExecStatus.FATAL_ERROR:
                return made
            return pgconn.exec_prepared(b"", [value.encode() for value in values])

        return self._within(text, run)

    def _within(self, sql: str, run: Callable[[Any], Any]) -> Answer:
        pgconn = self.connection.pgconn
        pgconn.exec_(b"BEGIN")
        result = run(pgconn)
        if result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
            field = psycopg.pq.DiagnosticField.SQLSTATE
            answer = Answer(sqlstate=(result.error_field(field) or b"").decode(), text=sql)
        else:
            columns = range(result.nfields)
            rows = sorted(
                str([result.get_value(r, c) for c in columns]) for r in range(result.ntuples)
            )
            names = tuple((result.fname(c) or b"").decode() for c in columns)
            answer = Answer(tuple(rows), names, text=sql)
        pgconn.exec_(b"ROLLBACK")
        return answer


@dataclass(frozen=True, slots=True)
class World:
    """One of the two databases that differ only in what the session must not see."""

    dsn: str
    catalog: Catalog
    owner: str
    """The DSN of the database's owner."""


@pytest.fixture(scope="session")
def worlds(postgres: Server) -> dict[str, World]:
    """Both databases, by name; their users table has different hidden rows and masked values."""
    return make_worlds(postgres)


def make_worlds(postgres: Server) -> dict[str, World]:
    """Make both databases on a server."""
    made: dict[str, World] = {}
    with psycopg.connect(postgres.admin_dsn, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS facts_desk")
        admin.execute("CREATE ROLE facts_desk LOGIN PASSWORD 'desk-pw'")
    for name, values in WORLDS.items():
        schema = SCHEMA.format(**values)
        if not postgres.installation.contrib:  # Embedded servers are built without ICU.
            schema = schema.replace(_LOOSE, 'CREATE COLLATION loose FROM "C"')
        dsn = postgres.create_database(f"facts_{name.lower()}", schema)
        made[name] = World(
            make_conninfo(dsn, user="facts_desk", password="desk-pw"),
            asyncio.run(_catalog(dsn)),
            dsn,
        )
    return made


async def _catalog(dsn: str) -> Catalog:
    reader = CatalogReader(dsn)
    try:
        return await reader.read()
    finally:
        await reader.close()


@pytest.fixture(scope="session")
def sessions(worlds: dict[str, World]) -> Iterator[list[Session]]:
    """Kept open: a session in each world, and one whose masks show everything."""
    made = [Session(worlds[w].dsn, worlds[w].catalog, decision()) for w in "AB"]
    made.append(Session(worlds["A"].dsn, worlds["A"].catalog, decision(identity=True)))
    yield made
    for session in made:
        session.connection.close()


@pytest.fixture
def open_elsewhere(each_postgres: Server) -> Iterator[Callable[..., Session]]:
    """As ``open_session``, on a server of each major version found."""
    yield from _opening(make_worlds(each_postgres))


@pytest.fixture
def open_session(worlds: dict[str, World]) -> Iterator[Callable[..., Session]]:
    """A function that opens a rewriting session in a world."""
    yield from _opening(worlds)


def _opening(worlds: dict[str, World]) -> Iterator[Callable[..., Session]]:
    sessions: list[Session] = []

    def make(world: str = "A", *, identity: bool = False) -> Session:
        there = worlds[world]
        sessions.append(Session(there.dsn, there.catalog, decision(identity=identity)))
        return sessions[-1]

    yield make
    for session in sessions:
        session.connection.close()


def restricted(context: SessionContext, **changes: Any) -> SessionContext:
    """Return the context with another decision."""
    return dataclasses.replace(context, decision=dataclasses.replace(context.decision, **changes))
