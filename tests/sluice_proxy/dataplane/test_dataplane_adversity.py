"""Odd timing: bytes cut anywhere, floods, policy changes and dying servers in the middle of things."""

from __future__ import annotations

import struct
import threading
import time

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_dev.postgres import Server
from sluice_proxy._native import Plan, PlanRequest

QUIET = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def conversation(wire) -> bytes:
    return (
        wire.query("SELECT 1; SELECT repeat('x', 300)")
        + wire.query("SET application_name = 'cut'")
        + wire.parse("SELECT generate_series(1, 5)", "s") + wire.bind("s") + wire.execute(rows=2)
        + wire.execute() + wire.message("C", b"Ss\0") + wire.sync()
        + wire.query("COPY cut FROM STDIN") + wire.message("d", b"1\n2\n") + wire.message("c")
        + wire.query("SELECT count(*) FROM cut") + wire.parse("SELECT 1/0") + wire.bind()
        + wire.execute() + wire.sync() + wire.query("SELECT 'end'")
    )  # fmt: skip


@QUIET
@given(cuts=st.lists(st.integers(1, 60), min_size=1, max_size=60))
def test_any_cutting_of_the_stream_gives_the_same_answers(stack, open_wire, wire, cuts):
    answers = []
    for pieces in ([10_000], cuts):
        client = open_wire(stack.host, stack.port)
        client.send(wire.query("CREATE TEMP TABLE cut (n int)"))
        client.until("Z")
        data, position = conversation(wire), 0
        while data:
            size = pieces[position % len(pieces)]
            client.send(data[:size])
            data, position = data[size:], position + 1
        frames = []
        for _ in range(7):
            frames += client.until("Z")
        answers.append(frames)
        client.close()
    assert answers[0] == answers[1]


def test_no_statement_fails_while_policies_change(stack):
    stop = threading.Event()

    def change():
        number = 0
        while not stop.is_set():
            number += 1
            stack.brain.revision = f"r{number}"
            stack.plane.advance_epoch()
            time.sleep(0.001)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        with stack.connect(prepare_threshold=2) as connection:
            for number in range(300):
                assert connection.execute("SELECT %s::int", (number,)).fetchone() == (number,)
            with connection.pipeline():
                cursors = [connection.execute("SELECT %s::int", (n,)) for n in range(200)]
                assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(200)]
    finally:
        stop.set()
        thread.join()


def test_prepared_statement_whose_time_ran_out_is_judged_again(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)

    def answer(request):
        if not isinstance(request, PlanRequest):
            return None
        until = time.time_ns() + 200_000_000
        return Plan(
            statements=stack.brain.plan(request).statements, cache="exact", valid_until_ns=until
        )

    stack.brain.answer = answer
    client.send(wire.parse("SELECT 1", "s") + wire.bind("s") + wire.execute() + wire.sync())
    assert [tag for tag, _ in client.until("Z")] == ["1", "2", "D", "C", "Z"]
    time.sleep(0.3)
    client.send(wire.bind("s") + wire.execute() + wire.sync())
    assert [tag for tag, _ in client.until("Z")] == ["2", "D", "C", "Z"]
    assert stack.brain.plans().count(b"SELECT 1") == 2


def test_flood_of_pipelined_messages_is_answered(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(wire.parse("SELECT 1", "s") + wire.sync())
    client.until("Z")
    count = 30_000
    data = (wire.bind("s") + wire.execute()) * count + wire.sync()
    sender = threading.Thread(target=client.send, args=(data,))
    sender.start()
    frames = client.until("Z")
    sender.join()
    assert sum(tag == "C" for tag, _ in frames) == count


def test_syncs_inside_copy_are_swallowed_as_by_the_server(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(wire.query("CREATE TEMP TABLE t (n int)"))
    client.until("Z")
    client.send(wire.query("COPY t FROM STDIN"))
    assert client.frame()[0] == "G"
    client.send(wire.sync() * 20_000 + wire.flush() + wire.message("d", b"1\n") + wire.message("c"))
    assert [tag for tag, _ in client.until("Z")] == ["C", "Z"]
    client.send(wire.parse("SELECT n FROM t") + wire.bind() + wire.execute() + wire.sync())
    assert [tag for tag, _ in client.until("Z")] == ["1", "2", "D", "C", "Z"]


def test_last_words_of_the_server_reach_the_client(start_stack):
    with Server() as server:
        stack = start_stack()
        stack.brain.upstream = f"{server.host}:{server.port}"
        with (
            psycopg.connect(server.dsn(), host=stack.host, port=stack.port) as connection,
            psycopg.connect(server.admin_dsn, autocommit=True) as admin,
        ):
            pid = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
            admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
            time.sleep(0.1)
            with pytest.raises(psycopg.errors.AdminShutdown):
                connection.execute("SELECT 1")
        server.halt()
        with pytest.raises(psycopg.OperationalError, match="Connection refused"):
            psycopg.connect(server.dsn(), host=stack.host, port=stack.port)


def test_client_that_hangs_up_in_a_frame_leaves_nothing(stack, open_wire):
    client = open_wire(stack.host, stack.port)
    client.send(b"Q" + struct.pack("!I", 5000) + b"SELECT")
    client.close()
    deadline = time.monotonic() + 5
    while stack.plane.metrics()["sessions_open"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
