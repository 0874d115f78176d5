"""Hazards 7 to 10: what statistics, plans, locks, keys and places tell, and that it is not told.

The numbers are those of the sections in the notes on what rewriting must survive.
"""

from __future__ import annotations

from typing import Any

import pytest

from sluice_proxy.facts import read_facts
from sluice_proxy.reports import ClientError

DEAR = " OPERATOR(pg_catalog.+) 0" * 8
USERS = f"(SELECT * FROM public.users s WHERE (s.tenant{DEAR}) OPERATOR(pg_catalog.=) 1) users"
"""What one would splice in: a filtered sub-select, which PostgreSQL flattens."""

STATISTICS = """
SELECT reltuples FROM pg_class WHERE oid = 'public.users'::regclass
SELECT n_live_tup FROM pg_stat_user_tables WHERE relname = 'users'
SELECT * FROM pg_stat_user_tables WHERE coalesce(n_live_tup, 0) > 0 OR seq_scan IS NOT NULL
SELECT idx_tup_fetch, relname FROM pg_stat_xact_user_tables ORDER BY idx_tup_fetch, relname
SELECT count(heap_blks_read), sum(idx_blks_hit) FROM pg_statio_user_tables
SELECT tup_fetched, datname FROM pg_stat_database
SELECT null_frac, n_distinct FROM pg_stats WHERE tablename = 'users' AND attname IN ('email', 'name')
SELECT stadistinct FROM pg_statistic WHERE starelid = 'public.users'::regclass
SELECT pg_stat_get_live_tuples('public.users'::regclass)
SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()
SELECT statement FROM pg_prepared_statements
SELECT tuple, page, objid, transactionid FROM pg_locks WHERE coalesce(tuple, 0) > 0 OR pid <> pg_backend_pid()
SELECT pg_relation_size('users'), pg_total_relation_size('users'), pg_indexes_size('users'::regclass)
SELECT pg_current_snapshot()
SELECT pg_current_wal_lsn()
EXPLAIN SELECT * FROM users
EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) SELECT count(*) FROM users
"""


@pytest.mark.parametrize("sql", STATISTICS.strip().splitlines())
def test_7_statistics_plans_and_locks_tell_nothing(sessions: list[Any], sql: str) -> None:
    answers = [each.ask(sql) for each in sessions[:2]]
    if answers[0].refused is None:
        assert answers[0].rows == answers[1].rows
        assert "sluice" not in str(answers[0].rows)
    assert answers[0].refused == answers[1].refused


def test_7_governed_relations_have_no_size(sessions: list[Any]) -> None:
    sql = (
        "SELECT pg_relation_size('users'), pg_table_size('users'::regclass), pg_indexes_size('users'), "
        "pg_total_relation_size('users_pkey'), pg_size_pretty(pg_relation_size('users', 'fsm')), "
        "pg_relation_size(NULL::regclass) IS NULL, pg_relation_size('pg_class') > 0"
    )
    nothing = ["[b'0', b'0', b'0', b'0', b'0 bytes', b't', b't']"]
    assert [str(row) for row in sessions[0].raw(sql).rows] != nothing
    assert [str(row) for row in sessions[0].ask(sql).rows] == nothing


def test_7_statistics_tell_of_hidden_rows_on_plain_postgresql(sessions: list[Any]) -> None:
    sql = "SELECT reltuples FROM pg_class WHERE oid = 'public.users'::regclass"
    assert sessions[0].raw(sql).rows != sessions[1].raw(sql).rows
    with sessions[0].connection.transaction():
        counted = "SELECT coalesce(pg_stat_get_xact_tuples_fetched('users_pkey'::regclass), 0)"
        before = sessions[0].connection.execute(counted).fetchone()
        sessions[0].connection.execute("SET LOCAL enable_seqscan = off")
        sessions[0].connection.execute(f"SELECT id FROM {USERS} WHERE id = 101")
        assert sessions[0].connection.execute(counted).fetchone() >= before


def test_7_current_query_is_the_clients(sessions: list[Any]) -> None:
    sql = "SELECT current_query(), count(*) FROM users"
    naive = f"SELECT current_query(), count(*) FROM {USERS}"
    assert "tenant" in str(sessions[0].raw(naive).rows)
    assert sessions[0].ask(sql).rows == (f"[{sql.encode()!r}, b'20']",)


@pytest.mark.parametrize(
    "setting",
    [
        "trace_sort = on",
        "client_min_messages = log",
        "debug_print_plan = on",
        "log_statement = 'all'",
    ],
)
def test_7_settings_that_tell_of_plans_are_refused(sessions: list[Any], setting: str) -> None:
    with pytest.raises(ClientError):
        read_facts(f"SET {setting}".encode(), sessions[0].context(), simple=True)


@pytest.mark.parametrize(
    ("sql", "oracle"),
    [
        (
            "INSERT INTO users (id, name, email) VALUES (800, 'v', 'canary1@one.example') ON CONFLICT DO NOTHING",
            "keys",
        ),
        ("INSERT INTO users (id, name) VALUES (107, 'v') ON CONFLICT (id) DO NOTHING", "keys"),
        ("INSERT INTO users (id, name) VALUES (107, 'v')", "keys"),
        ("UPDATE users SET bonus = 60000 WHERE id = 1", "rowValues"),
        (
            "INSERT INTO users (id, name) VALUES (1, 'user1') ON CONFLICT (id) DO UPDATE SET bonus = 60000",
            "rowValues",
        ),
        (
            "MERGE INTO users u USING tree t ON t.id = u.id AND t.id = 1 WHEN MATCHED THEN UPDATE SET bonus = 60000",
            "rowValues",
        ),
    ],
)
def test_8_write_that_tells_of_hidden_values_is_called_an_oracle(
    sessions: list[Any], sql: str, oracle: str
) -> None:
    plain = [each.raw(sql + " RETURNING 1" * ("MERGE" not in sql)) for each in sessions[:2]]
    assert (plain[0].rows, plain[0].sqlstate) != (plain[1].rows, plain[1].sqlstate)
    (facts,) = read_facts(sql.encode(), sessions[0].context(), simple=True)
    assert oracle in facts.write_oracles  # Which a policy accepts or denies.


def test_9_views_show_no_row_that_their_table_hides(sessions: list[Any]) -> None:
    sql = "SELECT count(*) FROM contacts"
    assert sessions[0].raw(sql).rows != sessions[1].raw(sql).rows
    assert sessions[0].ask(sql).rows == sessions[1].ask(sql).rows == ("[b'20']",)


@pytest.mark.parametrize(
    "sql", ["SELECT ctid FROM users", "SELECT id FROM users TABLESAMPLE system (50)"]
)
def test_10_physical_places_are_not_shown(sessions: list[Any], sql: str) -> None:
    with pytest.raises(ClientError):
        read_facts(sql.encode(), sessions[0].context(), simple=True)
