"""The probe against real servers."""

from __future__ import annotations

import psycopg
import pytest

from sluice_proxy.probe import PROBE_SQL, parse_probe
from sluice_proxy.reports import ClientError
from sluice_proxy.session_refusals import check_reported_user


def probe(connection: psycopg.Connection):
    with psycopg.RawCursor(connection) as cursor:
        cursor.execute(PROBE_SQL)
        row = cursor.pgresult
        assert row is not None
        return parse_probe([row.get_value(0, column) for column in range(row.nfields)])


def test_every_server_answers(each_postgres):
    with psycopg.connect(each_postgres.admin_dsn) as connection:
        state = probe(connection)
        assert state.server_major == connection.info.server_version // 10000
        assert state.session_user == state.current_user == connection.info.user
        assert state.search_path == ("pg_catalog", "public")
        assert (dict(state.temporary), state.holdable_cursors) == ({}, 0)


def test_search_path_and_temporary_tables_are_seen(database_dsn):
    with psycopg.connect(database_dsn) as connection:
        connection.execute("CREATE SCHEMA arch")
        connection.execute("SET search_path = arch, public, nowhere")
        connection.execute("CREATE TEMP TABLE notes (id int, gone int, body text)")
        connection.execute("ALTER TABLE notes DROP COLUMN gone")
        connection.execute("CREATE TEMP VIEW seen AS SELECT body FROM notes")
        state = probe(connection)
        assert state.search_path == ("pg_temp", "pg_catalog", "arch", "public")
        assert state.temporary["notes"].columns == ("id", "body")
        connection.execute("CREATE TABLE lasting (id int, mark text)")
        connection.execute("CREATE TEMP VIEW mixed AS SELECT mark FROM lasting, seen")
        state = probe(connection)
        oid = connection.execute("SELECT 'lasting'::regclass::oid::int8").fetchone()
        assert oid is not None
        assert state.temporary["seen"].kind == "v"
        assert state.temporary["seen"].reads_own == {"notes"}
        assert state.temporary["mixed"].reads_own == {"seen"}
        assert state.temporary["mixed"].reads == {(oid[0], 2)}


def test_tables_of_the_open_transaction_are_seen_and_no_others(each_postgres):
    dsn = each_postgres.create_database("probe")
    with psycopg.connect(dsn) as connection, psycopg.connect(dsn, autocommit=True) as other:
        other.execute("CREATE TABLE before (id int)")
        other.execute("CREATE TABLE parent (id int) PARTITION BY LIST (id)")
        other.execute("CREATE TABLE held PARTITION OF parent FOR VALUES IN (7)")
        assert probe(connection).new == ()
        connection.execute("CREATE TABLE made (id serial, gone int, body text)")
        connection.execute("ALTER TABLE made DROP COLUMN gone")
        connection.execute("SAVEPOINT s")
        connection.execute("CREATE TABLE also ()")
        connection.execute("CREATE TEMP TABLE own (id int)")
        connection.execute("CREATE TABLE part PARTITION OF parent FOR VALUES IN (1)")
        connection.execute("CREATE TABLE child () INHERITS (before)")
        found = {
            each.name: (each.schema, each.kind, each.columns) for each in probe(connection).new
        }
        assert found["made"] == ("public", "r", ("id", "body"))
        changed = {"before"}  # It has a child now; parent had one before.
        assert found.keys() - changed == {"made", "made_id_seq", "also", "part", "child"}
        connection.execute("ROLLBACK TO s")
        assert {each.name for each in probe(connection).new} == {"made", "made_id_seq"}
        connection.commit()
        assert probe(connection).new == ()


def test_holdable_cursors_are_counted(database_dsn):
    with psycopg.connect(database_dsn) as connection:
        connection.execute("DECLARE c CURSOR WITH HOLD FOR SELECT 1")
        connection.execute("DECLARE d CURSOR FOR SELECT 1")
        connection.execute("CLOSE d")
        assert probe(connection).holdable_cursors == 1


def test_set_role_is_seen(new_database):
    dsn = new_database("")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS probe_other")
        connection.execute("CREATE ROLE probe_other")
        connection.execute("SET ROLE probe_other")
        state = probe(connection)
        assert state.current_user == "probe_other"
        assert state.session_user != "probe_other"
        connection.execute("RESET ROLE")
        connection.execute("DROP ROLE probe_other")


def test_functions_and_operators_of_the_session_do_not_answer(database_dsn):
    with psycopg.connect(database_dsn) as connection:
        connection.execute("CREATE SCHEMA evil")
        connection.execute(
            "CREATE FUNCTION evil.current_schemas(boolean) RETURNS name[] LANGUAGE sql"
            " AS $$SELECT '{lies}'::name[]$$"
        )
        connection.execute(
            "CREATE FUNCTION evil.lie(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT true'"
        )
        connection.execute(
            "CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.lie)"
        )
        connection.execute("SET search_path = evil, pg_catalog")
        state = probe(connection)
        assert state.search_path == ("evil", "pg_catalog")
        assert dict(state.temporary) == {}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("standard_conforming_strings", "off"),
        ("client_encoding", "LATIN1"),
        ("transform_null_equals", "on"),
    ],
)
def test_setting_that_changes_how_statements_are_read_is_refused(database_dsn, setting, value):
    with psycopg.connect(database_dsn) as connection:
        connection.execute(f"SET {setting} = {value}")
        with pytest.raises(ClientError, match=setting):
            probe(connection)


@pytest.mark.parametrize("row", [(), (None,) * 10, (b"x",) * 10, (b"\xff",) * 10])
def test_row_that_is_not_the_probe_s_is_refused(row):
    with pytest.raises(ClientError, match=r"cannot be read|must be on"):
        parse_probe(row)


def test_session_that_the_server_takes_for_another_role_is_refused():
    """PostgreSQL cuts the names of roles at 63 bytes; sessions that are not asked report theirs."""
    role = "r" * 63
    check_reported_user([("session_authorization", role), ("is_superuser", "off")], role)
    check_reported_user([], role)
    with pytest.raises(ClientError, match="another role"):
        check_reported_user([("session_authorization", role)], role + "r")


def test_schemas_that_are_named_and_not_searched_are_told(database_dsn):
    with psycopg.connect(database_dsn) as connection:
        connection.execute('SET search_path = "Absent ""x""", "a,b", public, "$user", Nowhere')
        user = connection.info.user
        assert probe(connection).unsearched == ('Absent "x"', "a,b", user, "nowhere")
        connection.execute("SELECT set_config('search_path', 'Upper , public', false)")
        assert probe(connection).unsearched == ("upper",)
