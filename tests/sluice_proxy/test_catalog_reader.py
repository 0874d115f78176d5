"""The catalog reader against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
import pytest

from sluice_dev.postgres import Server
from sluice_proxy import allowlists
from sluice_proxy.catalog.dsn import connect_arguments
from sluice_proxy.catalog.model import Catalog, Coupling, Relation
from sluice_proxy.catalog.reader import CatalogError, CatalogReader

SCHEMA = """
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('sad', 'happy');
CREATE DOMAIN app.code_t AS varchar(8) CHECK (VALUE <> '');
CREATE DOMAIN app.code2_t AS app.code_t NOT NULL;
CREATE TYPE app.pair AS (a text, b app.code_t);
CREATE TABLE app.users (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, gone int, tenant int NOT NULL,
  email varchar(80) NOT NULL UNIQUE,
  code app.code2_t, mood app.mood,
  pay numeric(12,2), bonus numeric CHECK (bonus <= pay), pairs app.pair[], one app.pair,
  price interval day to second(3), at timestamptz(3), "Odd ""name" text COLLATE "C", doc json,
  low text GENERATED ALWAYS AS (lower(email)) STORED);
ALTER TABLE app.users DROP COLUMN gone;
CREATE INDEX ON app.users (tenant, code);
CREATE INDEX ON app.users (tenant) WHERE pay > 3;
CREATE TABLE app.logins (user_email varchar(80) REFERENCES app.users (email), n int);
CREATE TABLE app.parts (id int, day date, note text) PARTITION BY RANGE (day);
CREATE TABLE app.parts_1 PARTITION OF app.parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE app.serials (id serial, x int);
CREATE RULE r AS ON INSERT TO app.serials DO ALSO NOTHING;
CREATE FUNCTION app.add(a numeric, b numeric DEFAULT 1) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
CREATE OPERATOR app.<<>> (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = app.add);
CREATE VIEW app.v_direct AS SELECT id, email AS mail, tenant FROM app.users WHERE pay > 0;
CREATE VIEW app.v_over AS SELECT v.mail, upper(v.mail) AS shout, 1 AS one FROM app.v_direct v;
CREATE VIEW app.v_join AS SELECT u.id, l.n, u.email || l.user_email AS pair FROM app.users u JOIN app.logins l
  ON l.user_email = u.email;
CREATE VIEW app.v_group AS SELECT tenant, count(*) AS n, max(email) AS last FROM app.users GROUP BY tenant;
CREATE VIEW app.v_agg AS SELECT max(pay) AS top FROM app.users;
CREATE VIEW app.v_window AS SELECT id, rank() OVER (ORDER BY pay) AS r FROM app.users;
CREATE VIEW app.v_limit AS SELECT id FROM app.users ORDER BY pay LIMIT 3;
CREATE VIEW app.v_distinct AS SELECT DISTINCT id, mood FROM app.users;
CREATE VIEW app.v_union AS SELECT email AS x FROM app.users UNION ALL SELECT user_email FROM app.logins;
CREATE VIEW app.v_cte AS WITH t(a, b) AS (SELECT id, email FROM app.users) SELECT t.b, t.a FROM t;
CREATE VIEW app.v_sub AS SELECT s.z FROM (SELECT email AS z FROM app.users) s;
CREATE VIEW app.v_scalar AS SELECT n,
  (SELECT u.pay FROM app.users u WHERE u.email = l.user_email) AS pay FROM app.logins l;
CREATE VIEW app.v_whole AS SELECT u.id, u AS everything FROM app.users u;
CREATE VIEW app.v_call AS SELECT app.add(pay) AS more, email FROM app.users;
CREATE VIEW app.v_operator AS SELECT pay OPERATOR(app.<<>>) 1 AS more FROM app.users;
CREATE VIEW app.v_func AS SELECT g.i, u.email FROM generate_series(1, 2) g(i), app.users u;
CREATE VIEW app.v_unnest AS SELECT u.id, p.a FROM app.users u, LATERAL unnest(u.pairs) p(a, b);
CREATE VIEW app.v_values AS SELECT column1 AS c FROM (VALUES (1), (2)) v;
CREATE VIEW app.v_case AS SELECT CASE WHEN u.pay > 9 THEN 'rich' ELSE u.low END AS r FROM app.users u;
CREATE VIEW app.v_using AS SELECT id FROM app.parts FULL JOIN app.serials USING (id);
CREATE VIEW app.v_xml AS SELECT query_to_xml('SELECT 1', true, true, '')::text AS x FROM app.users;
CREATE VIEW app.v_rec AS WITH RECURSIVE w(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM w WHERE n < 3) SELECT n FROM w;
CREATE MATERIALIZED VIEW app.mv AS SELECT id, email FROM app.users;
CREATE SCHEMA sluice;
CREATE FUNCTION sluice.hash(value text) RETURNS text LANGUAGE sql IMMUTABLE STRICT SECURITY DEFINER AS 'SELECT value';
"""


@asynccontextmanager
async def reading(dsn: str) -> AsyncIterator[CatalogReader]:
    reader = CatalogReader(dsn)
    try:
        yield reader
    finally:
        await reader.close()


def execute(dsn: str, text: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(text)


def relation(catalog: Catalog, name: str) -> Relation:
    found = catalog.relation("app", name)
    assert found is not None, name
    return found


def lineage(catalog: Catalog, view: str) -> dict[str, set[str] | None]:
    found = relation(catalog, view).view
    assert found is not None
    return {
        name: None
        if column.sources is None
        else {f"{catalog.by_oid[oid].name}.{source}" for oid, source in column.sources}
        for name, column in found.columns.items()
    }


def direct(catalog: Catalog, view: str) -> set[str]:
    found = relation(catalog, view).view
    assert found is not None
    return {name for name, column in found.columns.items() if column.direct is not None}


async def test_least_privileged_role_reads_everything_on_each_major(each_postgres: Server) -> None:
    dsn = each_postgres.create_database("catalog", SCHEMA)
    execute(dsn, "CREATE ROLE reader LOGIN PASSWORD 'reader-pw' NOSUPERUSER NOINHERIT")
    execute(
        dsn,
        "REVOKE ALL ON SCHEMA app, public FROM PUBLIC; GRANT CONNECT ON DATABASE catalog TO reader",
    )
    async with (
        reading(each_postgres.dsn(user="reader", password="reader-pw", dbname="catalog")) as reader,
        reading(dsn) as admin,
    ):
        catalog = await reader.read()
        assert catalog == await admin.read()
    check_columns(catalog)
    check_couplings(catalog)
    check_lineage(catalog)
    check_rest(catalog)


def check_columns(catalog: Catalog) -> None:
    users = relation(catalog, "users")
    assert [column.number for column in users.columns] == [1, *range(3, 16)]
    assert users.primary_key == ("id",)
    types = {column.name: column.type for column in users.columns}
    assert types["email"].base_sql == "pg_catalog.varchar(80)"
    assert types["code"].base_sql == "pg_catalog.varchar(8)"
    assert types["code"].oid != types["code"].base_oid
    assert types["mood"].base_sql == "app.mood"
    assert types["mood"].enum_first == "sad"
    assert types["pay"].base_sql == "pg_catalog.numeric(12,2)"
    assert types["pairs"].base_sql == "app.pair[]"
    assert types["pairs"].element == "app.pair"
    assert [name for name, _ in types["one"].fields] == ["a", "b"]
    assert types["price"].base_sql == "interval day to second(3)"
    assert types["at"].base_sql == "pg_catalog.timestamptz(3)"
    assert types['Odd "name'].collation == 'pg_catalog."C"'
    assert types["email"].collation is None
    assert not types["doc"].has_equality
    assert types["one"].has_equality
    low = users.column("low")
    assert low is not None
    assert low.generated
    assert low.reads == {"email"}


def check_couplings(catalog: Catalog) -> None:
    couplings = set(relation(catalog, "users").couplings)
    for kind, columns in (
        ("key", {"id"}),
        ("key", {"email"}),
        ("row_value", {"bonus", "pay"}),
        ("row_value", {"tenant", "code"}),
        ("row_value", {"tenant", "pay"}),
        ("row_value", {"email", "low"}),
    ):
        assert Coupling(kind, frozenset(columns)) in couplings, (kind, columns)
    users, logins = relation(catalog, "users"), relation(catalog, "logins")
    assert Coupling("key", frozenset({"user_email"}), users.oid) in logins.couplings
    assert Coupling("key", frozenset({"email"}), logins.oid, referred=True) in couplings


def check_lineage(catalog: Catalog) -> None:
    assert lineage(catalog, "v_direct") == {
        "id": {"users.id"},
        "mail": {"users.email"},
        "tenant": {"users.tenant"},
    }
    assert direct(catalog, "v_direct") == {"id", "mail", "tenant"}
    assert lineage(catalog, "v_over") == {
        "mail": {"v_direct.mail"},
        "shout": {"v_direct.mail"},
        "one": set(),
    }
    assert direct(catalog, "v_over") == {"mail"}
    assert lineage(catalog, "v_join") == {
        "id": {"users.id"},
        "n": {"logins.n"},
        "pair": {"users.email", "logins.user_email"},
    }
    assert lineage(catalog, "v_group") == {
        "tenant": {"users.tenant"},
        "n": set(),
        "last": {"users.email"},
    }
    assert lineage(catalog, "v_union") == {"x": {"users.email", "logins.user_email"}}
    assert lineage(catalog, "v_cte") == {"b": {"users.email"}, "a": {"users.id"}}
    assert lineage(catalog, "v_sub") == {"z": {"users.email"}}
    assert lineage(catalog, "v_scalar") == {
        "n": {"logins.n"},
        "pay": {"users.pay", "users.email", "logins.user_email"},
    }
    whole = lineage(catalog, "v_whole")["everything"]
    assert whole is not None
    assert whole >= {"users.email", "users.pay"}
    assert lineage(catalog, "v_call") == {"more": None, "email": {"users.email"}}
    assert lineage(catalog, "v_operator") == {"more": None}
    assert lineage(catalog, "v_func") == {"i": set(), "email": {"users.email"}}
    assert lineage(catalog, "v_unnest") == {"id": {"users.id"}, "a": {"users.pairs"}}
    assert lineage(catalog, "v_values") == {"c": set()}
    assert lineage(catalog, "v_case") == {"r": {"users.pay", "users.low"}}
    assert lineage(catalog, "v_using")["id"] == {"parts.id", "serials.id"}
    assert lineage(catalog, "v_xml") == {"x": None}
    assert lineage(catalog, "v_rec") == {"n": None}
    assert lineage(catalog, "mv") == {"id": {"users.id"}, "email": {"users.email"}}
    row_wise = {r.name for r in catalog.by_oid.values() if r.view is not None and r.view.row_wise}
    assert row_wise == {
        "v_direct",
        "v_over",
        "v_whole",
        "v_case",
        "mv",
        "v_xml",
        "v_scalar",
        "v_operator",
    }


def check_rest(catalog: Catalog) -> None:
    parts, part = relation(catalog, "parts"), relation(catalog, "parts_1")
    assert parts.children == (part.oid,)
    assert part.parents == (parts.oid,)
    assert parts.partition_key == {"day"}
    assert relation(catalog, "serials").has_rules
    assert not relation(catalog, "v_direct").has_rules
    assert relation(catalog, "serials_id_seq").owned_by == (relation(catalog, "serials").oid, "id")
    assert [f.signature for f in catalog.functions["add"]] == ["app.add(numeric, numeric)"]
    assert catalog.operators["<<>>"] == {"app"}
    assert catalog.types["mood"] == {"app"}
    assert catalog.hash_function == "sluice.hash"
    assert catalog.relation("pg_catalog", "pg_class") is not None


async def test_version_grows_only_with_a_difference(new_database: Callable[[str], str]) -> None:
    dsn = new_database("CREATE TABLE t (a int)")
    async with reading(dsn) as reader:
        first = await reader.read()
        assert await reader.read() is first
        assert not await reader.changed()
        execute(dsn, "INSERT INTO t SELECT generate_series(1, 10)")
        assert not await reader.changed()
        execute(dsn, "CREATE TEMP TABLE x (a int)")
        assert (await reader.read()).version == first.version
        execute(dsn, "ALTER TABLE t RENAME a TO b")
        assert await reader.changed()
        assert (await reader.read()).version == first.version + 1


@pytest.mark.parametrize(
    "ddl",
    [
        "ALTER TABLE t ADD c int",
        "ALTER TABLE t DROP b",
        "ALTER TABLE t RENAME TO t2",
        "CREATE OR REPLACE VIEW v AS SELECT b AS a FROM t",
        "CREATE TABLE p (a int, b int); ALTER TABLE t INHERIT p",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE INDEX ON t (a, b)",
        "ALTER TABLE t ADD CHECK (a < b)",
        "ALTER TYPE mood ADD VALUE 'angry' BEFORE 'sad'",
        "ALTER SCHEMA s RENAME TO s2",
        "DROP VIEW v",
    ],
)
async def test_ddl_is_seen_by_the_cheap_check(new_database: Callable[[str], str], ddl: str) -> None:
    dsn = new_database(
        "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (a int, b int, m mood);"
        "CREATE VIEW v AS SELECT a FROM t; CREATE SCHEMA s"
    )
    async with reading(dsn) as reader:
        before = await reader.read()
        execute(dsn, ddl)
        assert await reader.changed()
        assert (await reader.read()).version > before.version


async def test_read_during_ddl_is_never_torn(new_database: Callable[[str], str]) -> None:
    """A view's definition and its table's columns always belong to the same moment."""
    dsn = new_database("CREATE TABLE t (a int, b int); CREATE VIEW v AS SELECT a AS x FROM t")
    done = asyncio.Event()

    def flip() -> None:
        with psycopg.connect(dsn) as connection:
            for i in range(30):
                old, new = ("a", "b") if i % 2 else ("b", "a")
                connection.execute(
                    f"DROP VIEW v; ALTER TABLE t RENAME {old} TO tmp; ALTER TABLE t RENAME {new} TO {old};"
                    f"ALTER TABLE t RENAME tmp TO {new}; CREATE VIEW v AS SELECT a AS x FROM t"
                )
                connection.commit()

    async def change() -> None:
        await asyncio.to_thread(flip)
        done.set()

    async with reading(dsn) as reader:
        task = asyncio.create_task(change())
        while not done.is_set():
            try:
                catalog = await reader.read()
            except CatalogError as error:
                assert "changed during every attempt" in str(error)  # noqa: PT017
                continue
            view = catalog.relation("public", "v")
            assert view is not None
            assert view.view is not None
            assert view.view.columns["x"].direct is not None
        await task


async def test_unreachable_server_is_named_without_the_password() -> None:
    reader = CatalogReader("postgresql://reader:hidden-pw@127.0.0.1:1/shop")
    with pytest.raises(CatalogError, match=r"127\.0\.0\.1:1/shop cannot be reached") as caught:
        await reader.read()
    assert "hidden-pw" not in str(caught.value)


async def test_server_older_than_every_allow_list_is_named(
    new_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowlists, "majors", lambda: (98, 99))
    async with reading(new_database("")) as reader:
        with pytest.raises(CatalogError, match=r"PostgreSQL \d+ is too old; Sluice knows 98, 99"):
            await reader.read()


async def test_wrong_password_says_what_to_check(postgres: Server) -> None:
    execute(postgres.admin_dsn, "DROP ROLE IF EXISTS catalog_wrong")
    execute(postgres.admin_dsn, "CREATE ROLE catalog_wrong LOGIN PASSWORD 'right'")
    dsn = postgres.dsn(user="catalog_wrong", password="wrong", dbname="postgres")
    with pytest.raises(CatalogError, match="refuses the catalog role"):
        await CatalogReader(dsn).read()


async def test_missing_right_on_the_catalog_is_named(
    new_database: Callable[[str], str], postgres: Server
) -> None:
    dsn = new_database("REVOKE SELECT ON pg_catalog.pg_rewrite FROM PUBLIC")
    execute(postgres.admin_dsn, "DROP ROLE IF EXISTS catalog_bare")
    execute(postgres.admin_dsn, "CREATE ROLE catalog_bare LOGIN PASSWORD 'pw'")
    name = connect_arguments(dsn)["database"]
    bare = postgres.dsn(user="catalog_bare", password="pw", dbname=name)
    with pytest.raises(CatalogError, match=r"may not read the catalog .*pg_rewrite"):
        await CatalogReader(bare).read()


def test_dsn_of_both_forms_is_understood() -> None:
    assert connect_arguments("postgresql://u@h/d") == {"dsn": "postgresql://u@h/d"}
    assert connect_arguments(r"host=h port=5433 user='a b' password='it\'s' dbname=d") == {
        "host": "h",
        "port": 5433,
        "user": "a b",
        "password": "it's",
        "database": "d",
    }
    for bad in ("", "nonsense", "host=h bogus=1", "host=h 'x"):
        with pytest.raises(ValueError, match=r"."):
            connect_arguments(bad)
