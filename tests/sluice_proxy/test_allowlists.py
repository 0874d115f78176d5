"""The allow-lists against the servers they were generated from."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest

from sluice_dev.postgres import Server
from sluice_proxy import allowlists
from sluice_proxy.catalog.model import Function

_GENERATOR = Path(__file__).parents[2] / "tools" / "allowlists"

RUNS_SQL_OR_READS_RELATIONS = frozenset(
    {
        "currtid2",
        "cursor_to_xml",
        "database_to_xml",
        "lo_export",
        "lo_get",
        "lo_import",
        "lo_put",
        "loread",
        "lowrite",
        "pg_cancel_backend",
        "pg_current_snapshot",
        "pg_current_wal_lsn",
        "pg_cursor",
        "pg_event_trigger_ddl_commands",
        "pg_export_snapshot",
        "pg_get_publication_tables",
        "pg_lock_status",
        "pg_logical_slot_get_changes",
        "pg_ls_dir",
        "pg_mcv_list_items",
        "pg_notify",
        "pg_prepared_statement",
        "pg_promote",
        "pg_read_binary_file",
        "pg_read_file",
        "pg_reload_conf",
        "pg_stat_file",
        "pg_stat_get_activity",
        "pg_stat_get_xact_tuples_fetched",
        "pg_stat_reset",
        "pg_terminate_backend",
        "query_to_xml",
        "query_to_xml_and_xmlschema",
        "query_to_xmlschema",
        "satisfies_hash_partition",
        "schema_to_xml",
        "table_to_xml",
        "ts_rewrite",
        "ts_stat",
        "txid_current_snapshot",
    }
)

WHAT_APPLICATIONS_CALL = {
    "lower": "values",
    "count": "values",
    "sum": "values",
    "string_agg": "values",
    "row_number": "values",
    "to_char": "values",
    "date_trunc": "values",
    "jsonb_build_object": "values",
    "regexp_replace": "values",
    "now": "plain",
    "version": "plain",
    "current_database": "plain",
    "format_type": "plain",
    "pg_table_is_visible": "plain",
    "has_table_privilege": "plain",
    "pg_is_wal_replay_paused": "plain",
    "to_regclass": "plain",
    "pg_get_expr": "plain",
    "pg_get_viewdef": "definition",
    "pg_total_relation_size": "size",
    "nextval": "sequence",
    "set_config": "setting",
    "current_query": "query_text",
    "pg_advisory_lock": "advisory",
    "random": "volatile",
    "gen_random_uuid": "volatile",
}


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    sys.path.insert(0, str(_GENERATOR))
    spec = importlib.util.spec_from_file_location("allowlists_generate", _GENERATOR / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(_GENERATOR))
    sys.modules.pop("review", None)


async def test_committed_lists_equal_what_the_server_gives(
    each_postgres: Server, generator: Any
) -> None:
    fresh = await generator.collect(each_postgres.admin_dsn)
    text = resources.files(allowlists).joinpath(f"server_{fresh['major']}.json").read_text("utf-8")
    assert json.loads(text) == fresh


@pytest.mark.parametrize("major", allowlists.majors())
def test_what_runs_sql_or_reads_by_name_is_denied(major: int) -> None:
    known = allowlists.for_major(major)
    assert {
        name: known.function(name) for name in RUNS_SQL_OR_READS_RELATIONS if known.function(name)
    } == {}


@pytest.mark.parametrize("major", allowlists.majors())
def test_what_applications_call_is_allowed(major: int) -> None:
    known = allowlists.for_major(major)
    assert {name: known.function(name) for name in WHAT_APPLICATIONS_CALL} == WHAT_APPLICATIONS_CALL


def test_unlisted_major_is_refused_and_the_listed_are_named() -> None:
    with pytest.raises(
        allowlists.UnsupportedMajorError, match=r"PostgreSQL 12 .* 14, 15, 16, 17, 18"
    ):
        allowlists.for_major(12)


def test_no_function_takes_a_query_text_or_a_file_name(each_postgres: Server) -> None:
    """What is called values or plain has no argument by which PostgreSQL itself names a query, table or file."""
    known = allowlists.for_major(each_postgres.installation.major)
    with psycopg.connect(each_postgres.admin_dsn) as connection:
        rows = connection.execute(
            "SELECT DISTINCT proname, pg_get_function_arguments(oid) FROM pg_proc WHERE pronamespace = 11 "
            "AND proargnames && ARRAY['query', 'sqlquery', 'filename', 'tbl', 'cursor', 'select', 'statement']"
        ).fetchall()
    allowed = {name for name, _ in rows if known.function(name) in {"values", "plain"}}
    assert allowed == set()


def test_comparisons_never_raise_over_built_in_types(each_postgres: Server) -> None:
    """Tried on extremes of every pair of types that can be sorted or hashed."""
    samples = {
        "numeric": ["NaN", "Infinity", "-Infinity", "1e131000"],
        "float8": ["NaN", "Infinity", "-Infinity", "5e-324"],
        "float4": ["NaN", "Infinity", "1e-45"],
        "int8": ["-9223372036854775808", "9223372036854775807"],
        "int4": ["-2147483648", "2147483647"],
        "int2": ["-32768", "32767"],
        "date": ["-infinity", "infinity", "4713-11-24 BC", "5874897-12-31"],
        "timestamp": ["-infinity", "infinity", "4713-11-24 BC", "294276-12-31 23:59:59"],
        "timestamptz": [
            "-infinity",
            "infinity",
            "4713-11-24 00:00+00 BC",
            "294276-12-31 23:59:59+00",
        ],
        "text": ["", "\\", "("],
        "bpchar": ["", "\\"],
        "name": ["", "\\"],
        "jsonb": ["null", '{"a": [1e400]}'],
        "interval": ["178000000 years", "-178000000 years"],
        "uuid": ["00000000-0000-0000-0000-000000000000"],
        "bytea": ["", "\\xff"],
        "inet": ["0.0.0.0/0", "::1"],
        "timetz": ["24:00:00+15:59", "00:00:00-15:59"],
        "time": ["24:00:00"],
        "bit": ["", "1"],
        "varbit": ["", "1"],
        "money": ["-92233720368547758.08"],
        "oid": ["0", "4294967295"],
        "bool": ["t", "f"],
        "macaddr": ["ff:ff:ff:ff:ff:ff"],
        "pg_lsn": ["0/0", "FFFFFFFF/FFFFFFFF"],
        "tsvector": ["", "'a':1"],
        "tsquery": ["", "a"],
        "xid": ["0"],
        "tid": ["(0,0)"],
    }
    tried = 0
    with psycopg.connect(each_postgres.admin_dsn, autocommit=True) as connection:
        connection.execute("SET TimeZone = 'Pacific/Kiritimati'")
        operators = connection.execute(
            "SELECT o.oprname, l.typname, r.typname FROM pg_operator o JOIN pg_type l ON l.oid = o.oprleft "
            "JOIN pg_type r ON r.oid = o.oprright WHERE o.oprnamespace = 11 AND o.oprname = ANY (%s)",
            [sorted(allowlists.for_major(each_postgres.installation.major).total_operators)],
        ).fetchall()
        for operator, left, right in operators:
            pairs = [(a, b) for a in samples.get(left, []) for b in samples.get(right, [])]
            if not pairs:
                continue
            values = ", ".join("({}, {})".format(*(_quoted(v) for v in pair)) for pair in pairs)
            connection.execute(
                f"SELECT a::pg_catalog.{left} OPERATOR(pg_catalog.{operator}) b::pg_catalog.{right} "
                f"FROM (VALUES {values}) v(a, b)"
            )
            tried += 1
    assert tried > 200


def test_geometric_comparisons_raise_so_they_are_not_called_total(postgres: Server) -> None:
    with psycopg.connect(postgres.admin_dsn, autocommit=True) as connection:
        for text in (
            "SELECT a = a FROM (SELECT '(1e308,1e308),(-1e308,-1e308)'::box) v(a)",
            "SELECT a = a FROM (SELECT '<(0,0),1e308>'::circle) v(a)",
        ):
            with pytest.raises(psycopg.errors.NumericValueOutOfRange):
                connection.execute(text)


def _quoted(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def test_definitions_lose_their_literals_and_keep_the_rest(postgres: Server) -> None:
    with psycopg.connect(postgres.admin_dsn, autocommit=True) as connection:
        for definition, shown in (
            ("CHECK ((ssn <> 'x''y'::text))", "CHECK ((ssn <> '***'::text))"),
            (r"CHECK ((a = E'b\\''c'::text))", "CHECK ((a = '***'::text))"),
            ("nextval('s'::regclass)", "nextval('***'::regclass)"),
            ("lower(email)", "lower(email)"),
        ):
            call = allowlists.definition_sql(_quoted(definition))
            row = connection.execute(f"SELECT {call}").fetchone()
            assert row == (shown,)


def test_custom_settings_are_not_readable() -> None:
    known = allowlists.for_major(15)
    assert known.setting_readable("TimeZone")
    assert known.setting_readable("server_version")
    assert not known.setting_readable("app.mask_salt")
    assert not known.setting_readable("primary_conninfo")


def test_functions_of_extensions_are_allowed_only_where_they_compute() -> None:
    known = allowlists.for_major(15)
    for extension, name, category in (
        ("pg_trgm", "similarity", "values"),
        ("pgcrypto", "digest", "values"),
        ("hstore", "akeys", "values"),
        ("vector", "avg", "values"),
        ("tablefunc", "crosstab", None),
        ("tablefunc", "normal_rand", "values"),
        ("dblink", "dblink", None),
        ("xml2", "xpath_table", None),
        (None, "similarity", None),
    ):
        function = Function(1, "public", name, f"public.{name}(text)", 1, extension)
        assert known.extension_function(function) == category, (extension, name)


@pytest.mark.parametrize("major", allowlists.majors())
def test_catalogs_with_statistics_locks_or_secrets_are_denied(major: int) -> None:
    known = allowlists.for_major(major)
    denied = {name for name in known.relations if not known.relation_allowed(name)}
    for name in known.relations:
        if name.startswith(("pg_catalog.pg_stat_", "pg_catalog.pg_statio_", "pg_catalog.pg_stats")):
            counting = known.relation(name).shown is not None
            assert name in denied or counting or name == "pg_catalog.pg_stat_activity"
    assert {"pg_catalog.pg_stats", "pg_catalog.pg_statistic", "pg_catalog.pg_authid"} <= denied
    assert not known.relation_allowed("pg_catalog.pg_of_tomorrow")
    for name in (
        "pg_stat_user_functions",
        "pg_stat_xact_user_functions",
        "pg_stat_progress_vacuum",
    ):
        assert f"pg_catalog.{name}" in denied, "that it has a row tells something"


@pytest.mark.parametrize("major", allowlists.majors())
def test_statistics_of_relations_keep_names_and_no_counter(major: int) -> None:
    known = allowlists.for_major(major)
    for name in (
        "pg_stat_user_tables",
        "pg_statio_all_indexes",
        "pg_stat_xact_sys_tables",
        "pg_stat_database",
    ):
        access = known.relation(f"pg_catalog.{name}")
        assert not access.denied
        assert all(access.replaced(one) is None for one in access.shown or ())
        for counter in (
            "seq_scan",
            "idx_scan",
            "n_live_tup",
            "blks_hit",
            "stats_reset",
            "of_tomorrow",
        ):
            assert access.replaced(counter) == "null"
    for name in ("pg_class", "pg_attribute", "pg_type", "pg_index", "pg_constraint", "pg_settings"):
        assert known.relation_allowed(f"pg_catalog.{name}")
