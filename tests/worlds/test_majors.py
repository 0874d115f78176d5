"""A server whose built-in functions nobody has reviewed."""

from __future__ import annotations

import contextlib

import psycopg
import pytest

from sluice_dev.postgres import installations
from sluice_dev.worlds.command import CORPUS, corpus_fixture
from sluice_dev.worlds.twins import World
from sluice_dev.worlds.wire import error_fields
from sluice_proxy import allowlists

_UNKNOWN = [one for one in installations() if one.major not in allowlists.majors()]


@pytest.mark.skipif(
    not _UNKNOWN or not CORPUS.exists(), reason="no server without an allow-list (tools/majors.sh)"
)
def test_unknown_major_is_refused_for_restricted_sessions_alone() -> None:
    with contextlib.ExitStack() as stack:
        world = World(corpus_fixture(), "A", stack, installation=_UNKNOWN[0])
        for sql in ("SELECT 1", "SELECT email FROM users", "TABLE products", "SELECT now()"):
            kind, body = world.connection().ask(sql)[0]
            told = error_fields(body)
            assert (kind, told["C"]) == ("E", "0A000"), told
            assert f"PostgreSQL {_UNKNOWN[0].major} has no allow-list" in told["M"]
        assert world.sluice is not None
        dsn = world.sluice.dsn(user="lk_steward", password="steward-pw")
        with psycopg.connect(dsn) as open_session:
            assert open_session.execute("SELECT count(*) FROM users").fetchone() == (33,)
