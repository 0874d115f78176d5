"""Each hazard of rewriting, shown on plain PostgreSQL with the obvious rewriting, and gone with the plan.

The numbers are those of the sections in the notes on what rewriting must survive.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from sluice_proxy import _native
from sluice_proxy.catalog.reader import CatalogReader
from sluice_proxy.decisions import Level, SessionContext
from sluice_proxy.facts import read_facts
from sluice_proxy.facts.lexer import Tokens
from sluice_proxy.facts.tree import dictionaries, parse, strings
from sluice_proxy.reports import ClientError

Open = Callable[..., Any]

DEAR = " OPERATOR(pg_catalog.+) 0" * 8
USERS = f"(SELECT * FROM public.users s WHERE (s.tenant{DEAR}) OPERATOR(pg_catalog.=) 1) users"
"""What one would splice in: a filtered sub-select, which PostgreSQL flattens."""

ORDER = r"""
SELECT count(*) FROM {users} WHERE note LIKE '(8%\'
SELECT count(*) FROM {users} WHERE id > 104 AND 'x' ~ note
SELECT count(*) FROM {users} WHERE 1 / (id - 105) < 5
SELECT count(*) FROM {users} JOIN orders o ON o.id = 1 / (users.id - 105) AND o.id = 5
SELECT count(*) FROM orders o RIGHT JOIN {users} ON users.id = o.id WHERE 1 / (users.id - 105) < 5
SELECT count(*) FROM (SELECT 1 / (id - 105) AS k FROM {users}) x WHERE k < 5
SELECT count(*) FROM {users}, LATERAL (SELECT 1 / (users.id - 105) AS k) l WHERE l.k < 5
SELECT id FROM {users} GROUP BY id HAVING 1 / (id - 105) < 5
SELECT count(*) FROM {users} WHERE set_config('application_name', note, true) <> '(8\'
"""


@pytest.mark.parametrize("sql", ORDER.strip().splitlines())
def test_1_predicate_runs_before_the_filter(sessions: list[Any], sql: str) -> None:
    one, other, _ = sessions
    after = "; SELECT current_setting('application_name')" if "set_config" in sql else ""
    plain = [each.raw(sql.format(users=USERS) + after) for each in (one, other)]
    assert (plain[0].rows, plain[0].sqlstate) != (plain[1].rows, plain[1].sqlstate), plain
    held = [each.ask(sql.format(users="users")) for each in (one, other)]
    seen = [(answer.rows, answer.sqlstate, answer.refused) for answer in held]
    assert seen[0] == seen[1], held
    if after and held[0].refused is None:
        told = [each.raw(held[0].text + after).rows for each in (one, other)]
        assert told[0] == told[1]


def test_1_advisory_lock_on_a_hidden_row(sessions: list[Any]) -> None:
    sql = "SELECT count(*) FROM {users} WHERE pg_try_advisory_lock(id) AND id BETWEEN 95 AND 104"
    locks = "; SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    plain = sessions[0].raw(sql.format(users=USERS) + locks)
    sessions[0].connection.execute("SELECT pg_advisory_unlock_all()")
    assert "101" in str(plain.rows)
    answer = sessions[0].ask(sql.format(users="users"))
    assert answer.refused is not None or "101" not in str(sessions[0].raw(answer.text + locks).rows)


def test_2_statement_prepared_over_a_temporary_table(open_session: Open) -> None:
    session = open_session()
    make = "CREATE TEMP TABLE people (id int, email text)"
    query = "SELECT id, email FROM people"
    for rewritten in (False, True):
        connection: Any = session.connection
        connection.execute(make)
        text = session.rewritten(query) if rewritten else query
        connection.execute(f"PREPARE p AS {text}")
        connection.execute("DROP TABLE pg_temp.people")
        if rewritten:
            with pytest.raises(psycopg.Error):
                connection.execute("EXECUTE p")
        else:
            assert "canary" in str(connection.execute("EXECUTE p").fetchall())
        connection.execute("DEALLOCATE p")


def test_2_statement_prepared_under_another_path(open_session: Open) -> None:
    session = open_session()
    query = "SELECT * FROM orders WHERE id = 1"
    seen: list[str] = []
    for rewritten in (False, True):
        connection: Any = session.connection
        connection.execute("SET search_path = public")
        connection.execute(f"PREPARE p AS {session.rewritten(query) if rewritten else query}")
        connection.execute("SET search_path = old, public")
        try:
            seen.append(str(connection.execute("EXECUTE p").fetchall()))
        except psycopg.Error as error:
            seen.append(type(error).__name__)
        connection.execute("DEALLOCATE p")
        connection.execute("RESET search_path")
    assert "memo 1" in seen[1]
    assert "memo 1" not in seen[0]


HIJACK = """
CREATE SCHEMA sandbox;
CREATE TABLE hits (id int PRIMARY KEY, tenant int, email varchar(80));
INSERT INTO hits VALUES (1, 1, 'canary@one.example'), (2, 2, 'hidden@two.example');
CREATE FUNCTION sandbox.split_part(varchar, text, int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT $1::text $$;
CREATE FUNCTION sandbox.yes(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT true $$;
CREATE OPERATOR sandbox.= (LEFTARG = int, RIGHTARG = int, FUNCTION = sandbox.yes);
"""


def in_private(dsn: str, context: SessionContext, table: str) -> SessionContext:
    """Return a context of a private database whose ``table`` has the tests' mask and row filter."""

    async def read() -> Any:
        reader = CatalogReader(dsn)
        try:
            return await reader.read()
        finally:
            await reader.close()

    decision = context.decision
    (row_filter, *_) = decision.row_filters
    entry = dataclasses.replace(decision.entries[0], table=table)
    made = dataclasses.replace(
        decision, entries=(entry,), row_filters=(dataclasses.replace(row_filter, table=table),)
    )
    return dataclasses.replace(context, catalog=asyncio.run(read()), decision=made)


def connect(dsn: str) -> Any:
    return psycopg.connect(dsn, autocommit=True)


def rewritten(sql: str, context: SessionContext) -> str:
    facts = read_facts(sql.encode(), context, simple=True)
    edits = [_native.Edit(e.start, e.end, e.text.encode()) for f in facts for e in f.edits]
    return _native.apply_edits(sql.encode(), edits).decode()


def test_3_functions_and_operators_of_the_path_are_not_taken(
    open_session: Open, new_database: Callable[[str], str]
) -> None:
    dsn = new_database(HIJACK)
    context = in_private(dsn, open_session().context(), "public.hits")
    naive = "SELECT split_part(email, '@', 2) FROM public.hits WHERE tenant = 1"
    with connect(dsn) as connection:
        connection.execute("SET search_path = sandbox, public, pg_catalog")
        shown = connection.execute(naive).fetchall()
        assert len(shown) == 2, "the operator was not hijacked"
        assert "canary" in str(shown), "the function was not hijacked"
        held = connection.execute(rewritten("SELECT email FROM public.hits", context)).fetchall()
        assert held == [("c***@one.example",)]


def test_3_every_name_inside_a_splice_is_qualified(sessions: list[Any]) -> None:
    text = sessions[0].rewritten("SELECT * FROM users")
    (statement,) = parse(text.encode())
    for key, node in dictionaries(statement.body):
        if key == "FuncCall":
            assert strings(node["funcname"])[0] == "pg_catalog"
        elif key == "TypeName" or (key == "typeName" and "names" in node):
            assert strings(node["names"])[0] == "pg_catalog", node
        elif key == "A_Expr":
            assert strings(node["name"])[0] == "pg_catalog", node
        elif key == "ColumnRef" and "A_Star" not in node["fields"][-1]:
            assert len(node["fields"]) == 2, node


def test_3_filter_column_is_not_captured_by_the_query_around(
    open_session: Open, new_database: Callable[[str], str]
) -> None:
    dsn = new_database(HIJACK)
    context = in_private(dsn, open_session().context(), "public.hits")
    query = "SELECT (SELECT string_agg(id::text, ',') FROM {hits}) FROM (SELECT 1 AS tenant) x"
    text = rewritten(query.format(hits="public.hits"), context)
    with connect(dsn) as connection:
        connection.execute("ALTER TABLE hits RENAME tenant TO owner")
        naive = query.format(hits="(SELECT id FROM public.hits WHERE tenant = 1) hits")
        assert connection.execute(naive).fetchall() == [("1,2",)]
        assert connection.execute(text).fetchall() == [
            ("1",)
        ]  # By position: the filter still holds.


def test_4_renames_and_swaps_do_not_show_other_columns(
    open_session: Open, new_database: Callable[[str], str]
) -> None:
    dsn = new_database(HIJACK)
    context = in_private(dsn, open_session().context(), "public.hits")
    text = rewritten("SELECT email FROM public.hits", context)
    with connect(dsn) as connection:
        connection.execute("ALTER TABLE hits RENAME id TO x")
        connection.execute("ALTER TABLE hits RENAME email TO id")
        connection.execute("ALTER TABLE hits RENAME x TO email")
        assert connection.execute("SELECT id FROM hits WHERE tenant = 1").fetchall() != [(1,)]
        assert connection.execute(text).fetchall() == [("c***@one.example",)]
        connection.execute("ALTER TABLE hits DROP COLUMN email")
        with pytest.raises(psycopg.errors.InvalidColumnReference):
            connection.execute(text)
        connection.execute("DROP TABLE hits")
        connection.execute(
            "CREATE TABLE hits AS SELECT 1 AS id, 1 AS tenant, 'canary@other'::varchar(80) AS email"
        )
        with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="catalog changed"):
            connection.execute(text)


SAME_TEMPLATE = [
    (
        "SELECT count(*) FROM users WHERE note LIKE 'a%'",
        "SELECT count(*) FROM users WHERE note LIKE 'a\\'",
    ),
    ("SELECT count(*), id FROM users GROUP BY 2", "SELECT count(*), id FROM users GROUP BY 1"),
    ("SELECT id FROM users LIMIT 1", "SELECT id FROM users LIMIT 2"),
    ("SELECT pg_table_size('users')", "SELECT pg_table_size('tree')"),
    ("SELECT current_setting('TimeZone')", "SELECT current_setting('DateStyle')"),
    ("SELECT count(*) FROM users WHERE 'a' ~ note", "SELECT count(*) FROM users WHERE '(' ~ note"),
    (
        "SELECT to_tsvector('english', note) FROM users",
        "SELECT to_tsvector('simple', note) FROM users",
    ),
    (
        "SELECT has_table_privilege('users', 'SELECT')",
        "SELECT has_table_privilege('tree', 'SELECT')",
    ),
    (
        "SELECT id FROM users WHERE id = 1 ORDER BY 1",
        "SELECT id FROM users WHERE id = 1 ORDER BY 2",
    ),
    ("SET search_path = 'public'", "SET search_path = 'old'"),
    ("SELECT regclass 'users'", "SELECT regclass 'tree'"),
    ("SELECT 1 FROM U&\"!0075sers\" UESCAPE '!'", "SELECT 1 FROM U&\"!0075sers\" UESCAPE '#'"),
]


@pytest.mark.parametrize(("first", "second"), SAME_TEMPLATE)
def test_5_statements_of_one_template_that_mean_other_things_have_keys_of_their_own(
    sessions: list[Any], first: str, second: str
) -> None:
    def key(sql: str) -> Any:
        try:
            (facts,) = read_facts(sql.encode(), sessions[0].context(), simple=True)
        except ClientError as error:
            return error.report.message  # A denial is kept by its exact text.
        tokens = Tokens(sql.encode())
        exact = facts.cacheable == "exact"
        return sql if exact else tuple(tokens.raw(index) for index in facts.bound)

    assert key(first) != key(second)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE users SET note = 'x' -- the end",
        "DELETE FROM orders /* a */ -- b",
        "SELECT '\u00e9\U0001f600', email FROM /* public . */ users -- c",
        "SELECT email FROM ONLY ( public . /* c */ users ) WHERE id = 1--",
        "TABLE /* \U0001f600 */ users -- x",
        "COPY users (id, name) TO STDOUT -- x",
    ],
)
def test_6_splices_meet_neither_comments_nor_wide_characters(sessions: list[Any], sql: str) -> None:
    text = sessions[0].rewritten(sql)
    parse(text.encode())
    assert "public" in text
    if not sql.startswith("COPY"):
        assert sessions[0].raw(text).sqlstate is None, text


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT json_value(note, '$')",
        "SELECT json_array(1, 2)",
        "SELECT json_object('a': 1)",
        "SELECT '{}' IS JSON",
    ],
)
def test_6_what_an_older_server_reads_otherwise_is_refused_there(
    sessions: list[Any], sql: str
) -> None:
    assert sessions[0].catalog.server_major == 15
    with pytest.raises(ClientError, match="reads in another way"):
        read_facts(sql.encode(), sessions[0].context(), simple=True)


def test_11_no_row_is_locked_that_is_not_asked_for(open_session: Open) -> None:
    one, other = open_session(), open_session()
    sql = "SELECT id FROM users WHERE note ~ '^note 1$' FOR UPDATE"
    fenced = (
        "SELECT id FROM (SELECT * FROM users OFFSET 0) users WHERE note ~ '^note 1$' FOR UPDATE"
    )
    free = "SELECT count(*) FROM (SELECT id FROM users FOR UPDATE SKIP LOCKED) x"
    every = other.raw("SELECT count(*) FROM users").rows
    left: list[tuple[str, ...]] = []
    for text in (fenced, one.rewritten(sql)):
        one.connection.execute("BEGIN")
        one.connection.execute(text)
        left.append(other.raw(free).rows)
        one.connection.execute("ROLLBACK")
    assert left[0] == ("[b'0']",)
    assert int(left[1][0][3:-2]) == int(every[0][3:-2]) - 1


def test_11_columns_that_are_not_granted_are_not_named(
    open_session: Open, new_database: Callable[[str], str]
) -> None:
    dsn = new_database(
        HIJACK + "CREATE ROLE facts_narrow; GRANT SELECT (id, tenant) ON hits TO facts_narrow"
    )
    context = in_private(dsn, open_session().context(), "public.hits")
    try:
        with connect(dsn) as connection:
            connection.execute("SET ROLE facts_narrow")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT id FROM (SELECT id, tenant, email FROM hits) hits")
            assert connection.execute(rewritten("SELECT id FROM hits", context)).fetchall() == [
                (1,)
            ]
    finally:
        with connect(dsn) as connection:
            connection.execute("DROP OWNED BY facts_narrow; DROP ROLE facts_narrow")


def test_11_copy_of_a_table_leaves_children_and_generated_columns_out(
    open_session: Open, new_database: Callable[[str], str]
) -> None:
    made = (
        HIJACK + "CREATE TABLE more () INHERITS (hits); INSERT INTO more VALUES (3, 1, 'child@x');"
    )
    made += "ALTER TABLE hits ADD twice int GENERATED ALWAYS AS (id * 2) STORED"
    dsn = new_database(made)
    context = in_private(dsn, open_session().context(), "public.hits")

    def copied(text: str) -> bytes:
        with connect(dsn) as connection, connection.cursor().copy(text) as copy:
            return b"".join(bytes(data) for data in copy)

    assert b"child" in copied("COPY (SELECT * FROM hits) TO STDOUT")
    assert copied(rewritten("COPY hits TO STDOUT", context)) == b"1\t1\tc***@one.example\n"


def test_restricted_sessions_are_what_is_tested(sessions: list[Any]) -> None:
    assert all(each.context().decision.level is Level.RESTRICTED for each in sessions)
