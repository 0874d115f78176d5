"""Looks at the catalog beside statements that no condition in their text can hold to it."""

from __future__ import annotations

import time

import psycopg
import pytest

from sluice_proxy._native import CatalogCheckRequest, Edit, ErrorFields, PlanRequest

ANSWER = {"statement": {"catalog_check": "answer"}}
SENDING = {"statement": {"catalog_check": "sending"}}


def looks(stack) -> int:
    return sum(isinstance(one, CatalogCheckRequest) for one in stack.brain.seen)


def change_once(stack) -> None:
    """The next look finds another catalog; the sessions have been told by then."""
    answers = [False]

    def same() -> bool:
        if answers:
            stack.brain.revision += "'"
            stack.plane.advance_epoch()
            return answers.pop()
        return True

    stack.brain.same_catalog = same


def constant(value: bytes):
    """Edits that turn SELECT 1 into SELECT value."""
    return lambda text: [Edit(1, 2, value)] if text == b"SELECT 1" else []


def test_look_begins_when_the_answer_is_there(start_stack):
    stack = start_stack(brain=ANSWER)
    asked: list[float] = []
    stack.brain.same_catalog = lambda: not asked.append(time.monotonic())
    with stack.connect() as connection:
        began = time.monotonic()
        connection.execute("SELECT pg_sleep(0.3)")
        assert asked[0] - began >= 0.3
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert looks(stack) == 2


def test_nothing_is_shown_before_the_look(start_stack, open_wire, wire):
    stack = start_stack(brain=ANSWER)
    client = open_wire(stack.host, stack.port)
    stack.brain.same_catalog = lambda: not time.sleep(0.3)
    client.send(wire.query("SELECT 1"))
    client.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.frame()
    client.socket.settimeout(10)
    assert [tag for tag, _ in client.until("Z")] == ["T", "D", "C", "Z"]


@pytest.mark.parametrize("prepared", [False, True])
def test_answer_of_another_catalog_is_not_shown(start_stack, prepared):
    stack = start_stack(brain=ANSWER)
    stack.brain.edits = constant(b"'old'")
    with stack.connect() as connection:
        connection.execute("SELECT 1", prepare=prepared)
        stack.brain.edits = constant(b"'new'")
        change_once(stack)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="catalog changed"):
            connection.execute("SELECT 1", prepare=prepared)
        assert connection.execute("SELECT 1", prepare=prepared).fetchone() == ("new",)


def test_rows_beside_another_catalog_fail_the_transaction(start_stack):
    stack = start_stack(brain=ANSWER)
    text = "SELECT g FROM generate_series(1, 100000) g"
    with stack.connect() as connection:
        connection.execute("BEGIN")
        connection.execute(text)
        stack.brain.edits = lambda text: [Edit(1, 2, b"-g")] if b"generate" in text else []
        change_once(stack)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            connection.execute(text)
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 2")
        connection.execute("ROLLBACK")
        assert connection.execute("SELECT 2").fetchone() == (2,)
    ends = [one.get("sqlstate") for one in stack.records("end")]
    assert ends.count("55000") == 1


def test_change_that_leaves_the_words_as_they_are_is_not_seen(start_stack):
    stack = start_stack(brain=ANSWER)
    stack.brain.edits = constant(b"'***'")
    with stack.connect() as connection:
        connection.execute("SELECT 1")
        change_once(stack)
        assert connection.execute("SELECT 1").fetchone() == ("***",)


def test_denial_under_the_new_catalog_hides_the_answer(start_stack):
    stack = start_stack(brain=ANSWER)
    with stack.connect() as connection:
        connection.execute("SELECT 1")
        stack.brain.deny = lambda _text: ErrorFields(sqlstate="42501", message="no")
        change_once(stack)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            connection.execute("SELECT 1")


def test_failed_look_fails_the_statement_alone(start_stack):
    stack = start_stack(brain=ANSWER)
    with stack.connect() as connection:
        stack.brain.answer = lambda request: (
            ErrorFields(sqlstate="57P03", message="no look")
            if isinstance(request, CatalogCheckRequest)
            else None
        )
        with pytest.raises(psycopg.errors.CannotConnectNow, match="no look"):
            connection.execute("SELECT 1")
        stack.brain.answer = None
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_write_is_judged_again_before_it_is_sent(start_stack):
    stack = start_stack(brain=SENDING)
    with stack.connect() as connection:
        connection.execute("CREATE TEMP TABLE t (word text)")
        text = "INSERT INTO t VALUES ('x')"
        stack.brain.edits = lambda sent: [Edit(5, 6, b"'old'")] if sent == text.encode() else []
        connection.execute(text)
        stack.brain.edits = lambda sent: [Edit(5, 6, b"'new'")] if sent == text.encode() else []
        change_once(stack)
        connection.execute(text)
        rows = connection.execute("SELECT word FROM t ORDER BY 1").fetchall()
    assert rows == [("new",), ("old",)]


def test_write_through_a_portal_is_refused_before_it_is_sent(start_stack):
    stack = start_stack(brain=SENDING)
    with stack.connect(prepare_threshold=0) as connection:
        connection.execute("CREATE TEMP TABLE t (n int)")
        text = "INSERT INTO t VALUES (%s)"
        connection.execute(text, (1,))
        stack.brain.deny = lambda sent: (
            ErrorFields(sqlstate="42501", message="no") if "INSERT" in sent else None
        )
        change_once(stack)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            connection.execute(text, (2,))
        stack.brain.deny = lambda _sent: None
        assert connection.execute("SELECT n FROM t").fetchall() == [(1,)]


def test_execute_is_looked_at_as_what_it_executes(start_stack):
    stack = start_stack(brain=ANSWER)
    with stack.connect() as connection:
        connection.execute("PREPARE p AS SELECT 1")
        stack.brain.statement = {}
        before = looks(stack)
        assert connection.execute("EXECUTE p").fetchone() == (1,)
        assert looks(stack) == before + 1


def test_copy_out_beside_another_catalog_shows_no_line(start_stack):
    stack = start_stack(brain=ANSWER)
    text = "COPY (SELECT g FROM generate_series(1, 100000) g) TO STDOUT"
    with stack.connect() as connection:
        with connection.cursor().copy(text) as copy:
            assert len(list(copy)) == 100000
        stack.brain.edits = lambda text: [Edit(3, 4, b"-g")] if b"generate" in text else []
        change_once(stack)
        with (
            pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState),
            connection.cursor().copy(text) as copy,
        ):
            list(copy)
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_plans_are_asked_once_for_what_did_not_change(start_stack):
    stack = start_stack(brain=ANSWER)
    with stack.connect() as connection:
        for _ in range(3):
            connection.execute("SELECT 1")
    asked = [one for one in stack.brain.seen if isinstance(one, PlanRequest)]
    assert len(asked) == 1
