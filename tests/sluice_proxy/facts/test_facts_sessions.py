"""Levels, effects, cache keys and names: what does not need a server."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from sluice_proxy import _native
from sluice_proxy.decisions import Level, SessionContext, StatementDecision
from sluice_proxy.facts import read_facts
from sluice_proxy.facts.lexer import Tokens
from sluice_proxy.facts.settings import settings_allowed
from sluice_proxy.plan import deny_plan, make_plan
from sluice_proxy.reports import ClientError, ErrorReport, SqlState

Open = Callable[..., Any]


def allowed(**changes: Any) -> StatementDecision:
    made = StatementDecision("r1", 1, None, True, ("shop/desk",), (), None, None, (), ())
    return dataclasses.replace(made, **changes)


def at_level(session: Any, level: Level, **changes: Any) -> SessionContext:
    context: SessionContext = session.context()
    return dataclasses.replace(
        context, decision=dataclasses.replace(context.decision, level=level), **changes
    )


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT email FROM users",
        "DO $$ $$",
        "not sql",
        "SELECT dblink('x')",
        "VACUUM",
        "",
        ";;",
        "SET role = x",
    ],
)
def test_open_session_is_never_refused_or_changed(open_session: Open, sql: str) -> None:
    context = at_level(open_session(), Level.OPEN)
    facts = read_facts(sql.encode(), context, simple=True)
    plan = make_plan(sql.encode(), facts, tuple(allowed() for _ in facts), context)
    assert not any(each.edits for each in facts)
    assert len(plan.statements) == len(facts)


@pytest.mark.parametrize("sql", ["not sql", "SET role = x"])
def test_guarded_session_refuses_what_is_not_known(open_session: Open, sql: str) -> None:
    with pytest.raises(ClientError):
        read_facts(sql.encode(), at_level(open_session(), Level.GUARDED), simple=True)


def test_guarded_session_is_parsed_and_not_rewritten(open_session: Open) -> None:
    context = at_level(open_session(), Level.GUARDED, catalog=None)
    (facts,) = read_facts(b"DELETE FROM users", context, simple=True)
    assert (facts.edits, facts.actions, facts.unfiltered_write) == ((), ("delete",), True)
    assert [table.name for table in facts.tables] == ["public.users"]
    (dropped,) = read_facts(b"DROP TABLE users", context, simple=True)
    assert dropped.actions == ("ddl.drop",)


def test_utility_statements_say_what_they_do_to_the_session(open_session: Open) -> None:
    context = open_session().context()

    def effects(sql: str) -> Any:
        return read_facts(sql.encode(), context, simple=True)[0].effects

    assert effects('PREPARE "P" AS SELECT 1').prepare == "P"
    assert effects("EXECUTE P").execute == "p"
    assert effects("DEALLOCATE ALL").deallocate_all
    assert effects("DECLARE c CURSOR FOR SELECT email FROM users").declare == "c"
    assert effects("FETCH ALL FROM c").fetch == "c"
    assert effects("CLOSE ALL").close_all_cursors
    assert effects("SET search_path = old").refresh
    assert effects("CREATE TEMP TABLE x (id int)").refresh
    assert effects("DISCARD ALL").close_all_cursors
    assert effects("BEGIN") is None


def test_statement_behind_a_changed_path_is_refused_in_one_message(open_session: Open) -> None:
    with pytest.raises(ClientError, match="behind one that changes the session"):
        read_facts(
            b"SET search_path = old; SELECT * FROM orders", open_session().context(), simple=True
        )


@pytest.mark.parametrize(
    ("sql", "settled"),
    [
        ("BEGIN; SELECT 1; COMMIT; SELECT id FROM users", True),
        ("ROLLBACK; SELECT id FROM users", True),
        ("SAVEPOINT s; SELECT 1; ROLLBACK TO s; SELECT id FROM users", True),
        ("CREATE TEMP TABLE x (id int); COMMIT; SELECT id FROM x", True),
        ("COMMIT; BEGIN", False),
        ("SAVEPOINT s; SELECT id FROM users; RELEASE s; SELECT 1", False),
        ("SELECT id FROM users; COMMIT", False),
    ],
)
def test_statement_behind_the_end_of_a_transaction_wants_one_that_changed_nothing(
    open_session: Open, sql: str, *, settled: bool
) -> None:
    context = open_session().context()
    facts = read_facts(sql.encode(), context, simple=True)
    plan = make_plan(sql.encode(), facts, tuple(allowed() for _ in facts), context)
    assert plan.settled is settled


def test_what_a_rollback_takes_back_is_not_there_behind_it(open_session: Open) -> None:
    session = open_session()
    made = session.rewritten("CREATE TEMP TABLE people (id int); COMMIT; SELECT id FROM people")
    assert made.endswith('SELECT id FROM "pg_temp"."people"')
    undone = session.rewritten(
        "CREATE TEMP TABLE people (id int); ROLLBACK; SELECT email FROM people"
    )
    assert '"public"."people"' in undone


@pytest.mark.parametrize(
    "sql",
    [
        "SET search_path = old; COMMIT; SELECT * FROM orders",
        "SET LOCAL search_path = old; ROLLBACK; SELECT * FROM orders",
        "SAVEPOINT s; CREATE TEMP TABLE people (id int); ROLLBACK TO s; SELECT * FROM people",
    ],
)
def test_statement_behind_an_end_of_what_the_message_changed_is_refused(
    open_session: Open, sql: str
) -> None:
    with pytest.raises(ClientError, match="behind one that changes the session"):
        read_facts(sql.encode(), open_session().context(), simple=True)


def test_sampling_method_of_an_extension_is_taken_where_it_is_installed(open_session: Open) -> None:
    context = open_session().context()
    sql = b"SELECT count(*) FROM pg_catalog.pg_am TABLESAMPLE system_rows (2)"
    with pytest.raises(ClientError, match="sampling method"):
        read_facts(sql, context, simple=True)
    catalog = dataclasses.replace(context.catalog, extensions={"tsm_system_rows": "public"})
    assert read_facts(sql, dataclasses.replace(context, catalog=catalog), simple=True)


def test_role_may_be_given_back_and_no_other_taken(open_session: Open) -> None:
    context = open_session().context()
    own = "SET ROLE clerk"
    for sql in ("SET ROLE NONE", "RESET ROLE", "SET SESSION AUTHORIZATION DEFAULT", own):
        asked = dataclasses.replace(context, role="clerk")
        assert read_facts(sql.encode(), asked, simple=True)
    for sql in ("SET ROLE owner", "SET SESSION AUTHORIZATION clerk", "SET LOCAL ROLE owner", own):
        with pytest.raises(ClientError, match="permission denied to set parameter"):
            read_facts(sql.encode(), dataclasses.replace(context, role="desk"), simple=True)


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT 1 FROM", "syntax error at end of input"),
        ("SELECT id FROM t WHERE )", 'syntax error at or near ")"'),
        ("SELECT 'a' 'ann-secret'", "syntax error"),
        ("SELECT 1 78050", "syntax error"),
        ("SELECT 'open", "syntax error"),
    ],
)
def test_syntax_error_is_told_as_by_the_server_but_for_literals(
    open_session: Open, sql: str, told: str
) -> None:
    with pytest.raises(ClientError) as caught:
        read_facts(sql.encode(), open_session().context(), simple=True)
    assert (caught.value.report.sqlstate, caught.value.report.message) == ("42601", told)


def test_literals_that_decide_are_bound_and_others_are_free(open_session: Open) -> None:
    context = open_session().context()

    def bound(sql: str) -> list[str]:
        (facts,) = read_facts(sql.encode(), context, simple=True)
        tokens = Tokens(sql.encode())
        return [tokens.raw(index).decode() for index in facts.bound]

    assert bound("SELECT id FROM users WHERE id = 7 AND name IN ('a', 'b')") == []
    assert bound("SELECT id FROM users WHERE note LIKE 'a%' LIMIT 5") == ["'a%'", "5"]
    assert bound("SELECT count(*) FROM users GROUP BY 1") == ["1"]
    assert bound("SELECT current_setting('TimeZone')") == ["'TimeZone'"]
    assert bound("INSERT INTO orders VALUES (1, 2, 3, 'x')") == []


def test_escaped_names_are_cached_by_their_text(open_session: Open) -> None:
    (facts,) = read_facts(
        b"""SELECT 1 FROM U&"us!0065rs" UESCAPE '!'""", open_session().context(), simple=True
    )
    assert facts.cacheable == "exact"


def test_denial_names_policy_rule_and_what_to_do(open_session: Open) -> None:
    context = open_session().context()
    text = b"SELECT email FROM users"
    facts = read_facts(text, context, simple=True)
    reason = {"policy": "shop/desk", "rule": "read", "effect": "deny", "message": "not at night"}
    plan = make_plan(text, facts, (allowed(allow=False, reasons=(reason,)),), context)
    audit = json.loads(plan.statements[0].audit)
    assert (audit["verdict"], audit["reasons"]) == ("deny", [reason])
    assert plan.statements[0].governed


@pytest.mark.parametrize(
    ("rule", "message", "told"),
    [
        (
            "read",
            "Denied by rule read of policy shop/desk.",
            "Denied by policy shop/desk, rule read.",
        ),
        (
            "guardrails.drop",
            "DROP is not allowed here. Guardrail of policy shop/desk.",
            "Denied by policy shop/desk, rule guardrails.drop: DROP is not allowed here.",
        ),
        (
            "writeOracles.keys",
            "It would tell. Denied by policy shop/desk.",
            "Denied by policy shop/desk, rule writeOracles.keys: It would tell.",
        ),
    ],
)
def test_denial_names_its_policy_once(
    open_session: Open, rule: str, message: str, told: str
) -> None:
    context = open_session().context()
    text = b"SELECT email FROM users"
    facts = read_facts(text, context, simple=True)
    reason = {"policy": "shop/desk", "rule": rule, "effect": "deny", "message": message}
    plan = make_plan(text, facts, (allowed(allow=False, reasons=(reason,)),), context)
    denial = plan.statements[0].denial
    assert denial is not None
    assert denial.error.detail == told


def test_audit_facts_hold_names_and_no_literal(open_session: Open) -> None:
    context = open_session().context()
    text = b"SELECT email FROM users WHERE name = 'secret word' AND id = 4711"
    facts = read_facts(text, context, simple=True)
    plan = make_plan(text, facts, (allowed(),), context)
    audit = json.loads(plan.statements[0].audit)
    assert audit["classes"] == ["pii.email"]
    assert audit["masks"] == [{"table": "public.users", "column": "email", "mask": "email"}]
    assert audit["filters"] == ["public.users"]
    assert b"secret" not in plan.statements[0].audit
    assert b"4711" not in plan.statements[0].audit


def test_refused_text_is_one_denied_statement(open_session: Open) -> None:
    report = ErrorReport(sqlstate=SqlState.FEATURE_NOT_SUPPORTED, message="no")
    plan = deny_plan(b"SELECT 1; SELECT 2", report, open_session().context())
    assert len(plan.statements) == 1
    assert plan.statements[0].tokens == (0, len(_native.tokens(b"SELECT 1; SELECT 2")))


@pytest.mark.parametrize(
    ("name", "value", "fine"),
    [
        ("application_name", "x", True),
        ("TimeZone", "UTC", True),
        ("client_encoding", "'UTF8'", True),
        ("client_encoding", "latin1", False),
        ("standard_conforming_strings", "on", True),
        ("standard_conforming_strings", "off", False),
        ("client_min_messages", "log", False),
        ("debug_print_plan", "on", False),
        ("role", "x", False),
        ("app.tenant", "1", False),
        ("session_replication_role", "replica", False),
    ],
)
def test_only_harmless_settings_may_be_set(name: str, value: str, fine: bool) -> None:
    assert (settings_allowed(name, value) is None) is fine


@pytest.mark.parametrize(
    "sql",
    [
        "SHOW app.salt",
        "SELECT current_setting('app.salt')",
        "SELECT * FROM pg_stats",
        "UPDATE pg_settings SET setting = 'UTC' WHERE name = 'TimeZone'",
        "COPY people TO '/tmp/people'",
        "COPY people TO STDOUT (ENCODING 'LATIN1')",
        "COPY pg_description FROM STDIN",
        "SELECT name COLLATE tools.other FROM users",
        "SELECT u.pg_read_file FROM users u",
        "SET TRANSACTION SNAPSHOT '00000003-0000001B-1'",
    ],
)
def test_refusal_says_why_and_what_to_do_next(open_session: Open, sql: str) -> None:
    session = open_session()
    with pytest.raises(ClientError) as caught:
        read_facts(sql.encode(), session.context(), simple=True)
    report = caught.value.report
    detail, hint = report.detail or "", report.hint or ""
    assert "refuses this" not in detail
    assert detail[:1].isupper()
    assert detail.endswith(".")
    assert hint.endswith(".")


def test_settings_that_a_session_may_change_may_be_shown(open_session: Open) -> None:
    context = open_session().context()
    for sql in (
        "SHOW pg_trgm.similarity_threshold",
        "SELECT current_setting('pg_trgm.similarity_threshold')",
    ):
        assert read_facts(sql.encode(), context, simple=True)
