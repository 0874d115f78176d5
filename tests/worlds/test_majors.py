"""A server whose built-in functions nobody has reviewed."""

from __future__ import annotations

import contextlib

import psycopg
import pytest

from sluice_dev.postgres import installations
from sluice_dev.worlds.command import CORPUS, corpus_fixture
from sluice_dev.worlds.twins import World
from sluice_proxy import allowlists

_UNKNOWN = [one for one in installations() if one.major < min(allowlists.majors())]


@pytest.mark.skipif(
    not _UNKNOWN or not CORPUS.exists(), reason="no server without an allow-list (tools/majors.sh)"
)
def test_older_major_is_refused_for_restricted_sessions_alone() -> None:
    with contextlib.ExitStack() as stack:
        world = World(corpus_fixture(), "A", stack, installation=_UNKNOWN[0])
        assert world.sluice is not None
        restricted = world.sluice.dsn(user="lk_analyst", password="analyst-pw")
        with pytest.raises(
            psycopg.OperationalError, match=f"PostgreSQL {_UNKNOWN[0].major} is too old"
        ):
            psycopg.connect(restricted)
        dsn = world.sluice.dsn(user="lk_steward", password="steward-pw")
        with psycopg.connect(dsn) as open_session:
            assert open_session.execute("SELECT count(*) FROM users").fetchone() == (33,)
