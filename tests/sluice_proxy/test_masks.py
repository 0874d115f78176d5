"""Masks on a real server: type, typmod and collation stay; nothing raises; nothing depends on settings."""

from __future__ import annotations

import itertools
from typing import Any

import asyncpg
import pytest

from sluice_crds.masks import KINDS
from sluice_crds.masks import strictness as published_strictness
from sluice_dev.worlds.extremes import EXTREMES
from sluice_proxy.catalog.model import Catalog, Column
from sluice_proxy.catalog.reader import CatalogReader
from sluice_proxy.decisions import Mask
from sluice_proxy.masks import derived, fits, mask_sql, strictest, strictness

KINDS_TRIED = (
    Mask("redact"),
    Mask("null"),
    Mask("email"),
    Mask("hash"),
    Mask("year"),
    Mask("first", count=2),
    Mask("last", count=4),
    Mask("partial", first=1, last=2),
    Mask("bucket", size=1000),
    Mask("bucket", size=0.25),
    Mask("none"),
)

SCHEMA = """
CREATE EXTENSION IF NOT EXISTS citext; CREATE EXTENSION IF NOT EXISTS hstore;
CREATE SCHEMA sluice;
CREATE FUNCTION sluice.hash(value text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER
  AS $$ SELECT pg_catalog.encode(pg_catalog.sha256(('key' || value)::bytea), 'hex') $$;
CREATE TYPE public.mood AS ENUM ('it''s', 'sad');
CREATE DOMAIN public.ssn_t AS text CHECK (VALUE ~ '^\\d{3}-\\d{2}-\\d{4}$');
CREATE DOMAIN public.short_t AS varchar(4);
CREATE DOMAIN public.must_t AS public.short_t NOT NULL;
CREATE TYPE public.pair_t AS (a text, b public.ssn_t);
"""


def _schema() -> str:
    statements = [SCHEMA]
    for i, (type_, values) in enumerate(EXTREMES.items()):
        for suffix, nullable in (("n", ""), ("m", " NOT NULL")):
            statements.append(f"CREATE TABLE public.t{i}{suffix} (v {type_}{nullable});")
            bare = type_.partition(" COLLATE")[0]
            rows = ", ".join("('" + v.replace("'", "''") + f"'::{bare})" for v in values)
            statements.append(f"INSERT INTO public.t{i}{suffix} VALUES {rows};")
        if "must_t" not in type_:
            statements.append(f"INSERT INTO public.t{i}n VALUES (NULL);")
    return "\n".join(statements)


@pytest.fixture(scope="module")
def dsn(contrib_postgres: Any) -> str:
    """Return a database with a table for every type, its extreme values in it."""
    import psycopg  # noqa: PLC0415

    with psycopg.connect(contrib_postgres.admin_dsn, autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS masks")
        admin.execute("CREATE DATABASE masks")
    dsn = contrib_postgres.dsn(dbname="masks")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_schema())
    return dsn


async def _catalog(dsn: str) -> Catalog:
    reader = CatalogReader(dsn)
    try:
        return await reader.read()
    finally:
        await reader.close()


def _cases(catalog: Catalog) -> list[tuple[str, Column, Mask]]:
    tables = [r for r in catalog.by_oid.values() if r.schema == "public" and r.name.startswith("t")]
    return [
        (relation.qualified, relation.columns[0], mask)
        for relation in sorted(tables, key=lambda r: r.oid)
        for mask in KINDS_TRIED
        if fits(mask, relation.columns[0].type) is None
    ]


def _masked(table: str, column: Column, mask: Mask, catalog: Catalog) -> str:
    return f"SELECT {mask_sql(mask, column, 's.c1', catalog)} AS v FROM {table} s(c1)"


async def _connect(dsn: str) -> asyncpg.Connection:
    from sluice_proxy.catalog.dsn import connect_arguments  # noqa: PLC0415

    return await asyncpg.connect(**connect_arguments(dsn))


async def test_masks_keep_type_typmod_and_collation(dsn: str) -> None:
    catalog = await _catalog(dsn)
    connection = await _connect(dsn)
    shape = (
        "SELECT a.atttypid, a.atttypmod, a.attcollation FROM pg_attribute a "
        "WHERE a.attrelid = 'pg_temp.shape'::regclass AND a.attnum = 1"
    )
    try:
        for table, column, mask in _cases(catalog):
            domain = column.type.oid != column.type.base_oid
            raw = f"v::{column.type.base_sql}" if domain else "v"
            found = []
            for text in (
                f"SELECT {raw} FROM {table}",
                _masked(table, column, mask, catalog).replace(
                    " AS v",
                    f"::{column.type.base_sql} AS v" if domain and mask.kind == "none" else " AS v",
                ),
            ):
                await connection.execute(f"CREATE TEMP VIEW shape AS {text}")
                found.append(tuple(await connection.fetchrow(shape)))
                await connection.execute("DROP VIEW pg_temp.shape")
            assert found[0] == found[1], (column.type.base_sql, mask)
    finally:
        await connection.close()


async def test_masks_never_raise_on_extreme_values(dsn: str) -> None:
    catalog = await _catalog(dsn)
    connection = await _connect(dsn)
    try:
        await connection.execute("SET search_path = ''")
        for table, column, mask in _cases(catalog):
            text = _masked(table, column, mask, catalog)
            try:
                await connection.execute(f"SELECT pg_catalog.record_out(q) FROM ({text}) q")
            except asyncpg.PostgresError as error:
                pytest.fail(f"{column.type.base_sql} {mask}: {error}: {text}")
    finally:
        await connection.close()


async def test_masks_do_not_depend_on_session_settings(dsn: str) -> None:
    catalog = await _catalog(dsn)
    cases = _cases(catalog)
    answers: list[list[Any]] = []
    for zone, style, escape in (("UTC", "ISO", "on"), ("<a>-58:33", "German", "off")):
        connection = await _connect(dsn)
        try:
            query = "; ".join(
                [
                    f"CREATE TEMP TABLE r{i} AS {_masked(table, column, mask, catalog)}"
                    for i, (table, column, mask) in enumerate(cases)
                    if mask.kind != "none"
                ]
            )
            await connection.execute(
                f"SET TimeZone = '{zone}'; SET DateStyle = '{style}'; SET standard_conforming_strings = {escape}; "
                "SET extra_float_digits = -15; SET IntervalStyle = iso_8601; SET escape_string_warning = off"
            )
            await connection.execute(query)
            await connection.execute("RESET ALL")
            answers.append(
                [
                    await connection.fetch(f"SELECT v::text FROM pg_temp.r{i}")
                    for i, (_, _, mask) in enumerate(cases)
                    if mask.kind != "none"
                ]
            )
        finally:
            await connection.close()
    assert answers[0] == answers[1]


async def test_redact_is_one_constant_and_never_tells_null(dsn: str) -> None:
    catalog = await _catalog(dsn)
    connection = await _connect(dsn)
    try:
        for table, column, mask in _cases(catalog):
            if mask.kind in {"redact", "null"}:
                text = _masked(table, column, mask, catalog)
                count = await connection.fetchval(
                    f"SELECT count(DISTINCT coalesce(record_out(q)::text, '')) FROM ({text}) q"
                )
                assert count == 1, (column.type.base_sql, mask)
    finally:
        await connection.close()


async def test_not_null_columns_are_never_masked_with_null(dsn: str) -> None:
    catalog = await _catalog(dsn)
    connection = await _connect(dsn)
    try:
        for table, column, mask in _cases(catalog):
            if column.not_null or column.type.domain_not_null:
                text = _masked(table, column, mask, catalog)
                missing = await connection.fetchval(
                    f"SELECT count(*) FROM ({text}) q WHERE num_nulls(v) = 1"
                )
                assert missing == 0, (column.type.base_sql, mask)
    finally:
        await connection.close()


async def test_text_masks_show_what_they_say_and_no_more(dsn: str) -> None:
    catalog = await _catalog(dsn)
    connection = await _connect(dsn)
    column = catalog.by_oid[
        next(r.oid for r in catalog.by_oid.values() if r.name == "t0n")
    ].columns[0]
    values = [
        "ann@x.com",
        "a@x.com",
        "nosign",
        "a@@x",
        "pw@secret@x.com",
        "1234567",
        "12345678",
        None,
    ]
    expected = {
        "email": ["a***@x.com", "***", "***", "***", "p***@x.com", "***", "***", None],
        "last": ["***.com", "***", "***", "***", "***.com", "***", "***5678", None],
    }
    try:
        for kind, wanted in expected.items():
            sql = mask_sql(Mask(kind, count=4), column, "s.c1", catalog)
            rows = await connection.fetch(
                f"SELECT {sql} AS v FROM unnest($1::text[]) WITH ORDINALITY s(c1, n) ORDER BY n",
                values,
            )
            assert [row["v"] for row in rows] == wanted
    finally:
        await connection.close()


async def test_masked_functions_are_immutable(dsn: str) -> None:
    catalog = await _catalog(dsn)
    connection = await _connect(dsn)
    try:
        for table, column, mask in _cases(catalog):
            if mask.kind in {"none", "null", "redact"} or not column.type.has_equality:
                continue
            name = column.name
            sql = mask_sql(mask, column, name, catalog)
            async with connection.transaction():
                # PostgreSQL itself refuses anything but immutable functions in an index.
                await connection.execute(f"CREATE INDEX ON {table} (({sql}))")
    finally:
        await connection.close()


async def test_hash_without_the_owners_function_is_redacted(dsn: str) -> None:
    from dataclasses import replace  # noqa: PLC0415

    catalog = await _catalog(dsn)
    column = catalog.by_oid[
        next(r.oid for r in catalog.by_oid.values() if r.name == "t0n")
    ].columns[0]
    bare = replace(catalog, hash_function=None)
    assert mask_sql(Mask("hash"), column, "s.c1", bare) == "'***'::pg_catalog.text"


def test_order_of_masks_is_the_published_one() -> None:
    masks = [
        *KINDS_TRIED,
        Mask("first", count=4),
        Mask("partial", first=2, last=2),
        Mask("expression", parts=("(1)",), rank="email"),
        Mask("expression", parts=("(1)",), rank="expression"),
    ]
    for a, b in itertools.combinations(masks, 2):
        ours = strictness(a) < strictness(b)
        assert ours == (published_strictness(_contract(a)) < published_strictness(_contract(b))), (
            a,
            b,
        )
    assert strictest(masks).kind == "null"


def test_fits_agrees_with_the_published_table(dsn: str) -> None:
    import asyncio  # noqa: PLC0415

    catalog = asyncio.run(_catalog(dsn))
    for relation in catalog.by_oid.values():
        if relation.schema == "public" and relation.columns:
            type_ = relation.columns[0].type
            for mask in KINDS_TRIED:
                assert (fits(mask, type_) is None) == KINDS[mask.kind].applies(type_.base_name)


def test_derived_columns_lose_masks_that_cut_values_open() -> None:
    assert derived(Mask("last", count=4)) == Mask("redact")
    assert derived(Mask("hash")) == Mask("hash")
    assert derived(Mask("none")) == Mask("none")


def _contract(mask: Mask) -> dict[str, Any]:
    return {
        name: getattr(mask, name)
        for name in ("kind", "count", "first", "last", "size", "parts", "rank")
        if getattr(mask, name) is not None
    }
