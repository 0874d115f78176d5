"""Whole rows of masked tables answer with the table's own row type, domains or not."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from sluice_dev.postgres import Server
from sluice_proxy.catalog.reader import CatalogReader
from sluice_proxy.decisions import ClassEntry, Mask

SCHEMA = """
CREATE DOMAIN digits AS text CHECK (VALUE ~ '^[0-9-]+$');
CREATE DOMAIN code AS varchar(12) CHECK (length(VALUE) < 20) CHECK (upper(trim(VALUE)) <> 'CANARY' AND VALUE LIKE '%');
CREATE DOMAIN shop_code AS code CHECK (VALUE IN ('abc', 'canary-abc'));
CREATE DOMAIN rate AS numeric(10,2) CHECK (VALUE >= 0 AND VALUE < 1e6);
CREATE DOMAIN past AS date CHECK (VALUE <= CURRENT_DATE);
CREATE DOMAIN always AS int NOT NULL;
CREATE DOMAIN given AS text CHECK (VALUE IS NOT NULL AND VALUE ~ '^canary');
CREATE DOMAIN halved AS int CHECK (20000 / VALUE > 0);
CREATE FUNCTION odd(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT true $$;
CREATE DOMAIN own AS text CHECK (odd(VALUE));
CREATE TABLE cards (gone int, id int PRIMARY KEY, num digits, code code, shop shop_code, rate rate, born past,
  many always, twice int GENERATED ALWAYS AS (id * 2) STORED, plain digits DEFAULT '1');
ALTER TABLE cards DROP COLUMN gone;
INSERT INTO cards VALUES (1, '4929-0001', 'canary-1', 'canary-abc', 12.5, '1970-05-05', 7),
  (2, NULL, NULL, NULL, NULL, NULL, 8);
CREATE TABLE kept (id int, text digits) INHERITS (cards);
INSERT INTO kept (id, num, many) VALUES (3, '4929-0003', 1);
CREATE TABLE part (id int, num digits, gone int) PARTITION BY RANGE (id);
CREATE TABLE part_low (num digits, gone int, other int, id int NOT NULL);
ALTER TABLE part_low DROP COLUMN other;
ALTER TABLE part DROP COLUMN gone;
ALTER TABLE part_low DROP COLUMN gone;
ALTER TABLE part ATTACH PARTITION part_low FOR VALUES FROM (0) TO (10);
INSERT INTO part VALUES (1, '4929-0001');
CREATE TABLE lefts (id int);
INSERT INTO lefts VALUES (1), (9);
CREATE TABLE strict (id int, s given);
CREATE TABLE odds (id int, s own);
CREATE TABLE halves (id int, s halved);
INSERT INTO strict VALUES (1, 'canary-1');
INSERT INTO odds VALUES (1, 'canary-1');
INSERT INTO halves VALUES (1, 7001);
CREATE VIEW seen AS SELECT id, num FROM cards;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO PUBLIC;
"""
CLASSES = {
    "num": Mask("last", count=4),
    "code": Mask("redact"),
    "shop": Mask("partial", first=1, last=1),
    "rate": Mask("bucket", size=100.0),
    "born": Mask("year"),
    "many": Mask("redact"),
    "s": Mask("redact"),
}


@pytest.fixture(scope="module")
def cards(postgres: Server) -> tuple[str, Any]:
    dsn = postgres.create_database("facts_rowtypes", SCHEMA)
    return dsn, asyncio.run(_catalog(dsn))


@pytest.fixture
def session(open_session: Any, cards: tuple[str, Any]) -> Iterator[Any]:
    made = open_session()
    made.connection.close()
    dsn, made.catalog = cards
    made.connection = psycopg.connect(dsn)
    _classify(made)
    yield made
    made.connection.close()


def _classify(made: Any) -> None:
    entries = tuple(
        ClassEntry(f"public.{table}", column, f"d.{column}")
        for table, columns in {
            "cards": ("num", "code", "shop", "rate", "born", "many"),
            "kept": ("num", "code", "shop", "rate", "born", "many"),
            "part": ("num",),
            "part_low": ("num",),
            "strict": ("s",),
            "odds": ("s",),
            "halves": ("s",),
        }.items()
        for column in columns
    )
    masks = {f"d.{name}": mask for name, mask in CLASSES.items()}
    made.decision = dataclasses.replace(made.decision, entries=entries, masks=masks, row_filters=())


async def _catalog(dsn: str) -> Any:
    reader = CatalogReader(dsn)
    try:
        return await reader.read()
    finally:
        await reader.close()


def shown(session: Any, sql: str, *, binary: bool = False) -> tuple[list[str], list[int], str]:
    """Run it rewritten; return names, type OIDs and all values as text."""
    text = session.rewritten(sql)
    result = session.connection.pgconn.exec_params(text.encode(), None, result_format=int(binary))
    assert result.status == psycopg.pq.ExecStatus.TUPLES_OK, (result.error_message, text)
    columns = range(result.nfields)
    values = [result.get_value(r, c) for r in range(result.ntuples) for c in columns]
    return (
        [result.fname(c).decode() for c in columns],
        [result.ftype(c) for c in columns],
        str(values),
    )


def row_type(session: Any, table: str) -> int:
    return session.connection.execute("SELECT %s::regtype::oid", (table,)).fetchone()[0]


CASES = [
    ("SELECT u FROM cards u", "u", "cards"),
    ("SELECT (u) FROM cards u", "u", "cards"),
    ("SELECT ((u)) FROM cards u", "u", "cards"),
    ("SELECT u AS w FROM cards u", "w", "cards"),
    ("SELECT (u) AS w FROM ONLY cards u", "w", "cards"),
    ("SELECT cards FROM cards", "cards", "cards"),
    ("SELECT u FROM cards u(a, b, c)", "u", "cards"),
    ("SELECT u FROM lefts l LEFT JOIN cards u ON u.id = l.id", "u", "cards"),
    ("SELECT (u) FROM cards u RIGHT JOIN lefts l USING (id)", "u", "cards"),
    ("SELECT array_agg(u) FROM cards u", "array_agg", "cards[]"),
    ("SELECT ARRAY(SELECT u FROM cards u)", "array", "cards[]"),
    ("SELECT x.u FROM (SELECT u FROM cards u OFFSET 0) x", "u", "cards"),
    ("SELECT u FROM cards u GROUP BY u", "u", "cards"),
    ("SELECT DISTINCT u FROM cards u ORDER BY u", "u", "cards"),
    ("SELECT u FROM cards u UNION SELECT c FROM cards c", "u", "cards"),
    ("SELECT u AS w FROM cards u GROUP BY u", "w", "cards"),
    ("SELECT DISTINCT u AS w FROM cards u ORDER BY u", "w", "cards"),
    ("SELECT DISTINCT ON (u) u AS w FROM cards u", "w", "cards"),
    ("SELECT array_agg(DISTINCT u ORDER BY u) FROM cards u", "array_agg", "cards[]"),
    ("SELECT id AS u FROM cards u GROUP BY id ORDER BY u", "u", "integer"),
    ("SELECT k FROM kept k", "k", "kept"),
    ("SELECT p FROM part p", "p", "part"),
    ("SELECT p FROM part_low p", "p", "part_low"),
    ("SELECT v FROM seen v", "v", "seen"),
]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(("sql", "name", "type_"), CASES)
def test_whole_row_has_the_type_of_its_table(
    session: Any, sql: str, name: str, type_: str, *, binary: bool
) -> None:
    names, types, values = shown(session, sql, binary=binary)
    assert (names, types) == ([name], [row_type(session, type_)])
    assert "canary" not in values
    assert "4929-0" not in values


def test_whole_rows_have_their_type_on_each_major(each_postgres: Server, open_session: Any) -> None:
    made = open_session()
    made.connection.close()
    dsn = each_postgres.create_database("facts_rowtypes", SCHEMA)
    made.catalog = asyncio.run(_catalog(dsn))
    made.connection = psycopg.connect(dsn, autocommit=True)
    _classify(made)
    for sql, name, type_ in CASES:
        names, types, values = shown(made, sql, binary=True)
        assert (names, types) == ([name], [row_type(made, type_)]), sql
        assert "canary" not in values, sql
        assert "4929-0" not in values, sql


def test_value_that_the_domain_does_not_take_is_null_and_others_are_their_masks(
    session: Any,
) -> None:
    assert shown(session, "SELECT u FROM ONLY cards u")[2] == str(
        [b"(1,,***,,0.00,1970-01-01,0,2,1)", b"(2,,***,,,,0,4,1)"]
    )


def test_row_that_an_outer_join_leaves_out_is_null(session: Any) -> None:
    sql = "SELECT u FROM lefts l LEFT JOIN cards u ON u.id = l.id ORDER BY l.id"
    assert shown(session, sql)[2].endswith(", None]")


def test_masks_that_change_nothing_change_no_row(session: Any) -> None:
    own = Mask("expression", parts=("(", ("value",), ")"), rank="email")
    masks = dict.fromkeys(session.decision.masks, own)
    session.decision = dataclasses.replace(session.decision, masks=masks)
    for sql in (
        "SELECT u FROM cards u ORDER BY id",
        "SELECT p FROM part p",
        "SELECT s FROM strict s",
    ):
        plain = session.connection.pgconn.exec_(sql.encode())
        assert shown(session, sql)[2] == str([plain.get_value(r, 0) for r in range(plain.ntuples)])


@pytest.mark.parametrize("table", ["strict", "odds", "halves"])
def test_row_stays_a_record_where_a_domain_may_refuse_every_mask(session: Any, table: str) -> None:
    _, types, values = shown(session, f"SELECT x FROM {table} x")
    assert types == [2249]
    assert "canary" not in values
    assert "7001" not in values


@pytest.mark.parametrize("sql", ["RETURNING cards", "RETURNING (cards)", "RETURNING cards AS w"])
def test_whole_row_in_returning_has_the_type_of_its_table(session: Any, sql: str) -> None:
    _, types, values = shown(session, f"UPDATE cards SET plain = '2' {sql}")
    assert types == [row_type(session, "cards")]
    assert "canary" not in values
    assert "4929" not in values


def test_whole_row_in_returning_is_refused_where_a_domain_may_refuse_the_mask(session: Any) -> None:
    answer = session.ask("UPDATE strict SET id = 2 RETURNING strict")
    assert answer.refused is not None
    assert "whole rows" in answer.refused
