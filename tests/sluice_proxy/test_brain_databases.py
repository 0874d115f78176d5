"""Which catalogs may be relied on."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import psycopg
import pytest

from sluice_proxy.databases import Database, Databases


def database(dsn: str | None, name: str = "shop/shop") -> Database:
    info = psycopg.conninfo.conninfo_to_dict(dsn or "dbname=shop host=h port=1")
    return Database(
        name=name,
        database_name=info["dbname"],
        upstream=f"{info['host']}:{info['port']}",
        catalog_dsn=dsn,
    )


@pytest.fixture
async def databases() -> AsyncIterator[Databases]:
    made = Databases(catalog_age_max_s=2)
    yield made
    await made.stop()


async def test_catalog_is_read_and_changes_are_told(databases, new_database):
    dsn = new_database("CREATE TABLE t (a int)")
    told = []
    databases.on_catalog(lambda name, catalog: told.append((name, catalog.version)))
    one = database(dsn)
    databases.replace([one])
    await databases.refresh(one)
    assert databases.catalog_problem(one) is None
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("ALTER TABLE t ADD COLUMN b int")
    await databases.refresh(one)
    catalog = databases.catalog(one)
    assert catalog is not None
    assert [column.name for column in catalog.relations["public", "t"].columns] == ["a", "b"]
    assert len(told) == 2


async def test_database_without_a_catalog_role_says_so(databases):
    one = database(None)
    databases.replace([one])
    assert "no catalog role" in (databases.catalog_problem(one) or "")
    assert databases.catalog_problems() == {}


async def test_unreachable_catalog_says_why(databases):
    one = database("host=127.0.0.1 port=1 dbname=shop user=c")
    databases.replace([one])
    await databases.refresh(one)
    assert "could not be read" in (databases.catalog_problem(one) or "")
    assert list(databases.catalog_problems()) == ["shop/shop"]


async def test_catalog_of_another_database_is_none(databases, new_database):
    dsn = new_database("")
    one = dataclasses.replace(database(dsn), database_name="elsewhere")
    databases.replace([one])
    await databases.refresh(one)
    assert databases.catalog(one) is None
    assert 'and not to "elsewhere"' in (databases.catalog_problem(one) or "")


async def test_old_catalog_is_not_relied_on(new_database):
    databases = Databases(catalog_age_max_s=-1)
    one = database(new_database(""))
    databases.replace([one])
    await databases.refresh(one)
    assert "the bound is" in (databases.catalog_problem(one) or "")
    await databases.stop()


async def test_database_that_is_gone_is_read_no_more(databases, new_database):
    one = database(new_database(""))
    databases.replace([one])
    await databases.refresh(one)
    databases.replace([])
    await asyncio.sleep(0)
    assert databases.get("shop/shop") is None
    assert databases.catalog(one) is None
