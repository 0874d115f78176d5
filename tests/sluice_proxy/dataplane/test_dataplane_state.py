"""The session's state: probes, refreshes, policy changes on live sessions."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from sluice_proxy import _native as native
from sluice_proxy._native import Effects, ErrorFields, Plan, PlannedStatement, PlanRequest

CLOSE = ErrorFields(sqlstate="57P01", message="policy changed", hint="Reconnect.")


def rows(stack, reason: str) -> list[bytes | None]:
    return [one.probe_row[0] for one in stack.brain.states() if one.reason == reason]


def test_state_is_asked_before_the_first_statement(stack):
    with stack.connect() as connection:
        connection.execute("SELECT 1")
    assert rows(stack, "start") == [b'"$user", public']
    status = dict(stack.brain.states()[0].parameter_status)
    assert status["server_version"].startswith("1")


def test_refused_state_ends_the_session(start_stack):
    stack = start_stack()
    stack.brain.answer = lambda request: (
        ErrorFields(sqlstate="57P03", message="no catalog") if hasattr(request, "reason") else None
    )
    with pytest.raises(psycopg.OperationalError, match="no catalog"):
        stack.connect()


def test_refused_opening_is_fatal(start_stack):
    stack = start_stack()
    stack.brain.answer = lambda _request: ErrorFields(sqlstate="42501", message="not admitted")
    with pytest.raises(psycopg.OperationalError, match="FATAL:  not admitted"):
        stack.connect()


def test_refresh_reads_the_state_before_the_next_statement(stack):
    with stack.connect() as connection:
        connection.execute("SET search_path = pg_catalog")
        connection.execute("SELECT 1")
    assert rows(stack, "refresh") == [b"pg_catalog"]
    contexts = [one.context for one in stack.brain.seen if isinstance(one, PlanRequest)]
    assert contexts[-1] != contexts[0]


def test_refresh_inside_a_pipeline_comes_before_the_next_plan(stack):
    with stack.connect() as connection:
        connection.execute("BEGIN")
        with connection.pipeline():
            connection.execute("SET LOCAL search_path = pg_catalog")
            shown = connection.execute("SHOW search_path")
            assert shown.fetchone() == ("pg_catalog",)
        connection.execute("COMMIT")
        assert connection.execute("SHOW search_path").fetchone() == ('"$user", public',)
    assert b"pg_catalog" in rows(stack, "refresh")
    assert rows(stack, "refresh")[-1] == b'"$user", public'


def test_rollback_to_a_savepoint_refreshes_again(stack):
    with stack.connect() as connection:
        connection.execute("BEGIN")
        connection.execute("SAVEPOINT a")
        connection.execute("SET search_path = pg_catalog")
        connection.execute("ROLLBACK TO a")
        connection.execute("SELECT 1")
        assert rows(stack, "refresh")[-1] == b'"$user", public'
        connection.execute("ROLLBACK")


def test_failed_transaction_is_refreshed_after_its_rollback(stack):
    with stack.connect() as connection:
        connection.execute("BEGIN")
        connection.execute("SET search_path = pg_catalog")
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0")
        connection.execute("ROLLBACK")
        connection.execute("SELECT 1")
    assert rows(stack, "refresh") == [b"pg_catalog", b'"$user", public']


def test_implicit_transaction_that_fails_is_refreshed(stack):
    with stack.connect() as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SET search_path = pg_catalog; SELECT 1/0")
        connection.execute("SELECT 1")
    assert rows(stack, "refresh") == [b'"$user", public']


def test_plain_transactions_are_not_probed(stack):
    with stack.connect() as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT 1")
        connection.execute("COMMIT")
    assert rows(stack, "refresh") == []


def test_plan_behind_the_end_of_a_transaction_that_changed_nothing_goes_on(start_stack):
    stack = start_stack(brain={"settled": True})
    with stack.connect() as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT 1")
        assert connection.execute("COMMIT; SELECT 7").nextset()
        connection.execute("BEGIN")
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0")
        assert connection.execute("ROLLBACK; SELECT 7").nextset()
    assert rows(stack, "refresh") == []


def test_plan_behind_the_end_of_a_transaction_that_changed_the_session_is_refused(start_stack):
    stack = start_stack(brain={"settled": True})
    with stack.connect() as connection:
        for end in ("COMMIT; SELECT 7", "ROLLBACK; SELECT 7"):
            connection.execute("BEGIN")
            connection.execute("SET LOCAL search_path = pg_catalog")
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="end of a transaction"):
                connection.execute(end)
            connection.execute("ROLLBACK")
            assert connection.execute("BEGIN; SELECT 7; COMMIT; SELECT 8").nextset()


def test_unnamed_statement_survives_a_probe(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(wire.parse("SET application_name = 'x'") + wire.bind() + wire.execute())
    client.send(wire.parse("SELECT 7") + wire.flush())
    client.send(wire.bind() + wire.execute() + wire.sync())
    tags = [tag for tag, _ in client.until("Z")]
    assert [tag for tag in tags if tag != "S"] == ["1", "2", "C", "1", "2", "D", "C", "Z"]
    assert rows(stack, "refresh")


def test_open_session_is_never_probed(start_stack):
    stack = start_stack(brain={"level": 0, "probe": None})
    with stack.connect() as connection:
        connection.execute("SET search_path = pg_catalog")
        connection.execute("SELECT 1")
    assert [(one.reason, one.probe_row) for one in stack.brain.states()] == [("start", None)]


def test_every_session_takes_up_a_new_epoch(stack):
    with stack.connect() as first, stack.connect() as second:
        epoch = stack.plane.advance_epoch()
        deadline = time.monotonic() + 5
        while stack.plane.epoch_reached() < epoch:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert first.execute("SELECT 1").fetchone() == second.execute("SELECT 1").fetchone()
    assert rows(stack, "epoch") == [b'"$user", public'] * 2


def test_plan_asked_before_a_policy_change_is_not_used_after_it(stack):
    with stack.connect() as connection:
        asked, go = threading.Event(), threading.Event()

        def answer(request):
            if isinstance(request, PlanRequest) and b"twice" in request.text and not go.is_set():
                asked.set()
                stack.brain.revision = "r2"
                stack.plane.advance_epoch()
                go.set()

        stack.brain.answer = answer
        assert connection.execute("SELECT 'twice'").fetchone() == ("twice",)
        assert asked.is_set()
    assert stack.brain.plans().count(b"SELECT 'twice'") == 2


def test_idle_session_is_closed_when_the_policy_says_so(stack):
    with stack.connect() as connection:
        connection.execute("SELECT 1")
        stack.brain.close = CLOSE
        stack.plane.advance_epoch()
        time.sleep(0.2)
        with pytest.raises(psycopg.errors.AdminShutdown, match="policy changed"):
            connection.execute("SELECT 1")


def test_running_statement_may_finish_before_the_close(stack):
    with stack.connect() as connection:
        timer = threading.Timer(0.1, lambda: close(stack))
        timer.start()
        assert connection.execute("SELECT 1 FROM pg_sleep(0.4)").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        timer.join()


def test_long_statement_is_cancelled_after_its_time(start_stack):
    stack = start_stack(brain={"close_after_s": 0.2})
    with stack.connect() as connection:
        timer = threading.Timer(0.1, lambda: close(stack))
        timer.start()
        started = time.monotonic()
        with pytest.raises(psycopg.errors.DatabaseError):
            connection.execute("SELECT pg_sleep(20)")
        assert time.monotonic() - started < 5
        timer.join()


def close(stack) -> None:
    stack.brain.close = CLOSE
    stack.plane.advance_epoch()


def test_drain_closes_idle_sessions_and_waits_for_the_others(stack):
    idle, busy = stack.connect(), stack.connect()
    thread = threading.Thread(target=lambda: busy.execute("SELECT pg_sleep(0.5)"))
    thread.start()
    time.sleep(0.1)
    stack.plane.stop_listening()
    assert stack.plane.drain(5) == 0
    thread.join()
    for connection in (idle, busy):
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        connection.close()


def test_drain_counts_what_it_cuts(stack):
    connection = stack.connect()
    connection.execute("BEGIN")
    assert stack.plane.drain(0.1) == 1
    connection.close()


def test_message_that_breaks_a_copy_does_not_hang_a_changed_session(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(wire.query("CREATE TEMP TABLE t (n int)"))
    client.until("Z")
    client.send(wire.query("BEGIN; SET LOCAL application_name = 'x'"))
    client.until("Z")
    client.send(wire.query("COPY t FROM STDIN"))
    client.until("G")
    client.send(wire.query("SELECT 1"))
    assert [tag for tag, _ in client.until("Z") if tag != "S"] == ["E", "Z"]
    client.send(wire.query("ROLLBACK"))
    assert "C" in [tag for tag, _ in client.until("Z")]


def test_change_judged_under_another_policy_is_said_when_it_is_first_seen(stack, open_wire, wire):
    """The policy changes while the table is made: the state asked then could not know of it."""
    client = open_wire(stack.host, stack.port)
    run = wire.bind() + wire.execute()
    client.send(wire.parse("SET search_path = pg_catalog") + run + wire.flush())
    client.until("C")
    stack.brain.revision = "r2"
    epoch = stack.plane.advance_epoch()
    deadline = time.monotonic() + 5
    while stack.plane.epoch_reached() < epoch:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    client.send(wire.sync())
    client.until("Z")
    client.send(wire.query("SET search_path = public"))
    client.until("Z")
    reasons = [one.reason for one in stack.brain.states()]
    assert reasons == ["start", "epoch", "refresh", "outdated", "refresh"]


@pytest.mark.parametrize("transaction", [True, False])
def test_statement_that_is_suspended_may_have_changed_the_session(
    stack, open_wire, wire, transaction
):
    """It gave as many rows as were asked for, and never ended: what it did to the session is done."""
    stack.brain.answer = refreshing(stack)
    client = open_wire(stack.host, stack.port)
    if transaction:
        client.send(wire.query("BEGIN"))
        client.until("Z")
    changing = wire.parse("SELECT set_config('search_path', 'pg_catalog', false)") + wire.bind()
    client.send(changing + wire.execute(rows=1) + wire.sync())
    assert "s" in [tag for tag, _ in client.until("Z")]
    client.send(wire.query("SELECT 'after'"))
    client.until("Z")
    assert b"pg_catalog" in rows(stack, "refresh")
    contexts = {one.text: one.context for one in stack.brain.seen if isinstance(one, PlanRequest)}
    assert len(set(contexts.values())) == 2


def refreshing(stack):
    """A brain that knows what set_config does."""

    def answer(request):
        if not isinstance(request, PlanRequest) or b"set_config" not in request.text:
            return None
        length = len(native.tokens(bytes(request.text)))
        statement = PlannedStatement(tokens=(0, length), audit=b"{}", effects=Effects(refresh=True))
        return Plan(statements=[statement], cache="none", revision=stack.brain.revision)

    return answer


def test_query_behind_a_question_that_failed_is_answered(stack, open_wire, wire):
    """Sluice asks the server inside the client's pipeline; a time limit hits its question, too."""
    shown = ("search_path", "application_name")
    columns = ", ".join(f"pg_catalog.current_setting('{name}')" for name in shown)
    stack.brain.probe = f"SELECT {columns} FROM pg_catalog.pg_sleep(0.05)"
    client = open_wire(stack.host, stack.port)
    client.send(wire.query("SET statement_timeout = '1ms'"))
    client.until("Z")
    for _ in range(2):
        client.send(wire.query("SELECT 1"))
        assert [tag for tag, _ in client.until("Z")] == ["E", "Z"]
    client.send(wire.parse("SELECT 1") + wire.bind() + wire.execute() + wire.sync())
    assert [tag for tag, _ in client.until("Z")] == ["E", "Z"]


@pytest.mark.parametrize(
    "text", ["PREPARE {} AS SELECT 1", "DECLARE {} CURSOR WITH HOLD FOR SELECT 1"]
)
def test_names_of_ours_are_not_taken_by_statements(start_stack, open_wire, wire, text):
    stack = start_stack(brain={"level": 2})
    client = open_wire(stack.host, stack.port)
    name = "sluice\x01probe"
    effects = Effects(prepare=name) if "PREPARE" in text else Effects(declare=name)
    stack.brain.answer = lambda request: (
        Plan(
            statements=[PlannedStatement(tokens=(0, 1), audit=b"{}", effects=effects)],
            cache="none",
            revision="r1",
        )
        if isinstance(request, PlanRequest)
        else None
    )
    client.send(wire.query(text.format(f'"{name}"')))
    assert b"C42602" in client.until("Z")[0][1]
