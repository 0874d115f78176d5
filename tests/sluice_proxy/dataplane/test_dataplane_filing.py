"""Names of statements, portals and cursors: what Sluice takes them for is what the server takes them for.

The plan of a statement puts the policy's revision into its text, so that a row tells under which policy it was judged.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from sluice_proxy import _native as native
from sluice_proxy._native import Edit

SECRET = "SELECT 'email'"


@pytest.fixture
def told(start_stack: Callable):
    """A restricted session's data plane whose plans write the revision in the place of ``'email'``."""
    stack = start_stack(brain={"level": 2})

    def edits(text: bytes) -> list[Edit]:
        places = [
            index
            for index, token in enumerate(native.tokens(text))
            if text[token.start : token.end] == b"'email'"
        ]
        return [Edit(at, at + 1, f"'{stack.brain.revision}'".encode()) for at in places]

    stack.brain.edits = edits
    return stack


@pytest.fixture
def change(told, open_wire, wire):
    """A function that brings another policy into force, and has its plans cached by another session."""

    def change_(revision: str = "r2", *texts: str) -> None:
        told.brain.revision = revision
        epoch = told.plane.advance_epoch()
        deadline = time.monotonic() + 10
        while told.plane.epoch_reached() < epoch:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        other = open_wire(told.host, told.port)
        for text in (SECRET, "SELEC", "SELECT 1", *texts):
            ask(other, wire.parse(text) + wire.sync())
        other.close()

    return change_


def ask(client, data: bytes, times: int = 1) -> list[tuple[str, bytes]]:
    """Send bytes; every frame up to so many ReadyForQuery."""
    client.send(data)
    return [frame for _ in range(times) for frame in client.until("Z")]


def old_rows(frames: list[tuple[str, bytes]], revision: bytes = b"r1") -> list[bytes]:
    return [body for tag, body in frames if tag == "D" and revision in body]


def codes(frames: list[tuple[str, bytes]]) -> list[bytes]:
    return [
        field[1:]
        for tag, body in frames
        if tag == "E"
        for field in body.split(b"\0")
        if field[:1] == b"C"
    ]


def test_parse_under_a_name_that_is_taken_makes_no_old_statement_new(told, change, open_wire, wire):
    client = open_wire(told.host, told.port)
    ask(client, wire.query(f"PREPARE x AS {SECRET}"))
    change()
    got = ask(client, wire.parse(SECRET, "x") + wire.sync() + wire.query("EXECUTE x"), 2)
    assert codes(got) == [b"42P05", b"55000"]
    assert not old_rows(got)


def test_bind_behind_a_parse_that_fails_is_judged_as_what_was_there_before(
    told, change, open_wire, wire
):
    client = open_wire(told.host, told.port)
    ask(client, wire.parse(SECRET, "x") + wire.sync())
    change()
    used = wire.bind("x") + wire.execute() + wire.sync()
    got = ask(client, wire.parse(SECRET, "x") + wire.sync() + used, 2)
    assert codes(got) == [b"42P05"]
    assert [body[-2:] for tag, body in got if tag == "D"] == [b"r2"]


@pytest.mark.parametrize("name", ["x", ""])
def test_statement_made_anew_in_a_batch_that_is_skipped_is_still_old(
    told, change, open_wire, wire, name
):
    client = open_wire(told.host, told.port)
    ask(client, wire.parse(SECRET, name) + wire.sync())
    change()
    used = wire.bind(name) + wire.execute() + wire.sync()
    got = ask(client, wire.parse("SELEC", "y") + wire.bind(name) + wire.sync() + used, 2)
    assert codes(got) == [b"42601"]
    assert [body[-2:] for tag, body in got if tag == "D"] == [b"r2"]


def test_statement_closed_in_a_batch_that_is_skipped_is_still_there(told, change, open_wire, wire):
    client = open_wire(told.host, told.port)
    ask(client, wire.parse(SECRET, "x") + wire.sync())
    change()
    skipped = wire.parse("SELEC") + wire.message("C", b"Sx\0") + wire.sync()
    used = wire.bind("x") + wire.execute() + wire.sync()
    got = ask(client, skipped + wire.parse(SECRET, "x") + wire.sync() + used, 3)
    assert codes(got) == [b"42601", b"42P05"]
    assert [body[-2:] for tag, body in got if tag == "D"] == [b"r2"]


def test_statement_parsed_behind_a_skipped_one_keeps_its_name(told, change, open_wire, wire):
    client = open_wire(told.host, told.port)
    for text in ("SELEC", "SELECT 1", SECRET):
        ask(client, wire.parse(text) + wire.sync())
    skipped = wire.parse("SELEC") + wire.parse("SELECT 1", "x") + wire.sync()
    ask(client, skipped + wire.parse(SECRET, "x") + wire.sync(), 2)
    assert old_rows(ask(client, wire.query("EXECUTE x")))
    change()
    assert codes(ask(client, wire.query("EXECUTE x"))) == [b"55000"]


def test_portal_of_a_prepared_statement_does_nothing_of_the_text_it_was_prepared_in(
    told, change, open_wire, wire
):
    client = open_wire(told.host, told.port)
    ask(client, wire.query("PREPARE x AS SELECT 1"))
    ask(client, wire.query("DEALLOCATE x; PREPARE p AS SELECT 2"))
    ask(client, wire.query(f"PREPARE x AS {SECRET}"))
    ask(client, wire.bind("p") + wire.execute() + wire.sync())
    change()
    assert codes(ask(client, wire.query("EXECUTE x"))) == [b"55000"]


def test_execute_of_what_nobody_prepared_is_refused_in_the_servers_words(told, open_wire, wire):
    client = open_wire(told.host, told.port)
    got = ask(client, wire.query("EXECUTE x"))
    assert codes(got) == [b"26000"]
    assert b'prepared statement "x" does not exist' in got[0][1]
    assert not old_rows(ask(client, wire.query("PREPARE x AS SELECT 1; EXECUTE x")))


def test_portal_of_another_policy_is_not_taken_for_a_cursor_of_this_one(
    told, change, open_wire, wire
):
    client = open_wire(told.host, told.port)
    ask(client, wire.query("BEGIN; DECLARE k CURSOR FOR SELECT 1; COMMIT"))
    change("loose")
    ask(client, wire.query("BEGIN"))
    ask(client, wire.parse(SECRET) + wire.bind(portal="k") + wire.sync())
    change("r1")
    assert not old_rows(ask(client, wire.execute("k") + wire.sync()), b"loose")


def test_plan_behind_a_transaction_that_failed_is_made_for_what_is_there_then(
    stack, open_wire, wire
):
    """Close is sent behind the Sync, so that the state could not be asked between the two."""
    client = open_wire(stack.host, stack.port)
    run = wire.bind() + wire.execute()
    ask_flush = wire.parse("SET search_path = pg_catalog") + run + wire.flush()
    client.send(ask_flush)
    client.until("C")
    client.send(wire.parse("SELECT 1") + run + wire.flush())
    client.until("C")
    failing = wire.parse("SELECT 1/n FROM generate_series(0, 0) n") + run + wire.sync()
    client.send(failing + wire.message("C", b"Sx\0") + wire.flush())
    client.until("Z")
    client.until("3")
    seen = len(stack.brain.seen)
    got = ask(client, wire.parse("SHOW search_path") + run + wire.sync())
    assert old_rows(got, b'"$user", public')
    first = stack.brain.seen[seen]
    assert first.reason == "refresh"
    assert first.probe_row[0] == b'"$user", public'


def test_portal_that_a_query_ran_in_is_not_executed(stack, open_wire, wire):
    """When the Query fails, the server keeps its portal and frees its text: asked to run it, it may read anything."""
    client = open_wire(stack.host, stack.port)
    ask(client, wire.query("BEGIN"))
    ask(client, wire.parse("SELECT 1") + wire.bind() + wire.sync())
    ask(client, wire.query("CREATE TABLE pg_catalog.nowhere ()"))
    got = ask(client, wire.execute() + wire.sync())
    assert codes(got) == [b"34000"]


@pytest.mark.parametrize("apart", [True, False])
def test_portal_of_a_failed_transaction_is_not_executed(stack, open_wire, wire, apart):
    client = open_wire(stack.host, stack.port)
    ask(client, wire.query("BEGIN") + wire.query("SAVEPOINT a"), 2)
    ask(client, wire.parse("SELECT 1") + wire.bind(portal="k") + wire.sync())
    ask(client, wire.query("SAVEPOINT b"))
    failing = wire.parse("SELEC") + wire.sync()
    if apart:
        ask(client, failing)
        got = ask(client, wire.execute("k") + wire.sync())
    else:
        got = ask(client, failing + wire.execute("k") + wire.sync(), 2)
    assert codes(got)[-1] == b"25P02"
    ask(client, wire.query("ROLLBACK TO b"))
    assert not codes(ask(client, wire.execute("k") + wire.sync()))


def test_transaction_ends_by_a_portal_bound_after_it_failed(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    ask(client, wire.query("BEGIN") + wire.query("SELEC"), 2)
    ask(client, wire.parse("ROLLBACK") + wire.bind(portal="k") + wire.sync())
    assert ask(client, wire.execute("k") + wire.sync())[-1] == ("Z", b"I")


def test_execute_in_the_middle_of_copy_ends_it(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    ask(client, wire.query("BEGIN; CREATE TEMP TABLE c (n int)"))
    ask(client, wire.parse("SELECT 1") + wire.bind(portal="k") + wire.sync())
    client.send(wire.query("COPY c FROM STDIN"))
    client.until("G")
    client.send(wire.execute("k") + wire.sync())
    assert codes(client.until("Z"))[0] == b"08P01"
