"""Fixtures for every suite: real PostgreSQL servers, real OPA.

``postgres`` and ``contrib_postgres`` are shared by the whole run; a test takes a database of its own from
``new_database`` and leaves roles of its own name behind at most.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from sluice_dev import cache
from sluice_dev.cluster import ApiServer
from sluice_dev.postgres import Server, find, installations
from sluice_proxy.allowlists import majors

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--update-golden``: what the code does now is written into the golden files instead of compared."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A throwaway server: ``.admin_dsn``, ``.dsn(user=, password=, dbname=)``, ``.host`` and so on."""
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def contrib_postgres(postgres: Server) -> Iterator[Server]:
    """As ``postgres``, with the contrib extensions (citext, hstore, postgres_fdw …) at hand."""
    if postgres.installation.contrib:
        yield postgres
        return
    with Server(find(contrib=True)) as server:
        yield server


_EVERY_MAJOR = bool(os.environ.get("SLUICE_EVERY_MAJOR"))  # `make test-all` sets it.
_INSTALLATIONS = {
    one.major: one
    for one in reversed(installations())
    if one.major in majors() and (_EVERY_MAJOR or not one.bin.is_relative_to(cache.cache()))
}


@pytest.fixture(params=sorted(_INSTALLATIONS), ids="pg{}".format)
def each_postgres(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of each major version found (`make test-all` fetches all of them); starts one for each test."""
    with Server(_INSTALLATIONS[request.param]) as server:
        yield server


@pytest.fixture
def new_database(postgres: Server) -> Iterator[Callable[[str], str]]:
    """A function that creates a database, loads SQL text into it, and returns the admin's DSN; dropped afterwards."""
    made: list[str] = []

    def create(schema: str = "") -> str:
        name = f"t{next(_numbers)}"
        made.append(name)
        return postgres.create_database(name, schema or None)

    yield create
    with psycopg.connect(postgres.admin_dsn, autocommit=True) as admin:
        for name in made:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database_dsn(new_database: Callable[[str], str]) -> str:
    """The admin's DSN of an empty database of its own."""
    return new_database("")


@pytest.fixture(scope="session")
def opa() -> Path:
    """The OPA binary that `make setup` built."""
    return cache.opa()


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """A real API server (etcd and kube-apiserver) without a node; use namespaces of your own."""
    with ApiServer() as server:
        yield server
