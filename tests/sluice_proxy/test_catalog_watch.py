"""The catalog watch: what it reports, how its catalog ages, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest

from sluice_dev.postgres import Server
from sluice_proxy.catalog.reader import CatalogError, CatalogReader
from sluice_proxy.catalog.watch import CatalogWatch


def execute(dsn: str, text: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(text)


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the watch has no event to wait for
            await asyncio.sleep(0.01)


@pytest.fixture
async def watching() -> AsyncIterator[Callable[..., Awaitable[CatalogWatch]]]:
    started: list[CatalogWatch] = []

    async def start(dsn: str, **options: object) -> CatalogWatch:
        watch = CatalogWatch(CatalogReader(dsn), interval_s=0.05, **options)  # pyright: ignore[reportArgumentType]
        started.append(watch)
        await watch.start()
        return watch

    yield start
    for watch in started:
        await watch.stop()


async def test_watch_reports_ddl_by_itself(
    new_database: Callable[[str], str], watching: Callable[..., Awaitable[CatalogWatch]]
) -> None:
    dsn = new_database("CREATE TABLE t (a int)")
    seen: list[int] = []
    watch = await watching(dsn, on_change=lambda catalog: seen.append(catalog.version))
    assert seen == [1]
    execute(dsn, "ALTER TABLE t ADD b int")
    # Half a second on a quiet machine; tests/worlds/test_drift.py measures what matters of it.
    await until(lambda: len(seen) == 2, 10)
    assert watch.current(10) is watch.catalog
    assert watch.problem is None


async def test_watch_ages_while_the_server_is_away_and_recovers(
    watching: Callable[..., Awaitable[CatalogWatch]],
) -> None:
    with Server() as server:
        watch = await watching(server.admin_dsn)
        assert watch.catalog is not None
        server.halt()
        await until(lambda: watch.problem is not None)
        await asyncio.sleep(0.2)
        assert watch.current(0.1) is None
        assert watch.catalog is not None
        with pytest.raises(CatalogError):
            await watch.refresh()
        server.restart()
        await until(lambda: watch.problem is None, 10)
        assert watch.current(5) is not None


async def test_refresh_sees_ddl_that_committed_before_it(
    new_database: Callable[[str], str], watching: Callable[..., Awaitable[CatalogWatch]]
) -> None:
    dsn = new_database("CREATE TABLE t (a int)")
    watch = await watching(dsn)
    for i in range(5):
        execute(dsn, f"ALTER TABLE t ADD c{i} int")
        catalog = await watch.refresh()
        table = catalog.relation("public", "t")
        assert table is not None
        assert table.column(f"c{i}") is not None


class LosesItsWord:
    """A login that takes its being cancelled for a lost connection, as clients do in the middle of a step."""

    where = "the database at nowhere"

    async def arguments(self) -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raise ConnectionError from error
        return {}


async def test_watch_ends_when_cancelling_a_read_looks_like_a_lost_connection() -> None:
    watch = CatalogWatch(CatalogReader(LosesItsWord()))
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()
