"""Which database a client means, and what it may bring along."""

from __future__ import annotations

import pytest

from sluice_proxy.admission import ANY_DATABASE, check_startup, choose_database, parse_options
from sluice_proxy.databases import Database
from sluice_proxy.decisions import Level
from sluice_proxy.reports import ClientError

SHOP = Database(name="shop/shop", database_name="shop", upstream="db:5432")
OTHER = Database(name="crm/main", database_name="crm", upstream="db:5432")
TWIN = Database(name="test/shop", database_name="shop", upstream="db2:5432")


def test_client_s_name_chooses_the_database():
    assert choose_database(ANY_DATABASE, "crm", [SHOP, OTHER]) is OTHER


def test_listener_of_one_database_serves_no_other():
    assert choose_database("shop/shop", "shop", [SHOP, TWIN]) is SHOP
    with pytest.raises(ClientError, match='"crm" is not classified'):
        choose_database("shop/shop", "crm", [SHOP, OTHER])


def test_database_that_nobody_classified_is_refused_with_the_way_out():
    with pytest.raises(ClientError, match='"postgres" is not classified') as refused:
        choose_database(ANY_DATABASE, "postgres", [SHOP])
    assert "DataClassification" in (refused.value.report.hint or "")
    assert "shop/shop" in (refused.value.report.detail or "")


def test_name_that_two_classifications_share_needs_a_listener_of_its_own():
    with pytest.raises(ClientError, match="more than once") as refused:
        choose_database(ANY_DATABASE, "shop", [SHOP, TWIN])
    assert "--listen" in (refused.value.report.hint or "")


@pytest.mark.parametrize(
    "parameters",
    [
        [("client_encoding", "UTF8"), ("application_name", "psql"), ("extra_float_digits", "3")],
        [("client_encoding", "'utf-8'")],
        [("TimeZone", "UTC"), ("DateStyle", "ISO")],
        [("options", "-c search_path=public -c statement_timeout=5000")],
        [("options", r"-csearch_path=a\ b,public --work_mem=4MB")],
        [("app.tenant", "7"), ("_pq_.command_tag", "on")],
    ],
)
def test_ordinary_parameters_are_allowed(parameters):
    check_startup([("user", "a"), ("database", "b"), *parameters], Level.RESTRICTED)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ([("session_preload_libraries", "x")], "session_preload_libraries"),
        ([("standard_conforming_strings", "off")], "standard_conforming_strings"),
        ([("client_encoding", "SJIS")], "client_encoding"),
        ([("client_min_messages", "debug5")], "client_min_messages"),
        ([("role", "postgres")], "role"),
        ([("options", "-c role=postgres")], "role"),
        ([("options", "-crole=postgres")], "role"),
        ([("options", "--role=postgres")], "role"),
        ([("options", r"-c\ role=postgres")], "role"),
        ([("options", "-c debug-print-plan=on")], "debug_print_plan"),
        ([("options", "-c app.x=1 -d 5")], "-d"),
        ([("auto_explain.log_min_duration", "0")], "auto_explain"),
    ],
)
def test_parameters_that_change_reading_or_reveal_are_refused_by_name(parameters, name):
    for level in (Level.GUARDED, Level.RESTRICTED):
        with pytest.raises(ClientError, match=name):
            check_startup(parameters, level)
    check_startup(parameters, Level.OPEN)


@pytest.mark.parametrize("value", ["true", "database", "on"])
def test_replication_is_refused_at_every_level(value):
    with pytest.raises(ClientError, match="replication"):
        check_startup([("replication", value)], Level.OPEN)


def test_options_are_split_as_postgresql_splits_them():
    assert parse_options(r"-c a.b=x\ y\\z  --c-d=e=f") == [("a.b", "x y\\z"), ("c_d", "e=f")]
