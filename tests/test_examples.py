"""The examples and the corpora's policies are what the compiler takes, and every example is listed."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from sluice_dev.cache import ROOT
from sluice_dev.postgres import Server
from sluice_policy import Profile, compile_profile, load_directory

EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.is_dir())
FOLDERS = [*EXAMPLES, ROOT / "tests" / "corpus" / "policies"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_committed_policies_compile_without_any_problem(folder: Path):
    loaded = load_directory(folder / "policies" if (folder / "policies").is_dir() else folder)
    namespace = loaded.classifications[0].metadata.namespace
    assert namespace is not None
    compiled = compile_profile(loaded.resources, Profile(namespace, "default", {}))
    assert [str(problem) for problem in (*loaded.problems, *compiled.problems)] == []
    assert compiled.data


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_described(folder: Path):
    assert f"`{folder.name}/`" in (ROOT / "examples" / "README.md").read_text()


def test_shop_schema_loads_with_invented_rows():
    # A server of its own: the schema makes roles.
    with Server() as server:
        dsn = server.create_database("shop", ROOT / "examples" / "shop" / "schema.sql")
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT count(*) FROM orders").fetchall() == [(100_000,)]
