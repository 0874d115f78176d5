"""One database with every kind of relation, and decisions over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from sluice_dev.postgres import Server
from sluice_proxy.catalog.dsn import connect_arguments
from sluice_proxy.catalog.model import Catalog
from sluice_proxy.catalog.reader import CatalogReader
from sluice_proxy.decisions import ClassEntry, Level, Mask, Parts, RowFilter, SessionDecision
from sluice_proxy.governed import GovernedRelation, governed_relations

SCHEMA = """
CREATE TABLE users (id int PRIMARY KEY, tenant int NOT NULL, name text, email text NOT NULL, ssn text,
  age int, meta jsonb,
  low text GENERATED ALWAYS AS (lower(email)) STORED, short text GENERATED ALWAYS AS (right(ssn, 4)) STORED,
  CONSTRAINT c CHECK (ssn <> 'check-secret'));
CREATE INDEX ON users (id) WHERE ssn = 'index-secret';
CREATE TABLE logs (id serial, line text DEFAULT 'default-secret', tenant int, kind text DEFAULT 'default-shown');
CREATE VIEW v_filter AS SELECT email AS mail, tenant AS t FROM users;
CREATE VIEW v_nested AS SELECT v.mail, v.t AS tt FROM v_filter v;
CREATE VIEW v_key AS SELECT id, email, upper(ssn) AS loud, name FROM users;
CREATE VIEW v_blind AS SELECT name, email FROM users;
CREATE VIEW v_count AS SELECT tenant, count(*) AS n FROM users GROUP BY tenant;
CREATE VIEW v_join AS SELECT u.tenant, l.line FROM users u JOIN logs l ON l.id = u.id;
CREATE FUNCTION peek() RETURNS SETOF users LANGUAGE sql AS 'SELECT * FROM users';
CREATE VIEW v_peek AS SELECT p.name, p.email FROM peek() p;
CREATE VIEW v_words AS SELECT id, (ts_parse('default', ssn)).tokid AS kind FROM users;
CREATE VIEW v_series AS SELECT id, generate_series(1, 3) AS n FROM users;
CREATE VIEW v_stats AS SELECT tablename, most_common_vals::text AS vals FROM pg_catalog.pg_stats;
CREATE TABLE parts (id int, tenant int, day date, mail text, who text) PARTITION BY LIST (mail);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN ('bound-secret');
CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
CREATE TABLE people (id int, mail text);
CREATE TABLE staff (wage numeric, tenant int) INHERITS (people);
INSERT INTO users (id, tenant, name, email, ssn) SELECT i, 1 + i % 2, 'n' || i, 'u' || i || '@x.com', '900-00-000' || i
  FROM generate_series(1, 9) i;
"""

EMAIL, REDACT, LAST = Mask("email"), Mask("redact"), Mask("last", count=4)
MASKS = {
    "pii.email": EMAIL,
    "pii.ssn": LAST,
    "pii": REDACT,
    "raw": Mask("none"),
    "unreviewed": REDACT,
}


def decided(
    *entries: tuple[str, str, str],
    filters: tuple[tuple[str, Parts], ...] = (),
    policy: str = "shop/p",
    unreviewed: bool = False,
    masks: dict[str, Mask] | None = None,
) -> SessionDecision:
    return SessionDecision(
        revision="r",
        sequence=1,
        valid_until_ns=None,
        allow=True,
        level=Level.RESTRICTED,
        observe=False,
        policies=(policy,),
        reasons=(),
        entries=tuple(ClassEntry(*entry) for entry in entries),
        unreviewed_masked=unreviewed,
        masks=masks or MASKS,
        row_filters=tuple(RowFilter(table, parts, policy) for table, parts in filters),
        rows_max=None,
        seconds_max=None,
        trusted_functions=frozenset(),
        trusted_channels=frozenset(),
        write_oracle_keys_accepted=True,
        write_oracle_row_values_accepted=False,
    )


@pytest.fixture(scope="session")
def schema() -> str:
    """The text that makes the database, for servers of other versions."""
    return SCHEMA


@pytest.fixture(scope="session")
def dsn(postgres: Server) -> str:
    return postgres.create_database("governed_tests", SCHEMA)


@pytest.fixture(scope="session")
def catalog(dsn: str) -> Catalog:
    async def read() -> Catalog:
        reader = CatalogReader(dsn)
        try:
            return await reader.read()
        finally:
            await reader.close()

    return asyncio.run(read())


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**connect_arguments(dsn))
    yield connection
    await connection.close()


def relation_of(
    catalog: Catalog, said: SessionDecision, name: str, schema: str = "public"
) -> GovernedRelation | None:
    relation = catalog.relation(schema, name)
    assert relation is not None, name
    return governed_relations(catalog, said).get(relation.oid)


def classes_of(catalog: Catalog, said: SessionDecision, name: str) -> dict[str, str]:
    found = relation_of(catalog, said, name)
    return dict(found.classes) if found is not None else {}


@pytest.fixture(scope="session")
def decision() -> Callable[..., SessionDecision]:
    """Make a decision of entries and row filters."""
    return decided


@pytest.fixture(scope="session")
def of() -> Callable[..., GovernedRelation | None]:
    """Return what a decision means for a relation, by its name."""
    return relation_of


@pytest.fixture(scope="session")
def classes() -> Callable[..., dict[str, str]]:
    """Return the classes of a relation's columns, by its name."""
    return classes_of
