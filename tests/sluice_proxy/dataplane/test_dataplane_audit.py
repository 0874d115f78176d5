"""Audit: one begin before the first result byte and one end for each execution; refusal when it cannot be written."""

from __future__ import annotations

import shutil
import time

import psycopg
import pytest

from sluice_cli.audit import verify
from sluice_proxy._native import ErrorFields


def pairs(stack):
    """(begin, end) of every execution, in the order of their begins; ends may be missing."""
    ends = {record["event"]: record for record in stack.records("end")}
    return [(begin, ends.get(begin["seq"])) for begin in stack.records("begin")]


def test_session_is_recorded_once(stack):
    with stack.connect() as connection:
        connection.execute("SELECT 1")
    (record,) = stack.records("session")
    assert record["session"] == 1
    assert record["identity"] == {"role": "postgres"}
    assert record["upstream"] == "shop"
    assert record["peer"].startswith("127.0.0.1:")


def test_each_execution_has_a_begin_and_an_end(stack):
    with stack.connect() as connection:
        for _ in range(3):
            connection.execute("SELECT generate_series(1, 4), %s::text", ("secret",))
    found = pairs(stack)
    assert [begin["statement"]["kind"] for begin, _ in found] == ["select"] * 3
    assert [begin["template"] for begin, _ in found] == [
        "SELECT generate_series(?, ?), $1::text"
    ] * 3
    assert [end["rows"] for _, end in found] == [4] * 3
    assert all(end["bytes"] > 0 and end["duration_us"] >= 0 for _, end in found)
    assert all("sqlstate" not in end for _, end in found)
    assert "secret" not in str(found)


def test_each_statement_of_a_query_is_an_execution(stack):
    with stack.connect() as connection:
        connection.execute("SELECT 1; SELECT 2 AS b; ; SELECT 3 AS c")
    templates = [begin["template"] for begin, _ in pairs(stack)]
    assert templates == ["SELECT ?", "SELECT ? AS b", "SELECT ? AS c"]


def test_failed_statement_ends_with_its_sqlstate(stack):
    with stack.connect() as connection, pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("SELECT 1/0")
    ((_, end),) = pairs(stack)
    assert end["sqlstate"] == "22012"


def test_denied_statement_is_recorded_as_denied(stack):
    stack.brain.deny = lambda _text: ErrorFields(sqlstate="42501", message="no")
    with stack.connect() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT 'hidden'")
    ((begin, end),) = pairs(stack)
    assert begin["verdict"] == "deny"
    assert (end["sqlstate"], end["denied"]) == ("42501", True)
    assert "hidden" not in str(begin)


def test_suspended_portal_is_one_execution(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(wire.parse("SELECT generate_series(1, 5)") + wire.bind())
    client.send(wire.execute(rows=2) + wire.execute(rows=2) + wire.execute() + wire.sync())
    client.until("Z")
    ((_, end),) = pairs(stack)
    assert end["rows"] == 5


def test_portal_left_suspended_ends_with_its_transaction(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(wire.parse("SELECT generate_series(1, 5)") + wire.bind())
    client.send(wire.execute(rows=2) + wire.sync())
    client.until("Z")
    ((_, end),) = pairs(stack)
    assert end["rows"] == 2


def test_statement_whose_client_went_away_has_an_end(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(wire.query("SELECT repeat('x', 100000) FROM generate_series(1, 3000)"))
    client.frame()
    client.socket.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: reset
    client.close()
    deadline = time.monotonic() + 10
    while not (found := stack.records("end")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert found[0]["sqlstate"] == "08006"


def test_skipped_statements_are_not_recorded(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(
        wire.parse("SELECT 1/n FROM generate_series(0, 0) n") + wire.bind() + wire.execute()
    )
    client.send(wire.parse("SELECT 2") + wire.bind() + wire.execute() + wire.sync())
    client.until("Z")
    assert len(pairs(stack)) == 1


def test_statement_that_is_only_bound_is_recorded(stack, open_wire, wire):
    with stack.connect() as connection:
        connection.execute("CREATE TABLE bound (id int)")
        connection.execute(
            "CREATE FUNCTION put() RETURNS int VOLATILE LANGUAGE sql AS 'INSERT INTO bound VALUES (1) RETURNING id'"
        )
        connection.execute(
            "CREATE FUNCTION said_to_be_immutable() RETURNS int IMMUTABLE LANGUAGE plpgsql "
            "AS 'BEGIN RETURN put(); END'"
        )
        connection.commit()
    before = len(pairs(stack))
    client = open_wire(stack.host, stack.port)
    client.send(wire.parse("SELECT said_to_be_immutable()") + wire.bind() + wire.sync())
    client.until("Z")
    ((begin, end),) = pairs(stack)[before:]
    assert begin["template"] == "SELECT said_to_be_immutable()"
    assert (end["rows"], "sqlstate" in end) == (0, False)
    with stack.connect() as connection:  # The hazard: it was run by planning it.
        assert connection.execute("SELECT count(*) FROM bound").fetchone() == (1,)


def test_bind_that_fails_is_recorded_and_an_executed_one_once(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(wire.parse("SELECT 1/0") + wire.bind() + wire.execute() + wire.sync())
    client.until("Z")
    ((_, end),) = pairs(stack)
    assert end["sqlstate"] == "22012"
    client.send(wire.parse("SELECT 2") + wire.bind() + wire.execute())
    client.send(wire.parse("SELECT 3") + wire.bind() + wire.parse("no such") + wire.sync())
    client.until("Z")
    client.send(wire.sync())
    client.until("Z")
    assert [begin["template"] for begin, _ in pairs(stack)[1:]] == ["SELECT ?", "SELECT ?"]


def test_open_sessions_are_recorded_too(start_stack):
    stack = start_stack(brain={"level": 0, "probe": None})
    with stack.connect() as connection:
        connection.execute("SELECT 1")
    assert len(pairs(stack)) == 1


def test_chain_of_a_stopped_plane_verifies(stack):
    with stack.connect() as connection:
        connection.execute("SELECT 1")
    stack.plane.stop()
    report = verify(stack.spool)
    assert not report.problems
    assert stack.records("close")


@pytest.mark.parametrize("governed", [True, False])
def test_unwritable_spool_refuses_governed_statements_alone(start_stack, governed):
    stack = start_stack(brain={"statement": {"governed": governed}})
    with stack.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        shutil.rmtree(stack.spool)
        stack.spool.write_text("in the way")
        time.sleep(0.3)
        assert not stack.plane.spool_status().writable
        if not governed:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            with pytest.raises(OSError, match=r"."):
                stack.plane.stop()
            return
        with pytest.raises(psycopg.errors.CannotConnectNow, match="audit spool"):
            connection.execute("SELECT 1")
        stack.spool.unlink()
        stack.spool.mkdir()
        time.sleep(0.4)
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_portal_bound_behind_a_sync_is_recorded_as_what_it_runs(stack, open_wire, wire):
    """The answer to the Sync comes when the portal is filed already; it ends older ones only."""
    client = open_wire(stack.host, stack.port)
    first = wire.parse("SELECT 1") + wire.bind() + wire.execute() + wire.sync()
    client.send(first + wire.parse("SELECT 2 AS b") + wire.bind(portal="q") + wire.flush())
    client.until("Z")
    client.until("2")
    client.send(wire.execute("q") + wire.sync())
    client.until("Z")
    assert [begin["template"] for begin, _ in pairs(stack)] == ["SELECT ?", "SELECT ? AS b"]


def test_cursor_is_recorded_as_the_statement_that_declared_it(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(wire.query("BEGIN; DECLARE c CURSOR FOR SELECT 42"))
    client.until("Z")
    client.send(wire.execute("c") + wire.sync())
    client.until("Z")
    last, _ = pairs(stack)[-1]
    assert last["template"] == last["runs_template"] == "DECLARE c CURSOR FOR SELECT ?"


@pytest.mark.parametrize("apart", [True, False])
def test_execute_and_fetch_say_what_they_run(stack, apart):
    texts = ["BEGIN", "PREPARE p AS SELECT 42", "EXECUTE p"]
    texts += ["DECLARE c CURSOR FOR SELECT 4, 2", "FETCH 1 FROM c"]
    with stack.connect() as connection:
        for text in texts if apart else [";".join(texts)]:
            connection.execute(text)
    runs = {begin["template"]: begin.get("runs_template") for begin, _ in pairs(stack)}
    assert runs["EXECUTE p"] == "PREPARE p AS SELECT ?"
    assert runs["FETCH ? FROM c"] == "DECLARE c CURSOR FOR SELECT ?, ?"
    assert not runs["PREPARE p AS SELECT ?"]
    kinds = [begin["runs"]["kind"] for begin, _ in pairs(stack) if "runs" in begin]
    assert kinds == ["prepare", "declare"]


def test_what_was_sent_when_the_client_went_away_is_recorded(stack, open_wire, wire):
    """The server does what it has received, whoever is there to hear of it."""
    with psycopg.connect(stack.server.dsn(dbname="postgres"), autocommit=True) as admin:
        admin.execute("CREATE TABLE left_behind (n int)")
        try:
            client = open_wire(stack.host, stack.port)
            rows = wire.query("SELECT repeat('x', 1000) FROM generate_series(1, 400)")
            written = wire.query("INSERT INTO left_behind VALUES (1)")
            client.send(rows * 3 + wire.query("SELECT pg_sleep(0.5)") + written)
            time.sleep(0.2)
            client.socket.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: reset
            client.close()
            deadline = time.monotonic() + 10
            while not admin.execute("SELECT FROM left_behind").fetchall():
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            admin.execute("DROP TABLE left_behind")
    found = [(begin["statement"]["kind"], end) for begin, end in pairs(stack)]
    (end,) = [end for kind, end in found if kind == "insert"]
    assert end["sqlstate"] == "08006"


@pytest.mark.parametrize("text", ["EXECUTE p", "FETCH 1 FROM c"])
def test_unwritable_spool_refuses_what_runs_a_governed_statement_by_name(start_stack, text):
    stack = start_stack()
    stack.brain.by_name({"governed": True}, {"governed": False})
    with stack.connect(autocommit=False) as connection:
        connection.execute("PREPARE p AS SELECT 1")
        connection.execute("DECLARE c CURSOR FOR SELECT 1")
        shutil.rmtree(stack.spool)
        stack.spool.write_text("in the way")
        time.sleep(0.3)
        with pytest.raises(psycopg.errors.CannotConnectNow, match="audit spool"):
            connection.execute(text)
        connection.rollback()
        stack.spool.unlink()
        stack.spool.mkdir()
        time.sleep(0.4)
