"""Options and environment of ``sluice run``, up to the point where something is started."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from sluice_cli.__main__ import parser
from sluice_cli.exits import UsageError
from sluice_cli.run_arguments import (
    check_environment,
    database_options,
    duration_s,
    host_port,
)
from sluice_crds import DataClassification

NAMES = ["shop/shop", "crm/main"]


def arguments(*given: str) -> argparse.Namespace:
    return parser().parse_args(["run", "--policies", "p", *given])


def options(*given: str, environment=None):
    return database_options(arguments(*given), environment or {}, NAMES)


def shop() -> DataClassification:
    document = {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "DataClassification",
        "metadata": {"name": "shop", "namespace": "shop"},
        "spec": {
            "database": {"hosts": ["pg.shop.svc"], "port": 5433, "name": "shop"},
            "columns": [{"table": "public.t", "column": "c", "class": "pii"}],
        },
    }
    return DataClassification.model_validate_json(json.dumps(document))


def test_upstream_is_the_classification_s_unless_given():
    made = options().database("shop/shop", shop(), "shop")
    assert (made.upstream, made.database_name, made.catalog_dsn) == (
        "pg.shop.svc:5433",
        "shop",
        None,
    )
    made = options("--upstream", "localhost:1").database("shop/shop", shop(), "shop")
    assert made.upstream == "localhost:1"
    made = options("--upstream", "x:1", "--upstream", "shop=y:2").database(
        "shop/shop", shop(), "shop"
    )
    assert made.upstream == "y:2"


def test_listeners_are_named_after_their_database():
    made = options(
        "--listen", "127.0.0.1:1", "--listen", "shop=[::1]:2", "--listen", "crm/main=unix:/s=x"
    )
    assert [(one.name, one.address) for one in made.listening("shop")] == [
        ("", "127.0.0.1:1"),
        ("shop/shop", "[::1]:2"),
        ("crm/main", "unix:/s=x"),
    ]


def test_catalog_dsn_comes_from_a_file_or_the_environment(tmp_path: Path):
    file = tmp_path / "dsn"
    file.write_text("postgresql://c:secret@h/shop\n")
    made = options("--catalog", f"shop={file}").database("shop/shop", shop(), "shop")
    assert made.catalog_dsn == "postgresql://c:secret@h/shop"
    assert "secret" not in repr(made)
    environment = {"SLUICE_CATALOG_DSN": "any", "SLUICE_CATALOG_DSN_SHOP": "one"}
    assert (
        options(environment=environment).database("shop/shop", shop(), "shop").catalog_dsn == "one"
    )
    assert options(environment={"SLUICE_CATALOG_DSN": "any"}).catalog_dsns == {"": "any"}


@pytest.mark.parametrize(
    "value", ["postgresql://u:p@h/d", "shop=postgresql://u:p@h/d", "host=h password=p"]
)
def test_password_on_the_command_line_is_refused(value):
    with pytest.raises(UsageError, match="file that holds the DSN"):
        options("--catalog", value)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["--catalog", "/nowhere/dsn"], "cannot be read"),
        (["--listen", "6432"], "ADDR:PORT"),
        (["--listen", "127.0.0.1:99999"], "ADDR:PORT"),
        (["--listen", "unix:"], "path is missing"),
        (["--listen", "shop="], "nothing stands"),
        (["--upstream", "db"], "ADDR:PORT"),
        (["--upstream", "a:1", "--upstream", "b:2"], "given twice"),
    ],
)
def test_malformed_options_are_named(given, reason):
    with pytest.raises(UsageError, match=reason):
        options(*given)


def test_option_for_a_database_that_nobody_classified_is_refused():
    with pytest.raises(
        UsageError, match=r"--listen crm=…: there is no DataClassification.*crm/main"
    ):
        options("--listen", "crm=127.0.0.1:1").check(NAMES, "shop")
    options("--listen", "crm/main=127.0.0.1:1").check(NAMES, "shop")


def test_mistyped_environment_variable_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="SLUICE_CATALOG_DNS; did you mean SLUICE_CATALOG_DSN"):
        check_environment({"SLUICE_CATALOG_DNS": "x"})
    check_environment({"SLUICE_OPA": "x", "SLUICE_CATALOG_DSN_SHOP": "y", "SLUICE_DEV_X": "z"})


def test_times_and_addresses_are_read():
    assert [duration_s("-", text) for text in ("90", "90s", "15m", "24h", "1.5d")] == [
        90,
        90,
        900,
        86400,
        129600,
    ]
    for text in ("", "0", "-1", "1w", "h"):
        with pytest.raises(UsageError):
            duration_s("--drain", text)
    assert host_port("-", "[::1]:80") == ("::1", 80)
