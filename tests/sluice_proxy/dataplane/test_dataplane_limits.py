"""Limits of policies, and bounds on everything a client can send."""

from __future__ import annotations

import socket
import struct
import threading
import time

import psycopg
import pytest


def test_rows_beyond_the_limit_end_the_statement(stack):
    stack.brain.statement = {"rows_max": 10}
    with stack.connect() as connection:
        for query in ("SELECT generate_series(1, 11)", "SELECT generate_series(1, 3000000)"):
            with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="limit of 10 rows"):
                connection.execute(query)
            assert len(connection.execute("SELECT generate_series(1, 10)").fetchall()) == 10


def test_rows_beyond_the_limit_are_not_forwarded(stack, open_wire, wire):
    stack.brain.statement = {"rows_max": 3}
    client = open_wire(stack.host, stack.port)
    client.send(wire.query("SELECT generate_series(1, 100000)"))
    assert [tag for tag, _ in client.until("Z")] == ["T", "D", "D", "D", "E", "Z"]


def test_rows_are_counted_over_all_executes_of_a_portal(stack, open_wire, wire):
    stack.brain.statement = {"rows_max": 3}
    client = open_wire(stack.host, stack.port)
    client.send(wire.parse("SELECT generate_series(1, 9)") + wire.bind())
    client.send(wire.execute(rows=2) + wire.execute(rows=2) + wire.sync())
    assert [tag for tag, _ in client.until("Z")] == ["1", "2", "D", "D", "s", "D", "E", "Z"]


def test_row_limit_fails_the_transaction(stack):
    with stack.connect() as connection:
        connection.execute("BEGIN")
        stack.brain.statement = {"rows_max": 3}
        with pytest.raises(psycopg.errors.ProgramLimitExceeded):
            connection.execute("SELECT generate_series(1, 4)")
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        connection.execute("ROLLBACK")


def test_copy_out_is_limited_too(stack):
    stack.brain.statement = {"rows_max": 5}
    with (
        stack.connect() as connection,
        pytest.raises(psycopg.errors.ProgramLimitExceeded),
        connection.cursor().copy("COPY (SELECT generate_series(1, 50)) TO STDOUT") as copy,
    ):
        list(copy)


def test_time_limit_ends_the_statement(stack):
    stack.brain.statement = {"seconds_max": 0.2}
    with stack.connect() as connection:
        started = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled, match=r"limit of 0\.2 seconds"):
            connection.execute("SELECT pg_sleep(20)")
        assert time.monotonic() - started < 5
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_client_may_cancel_its_own_statement(stack):
    with stack.connect() as connection:
        timer = threading.Timer(0.2, connection.cancel)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled, match="user request"):
            connection.execute("SELECT pg_sleep(20)")
        timer.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_statement_cancelled_while_it_is_judged_never_runs(stack):
    asked = threading.Event()

    def slowly(text: str) -> None:
        if "nextval" in text:
            asked.set()
            time.sleep(2)

    with stack.connect(autocommit=True) as connection:
        connection.execute("CREATE TEMP SEQUENCE drawn")
        stack.brain.deny = slowly
        canceller = threading.Thread(target=lambda: asked.wait(10) and connection.cancel())
        canceller.start()
        with pytest.raises(psycopg.errors.QueryCanceled, match="due to user request"):
            connection.execute("SELECT nextval('drawn')")
        canceller.join()
        stack.brain.deny = lambda _text: None
        assert connection.execute("SELECT nextval('drawn'), 1").fetchone() == (1, 1)


def test_wrong_cancel_key_cancels_nothing(stack, open_wire, wire, clear_role):
    client = open_wire(stack.host, stack.port, login=False)
    keys = [body for tag, body in client.login(*clear_role, "postgres") if tag == "K"]
    client.send(wire.query("SELECT 1 FROM pg_sleep(0.4)"))
    pid, key = keys[0][:4], bytearray(keys[0][4:])
    key[0] ^= 1
    with socket.create_connection((stack.host, stack.port)) as other:
        other.sendall(struct.pack("!II", 12 + len(key), 80877102) + pid + key)
        assert other.recv(1) == b""
    assert [tag for tag, _ in client.until("Z")] == ["T", "D", "C", "Z"]


def test_too_long_statement_is_refused_and_the_session_goes_on(start_stack):
    stack = start_stack(statement_bytes_max=1000)
    with stack.connect() as connection:
        for arguments in ((), (1,)):
            with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="too long"):
                connection.execute(
                    "SELECT 1 /* " + "x" * 600_000 + "*/" + ", %s" * len(arguments), arguments
                )
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_too_long_frame_ends_the_session(start_stack, open_wire):
    stack = start_stack(frame_bytes_max=100_000)
    client = open_wire(stack.host, stack.port)
    client.send(b"d" + struct.pack("!I", 200_000))
    frames = client.until("Z")
    assert [tag for tag, _ in frames] == ["E"]
    assert b"C08P01\0" in frames[0][1]


def test_sessions_are_bounded(start_stack):
    stack = start_stack(sessions_max=1)
    with stack.connect(), pytest.raises(psycopg.OperationalError, match="too many clients"):
        stack.connect()
    for _ in range(50):
        try:
            stack.connect().close()
            break
        except psycopg.OperationalError:
            time.sleep(0.02)
    else:
        pytest.fail("the first session's place was not given back")


def test_nul_inside_a_statement_is_malformed(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(wire.message("Q", b"SELECT 1\0; SELECT 2\0"))
    frames = client.until("Z")
    assert [tag for tag, _ in frames] == ["E", "Z"]
    assert b"C08P01\0" in frames[0][1]
    client.send(wire.query("SELECT 1"))
    assert [tag for tag, _ in client.until("Z")] == ["T", "D", "C", "Z"]


def test_unknown_message_type_is_answered_by_the_server(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(wire.query("SELECT 1") + wire.message("z", b"rest"))
    frames = client.until("E")
    assert [tag for tag, _ in frames] == ["T", "D", "C", "Z", "E"]
    assert b"invalid frontend message type 122" in frames[-1][1]


def test_many_cached_templates_stay_bounded(start_stack):
    stack = start_stack(cache_entries_max=10)
    with stack.connect() as connection:
        for number in range(40):
            connection.execute(f"SELECT 1 AS c{number}")
    assert stack.plane.metrics()["cache_entries"] <= 10


def test_client_that_does_not_read_holds_back_the_server(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(wire.query("SELECT repeat('x', 1000000) FROM generate_series(1, 100)"))
    time.sleep(0.3)
    assert sum(len(body) for tag, body in client.until("Z") if tag == "D") > 100_000_000


@pytest.fixture
def limited(start_stack):
    """Only the statements that PREPARE and DECLARE hold have a limit; EXECUTE and FETCH name no table."""
    stack = start_stack()
    stack.brain.by_name({"rows_max": 3}, {})
    return stack


def test_execute_has_the_limits_of_what_was_prepared(limited, open_wire, wire):
    with limited.connect() as connection:
        connection.execute("PREPARE p(int) AS SELECT generate_series(1, $1)")
        assert len(connection.execute("EXECUTE p(3)").fetchall()) == 3
        with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="limit of 3 rows"):
            connection.execute("EXECUTE p(4)")
    client = open_wire(limited.host, limited.port)
    client.send(wire.query("PREPARE p AS SELECT generate_series(1, 4)"))
    client.until("Z")
    client.send(wire.bind("p") + wire.execute() + wire.sync())
    assert [tag for tag, _ in client.until("Z")] == ["2", "D", "D", "D", "E", "Z"]


def test_rows_of_a_cursor_are_counted_over_all_its_fetches(limited, open_wire, wire):
    with limited.connect(autocommit=False) as connection:
        connection.execute("DECLARE c CURSOR FOR SELECT generate_series(1, 9)")
        assert len(connection.execute("FETCH 2 FROM c").fetchall()) == 2
        with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="limit of 3 rows"):
            connection.execute("FETCH 2 FROM c")
    client = open_wire(limited.host, limited.port)
    client.send(
        wire.query("BEGIN") + wire.query("DECLARE c CURSOR FOR SELECT generate_series(1, 9)")
    )
    client.until("Z")
    client.until("Z")
    client.send(wire.execute("c", 2) + wire.execute("c", 2) + wire.sync())
    assert [tag for tag, _ in client.until("Z")] == ["D", "D", "s", "D", "E", "Z"]


def test_cursors_beyond_those_that_are_remembered_are_refused(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(wire.query("BEGIN; DECLARE k CURSOR FOR SELECT 1"))
    client.until("Z")
    for first in range(0, 10_000, 500):
        names = range(first, first + 500)
        client.send(wire.query(";".join(f"DECLARE c{name} CURSOR FOR SELECT 1" for name in names)))
        client.until("Z")
    client.send(wire.execute("k") + wire.sync())
    assert [tag for tag, _ in client.until("Z")] == ["E", "Z"]
