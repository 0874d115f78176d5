"""Plans: edits, denial by PostgreSQL itself, prepared statements of an older context, portals and cursors."""

from __future__ import annotations

import struct
import threading

import psycopg
import pytest

from sluice_proxy import _native as native
from sluice_proxy._native import Edit, ErrorFields, Plan, PlanRequest, Scrub


def replace_word(word: bytes, replacement: bytes):
    """Edits that put `replacement` where the text has `word`."""

    def edits(text: bytes) -> list[Edit]:
        return [
            Edit(position, position + 1, replacement)
            for position, token in enumerate(native.tokens(text))
            if text[token.start : token.end] == word
        ]

    return edits


def deny_word(word: str):
    error = ErrorFields(
        sqlstate="42501", message="permission denied by policy", detail="Policy p.", hint="Ask."
    )
    return lambda text: error if word in text else None


def test_edits_change_what_the_server_runs(stack):
    stack.brain.edits = replace_word(b"secret", b"'***'")
    with stack.connect() as connection:
        assert connection.execute("SELECT secret AS a, 1 AS b").fetchone() == ("***", 1)
        assert connection.execute("SELECT secret, %s::int", (5,)).fetchone() == ("***", 5)


def test_edits_of_a_cached_template_fit_other_literals(stack):
    stack.brain.edits = replace_word(b"secret", b"'***'")
    with stack.connect() as connection:
        cursor = psycopg.ClientCursor(connection)
        for value in ("a", "much longer 'than' before", ""):
            assert cursor.execute("SELECT %s, secret", (value,)).fetchone() == (value, "***")
    assert sum(b"secret" in text for text in stack.brain.plans()) == 1


def test_error_positions_are_those_of_the_clients_text(stack):
    stack.brain.edits = replace_word(b"secret", b"'a much longer replacement'")
    with stack.connect() as connection, pytest.raises(psycopg.errors.UndefinedColumn) as caught:
        connection.execute("SELECT secret, nothing")
    assert caught.value.diag.statement_position == str(len("SELECT secret, ") + 1)


def test_plan_that_does_not_fit_the_text_is_an_error(stack):
    stack.brain.edits = lambda _text: [Edit(0, 99, b"")] if b"odd" in _text else []
    with stack.connect() as connection:
        stack.brain.statement = {}
        with pytest.raises(psycopg.errors.InternalError_, match="does not fit"):
            # The script keeps edits that start inside a statement, so this one arrives as it is.
            connection.execute("SELECT 'odd'")
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_denied_statement_is_answered_with_the_brains_error(stack):
    stack.brain.deny = deny_word("salary")
    with stack.connect() as connection:
        for arguments in ((), (1,)):
            with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
                connection.execute("SELECT salary" + " + %s" * len(arguments), arguments)
            assert caught.value.diag.message_primary == "permission denied by policy"
            assert caught.value.diag.message_detail == "Policy p."
            assert caught.value.diag.message_hint == "Ask."
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_denial_aborts_the_transaction_as_any_error_does(stack):
    stack.brain.deny = deny_word("salary")
    with stack.connect(autocommit=False) as connection:
        connection.execute("SELECT 1")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT salary")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.rollback()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_one_denied_statement_denies_the_whole_query(stack):
    stack.brain.deny = deny_word("salary")
    with stack.connect() as connection:
        connection.execute("CREATE TEMP TABLE t (n int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("INSERT INTO t VALUES (1); SELECT salary")
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_denial_inside_a_pipeline_skips_to_sync(stack, open_wire, wire):
    stack.brain.deny = deny_word("salary")
    client = open_wire(stack.host, stack.port)
    client.send(
        wire.parse("SELECT 1") + wire.bind() + wire.execute()
        + wire.parse("SELECT salary") + wire.bind() + wire.execute()
        + wire.parse("SELECT 2") + wire.bind() + wire.execute() + wire.sync()
    )  # fmt: skip
    assert [tag for tag, _ in client.until("Z")] == ["1", "2", "D", "C", "E", "Z"]
    client.send(wire.query("SELECT 3"))
    assert [tag for tag, _ in client.until("Z")] == ["T", "D", "C", "Z"]


def test_brains_error_denies_the_statement_alone(stack):
    def answer(request):
        if isinstance(request, PlanRequest) and b"broken" in request.text:
            return ErrorFields(sqlstate="XX000", message="the brain raised")
        return None

    stack.brain.answer = answer
    with stack.connect() as connection:
        with pytest.raises(psycopg.errors.InternalError_, match="the brain raised"):
            connection.execute("SELECT 'broken'")
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_silent_brain_is_an_error_after_its_time(start_stack):
    stack = start_stack(brain_timeout_s=0.2)
    with stack.connect() as connection:
        release = threading.Event()

        def answer(request):
            if isinstance(request, PlanRequest) and b"slow" in request.text:
                release.wait(5)

        stack.brain.answer = answer
        with pytest.raises(psycopg.errors.CannotConnectNow, match="no policy decision"):
            connection.execute("SELECT 'slow'")
        release.set()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_observed_session_is_neither_denied_nor_changed(start_stack):
    stack = start_stack(brain={"observe": True})
    stack.brain.deny = deny_word("salary")
    stack.brain.edits = replace_word(b"secret", b"'***'")
    stack.brain.statement = {"rows_max": 1}
    with stack.connect() as connection:
        rows = connection.execute("SELECT 'salary' AS secret, generate_series(1, 3)").fetchall()
        assert rows == [("salary", 1), ("salary", 2), ("salary", 3)]


def test_expired_plan_is_asked_for_again(stack):
    with stack.connect() as connection:
        stack.brain.answer = lambda request: (
            Plan(statements=stack.brain.plan(request).statements, cache="exact", valid_until_ns=1)
            if isinstance(request, PlanRequest)
            else None
        )
        for _ in range(3):
            connection.execute("SELECT 1", prepare=False)
    assert stack.brain.plans().count(b"SELECT 1") == 3


def test_statement_of_another_context_is_parsed_anew_before_bind(stack, open_wire, wire):
    stack.brain.edits = replace_word(b"mode", b"'old'")
    client = open_wire(stack.host, stack.port)
    client.send(wire.parse("SELECT mode", "s") + wire.bind("s") + wire.execute() + wire.sync())
    assert ("D", b"\0\1\0\0\0\3old") in client.until("Z")
    stack.brain.edits = replace_word(b"mode", b"'new'")
    client.send(wire.query("SET search_path = pg_catalog, public"))
    client.until("Z")
    client.send(wire.bind("s") + wire.execute() + wire.sync())
    frames = client.until("Z")
    assert [tag for tag, _ in frames] == ["2", "D", "C", "Z"]
    assert ("D", b"\0\1\0\0\0\3new") in frames


def test_statement_denied_in_its_new_context_fails_at_bind(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(wire.parse("SELECT 'salary'", "s") + wire.sync())
    client.until("Z")
    stack.brain.deny = deny_word("salary")
    client.send(wire.query("SET search_path = public"))
    client.until("Z")
    client.send(wire.bind("s") + wire.execute() + wire.sync())
    assert [tag for tag, _ in client.until("Z")] == ["E", "Z"]
    stack.brain.deny = lambda _text: None
    client.send(wire.query("RESET search_path"))
    client.until("Z")
    client.send(wire.bind("s") + wire.execute() + wire.sync())
    assert [tag for tag, _ in client.until("Z")] == ["2", "D", "C", "Z"]


def test_sql_prepared_statement_whose_edits_changed_is_refused(stack):
    stack.brain.edits = replace_word(b"mode", b"1")
    with stack.connect() as connection:
        connection.execute("PREPARE p AS SELECT mode")
        assert connection.execute("EXECUTE p").fetchone() == (1,)
        stack.brain.edits = replace_word(b"mode", b"2")
        connection.execute("SET search_path = public")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="prepared statement"):
            connection.execute("EXECUTE p")
        connection.execute("DEALLOCATE p")
        connection.execute("PREPARE p AS SELECT 2")
        assert connection.execute("EXECUTE p").fetchone() == (2,)


def test_cursor_of_an_older_policy_is_refused(stack):
    with stack.connect() as connection:
        connection.execute("BEGIN")
        connection.execute("DECLARE c CURSOR FOR SELECT generate_series(1, 9)")
        assert connection.execute("FETCH 1 FROM c").fetchone() == (1,)
        stack.brain.revision = "r2"
        stack.plane.advance_epoch()
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="another policy"):
            connection.execute("FETCH 1 FROM c")
        connection.execute("ROLLBACK")


def test_portal_of_an_older_policy_is_refused(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(wire.query("BEGIN"))
    client.until("Z")
    client.send(
        wire.parse("SELECT generate_series(1, 9)") + wire.bind("", "p") + wire.execute("p", 2)
        + wire.sync()
    )  # fmt: skip
    assert [tag for tag, _ in client.until("Z")] == ["1", "2", "D", "D", "s", "Z"]
    stack.brain.revision = "r2"
    stack.plane.advance_epoch()
    client.send(wire.execute("p", 2) + wire.sync())
    frames = client.until("Z")
    assert [tag for tag, _ in frames] == ["E", "Z"]
    assert b"C55000\0" in frames[0][1]


def test_names_are_one_at_63_bytes(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    long = "n" * 63
    client.send(wire.parse("SELECT 1", long + "a") + wire.bind(long + "b") + wire.execute())
    client.send(wire.sync())
    assert [tag for tag, _ in client.until("Z")] == ["1", "2", "D", "C", "Z"]


def test_reserved_names_are_refused(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    client.send(wire.parse("SELECT 1", "sluice\1probe") + wire.sync())
    frames = client.until("Z")
    assert [tag for tag, _ in frames] == ["E", "Z"]
    assert b"reserved" in frames[0][1]


def test_function_calls_are_denied_in_governed_sessions(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    call = b"\0\0\7\x1a\0\0\0\0\0\0"
    client.send(wire.message("F", call) + wire.query("SELECT 1"))
    frames = client.until("Z") + client.until("Z")
    assert [tag for tag, _ in frames] == ["E", "Z", "T", "D", "C", "Z"]
    assert b"C42501\0" in frames[0][1]


def test_errors_are_scrubbed_in_restricted_sessions(start_stack):
    scrub = Scrub(enabled=True, keep_primary=frozenset({("22012", "")}))
    stack = start_stack(brain={"level": 2, "scrub": scrub})
    with stack.connect() as connection:
        with pytest.raises(psycopg.errors.InvalidTextRepresentation) as caught:
            connection.execute("SELECT ('val' || 'ue')::int")
        assert "value" not in str(caught.value)
        with pytest.raises(psycopg.errors.DivisionByZero, match="division by zero"):
            connection.execute("SELECT 1/0")


def test_checks_of_our_own_edits_have_their_own_codes(stack):
    stack.brain.edits = replace_word(b"moved", b"'sluice: catalog changed'::int")
    with stack.connect() as connection:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="catalog changed"):
            connection.execute("SELECT moved")
        stack.brain.edits = replace_word(b"outside", b"'sluice: row outside the row filter'::int")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row filter"):
            connection.execute("SELECT outside")


def test_notices_of_the_plan_come_before_the_answer(stack):
    stack.brain.statement = {
        "notices": [ErrorFields(sqlstate="01000", message="would be denied", severity="NOTICE")]
    }
    heard = []
    with stack.connect() as connection:
        connection.add_notice_handler(lambda diag: heard.append(diag.message_primary))
        connection.execute("SELECT 1")
    assert heard == ["would be denied"]


def test_execute_goes_on_when_the_statement_would_be_the_same(stack):
    stack.brain.edits = replace_word(b"secret", b"'***'")
    with stack.connect() as connection:
        connection.execute("PREPARE p AS SELECT secret")
        connection.execute("SET application_name = 'another context'")
        assert connection.execute("EXECUTE p").fetchone() == ("***",)
        stack.brain.edits = replace_word(b"secret", b"'+++'")
        connection.execute("SET application_name = 'a third one'")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            connection.execute("EXECUTE p")


def test_execute_under_another_policy_is_refused_in_the_same_words_too(stack):
    with stack.connect() as connection:
        connection.execute("PREPARE p AS SELECT 1")
        stack.brain.revision = "r2"
        stack.plane.advance_epoch()
        connection.execute("SET application_name = 'another context'")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match='statement "p"'):
            connection.execute("EXECUTE p")


def test_plans_of_other_parameter_types_are_not_shared(stack, open_wire, wire):
    client = open_wire(stack.host, stack.port)
    for types in ((), (0,), (25,), (23,), (25, 0)):
        body = b"\0SELECT $1\0" + struct.pack(f"!H{len(types)}I", len(types), *types)
        client.send(wire.message("P", body) + wire.sync())
        client.until("Z")
    asked = [one.parameter_types for one in stack.brain.seen if isinstance(one, PlanRequest)]
    assert asked == [(), (25,), (23,)]
