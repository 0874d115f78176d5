"""What migrations send, through the whole product: transactions, new tables, scripts in one message."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest


@pytest.mark.parametrize(
    "sql",
    [
        "BEGIN; INSERT INTO notes VALUES (70, 'x'); ROLLBACK; SELECT email FROM users WHERE id = 1",
        "BEGIN; SELECT 1; COMMIT; SELECT email FROM users WHERE id = 1",
        "COMMIT; BEGIN; SELECT email FROM users WHERE id = 1; COMMIT",
        "BEGIN; SAVEPOINT s; SELECT 1; ROLLBACK TO s; SELECT email FROM users WHERE id = 1",
        "CREATE TEMP TABLE IF NOT EXISTS users (email text); ROLLBACK; SELECT email FROM users WHERE id = 1",
    ],
)
def test_what_follows_the_end_of_a_transaction_runs_and_is_masked(
    session: psycopg.Connection[Any], sql: str
) -> None:
    cursor = session.execute(sql.encode())
    rows = [] if cursor.description is None else cursor.fetchall()
    while cursor.nextset():
        rows = cursor.fetchall() if cursor.description else rows
    assert rows == [("***",)]


def test_what_follows_the_end_of_a_transaction_that_changed_the_session_is_refused(
    session: psycopg.Connection[Any],
) -> None:
    session.execute("BEGIN")
    session.execute("CREATE TEMP TABLE users (email text)")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        session.execute("ROLLBACK; SELECT email FROM users")
    assert "in a message of its own" in str(caught.value.diag.message_hint)
    session.execute("ROLLBACK")
    assert session.execute("SELECT email FROM users WHERE id = 1").fetchall() == [("***",)]


@pytest.mark.parametrize("separate", [True, False], ids=["messages", "one message"])
def test_table_is_used_in_the_transaction_that_made_it(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], last: Any, *, separate: bool
) -> None:
    steps = [
        "BEGIN",
        "CREATE TABLE made (id serial PRIMARY KEY, email text, note text)",
        "CREATE INDEX made_note ON made (note)",
        "INSERT INTO made (email, note) SELECT email, name FROM users ORDER BY id RETURNING id",
        "UPDATE public.made SET note = note || '!' WHERE id = 2",
        "DELETE FROM made WHERE note = 'a'",
        "SELECT m.email, m.note, u.email FROM made m JOIN users u ON u.id = m.id",
    ]
    if separate:
        for step in steps[:-1]:
            session.execute(step.encode())
        session.execute("ALTER TABLE made ADD COLUMN more int DEFAULT 7")
        session.execute("SAVEPOINT s")
        assert session.execute("SELECT more FROM made").fetchall() == [(7,)]
        assert session.execute("SELECT nextval('made_id_seq') > 2").fetchall() == [(True,)]
        with pytest.raises(psycopg.errors.UndefinedTable):
            session.execute("SELECT * FROM nowhere")
        session.execute("ROLLBACK TO s")
        rows = session.execute(steps[-1].encode()).fetchall()
    else:
        rows = last(session, "; ".join(steps))
    assert rows == [("***", "b!", "***")]
    session.execute("COMMIT")
    assert session.execute("SELECT email FROM made").fetchall() == [("***",)]
    assert admin.execute("SELECT count(*) FROM made WHERE email LIKE 'canary%'").fetchall() == [
        (0,)
    ]
    session.execute("DROP TABLE made")


def test_table_is_used_in_the_pipeline_that_made_it(session: psycopg.Connection[Any]) -> None:
    with session.pipeline():
        session.execute("BEGIN")
        session.execute("CREATE TABLE piped (id int PRIMARY KEY, email text)")
        session.execute("INSERT INTO piped SELECT id, email FROM users WHERE id = %s", [1])
        shown = session.execute("SELECT id, email FROM piped WHERE id = %s", [1])
        gone = session.execute("DELETE FROM piped RETURNING piped")
        assert shown.fetchall() == [(1, "***")]
        assert gone.fetchall() == [("(1,***)",)]
        session.execute("ROLLBACK")
    with pytest.raises(psycopg.errors.UndefinedTable):
        session.execute("SELECT * FROM piped")


def test_table_made_of_a_query_is_used_in_its_transaction(session: psycopg.Connection[Any]) -> None:
    session.execute("BEGIN")
    session.execute("CREATE TABLE copied AS SELECT id, email FROM users")
    assert session.execute("SELECT DISTINCT email FROM copied").fetchall() == [("***",)]
    session.execute("ROLLBACK")
    with pytest.raises(psycopg.errors.UndefinedTable):
        session.execute("SELECT * FROM copied")


def test_table_that_was_rolled_back_is_not_taken_for_a_foreign_one_of_its_name(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    session.execute("BEGIN")
    session.execute("CREATE TABLE again (id int, secret text)")
    session.execute("ROLLBACK")
    admin.execute(
        "CREATE TABLE again (id int, secret text); INSERT INTO again VALUES (1, 'canary')"
    )
    admin.execute("GRANT SELECT ON again TO migrator")
    assert session.execute("SELECT secret FROM again").fetchall() == [("***",)]
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        session.execute("BEGIN; CREATE TABLE later (id int); COMMIT; SELECT * FROM later")
    session.execute("BEGIN")
    session.execute("CREATE TABLE IF NOT EXISTS again (id int, secret text)")
    assert session.execute("SELECT secret FROM again").fetchall() == [("***",)]
    session.execute("ROLLBACK")
    admin.execute("DROP TABLE again")


def test_table_of_another_session_is_none_that_the_transaction_made(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    session.execute("BEGIN")
    session.execute("CREATE TABLE own (id int)")
    admin.execute("CREATE TABLE other (secret text); INSERT INTO other VALUES ('canary')")
    admin.execute("GRANT SELECT ON other TO migrator")
    session.execute("CREATE TABLE own2 (id int)")
    assert session.execute("SELECT secret FROM other").fetchall() == [("***",)]
    session.execute("ROLLBACK")
    admin.execute("DROP TABLE other")


def test_table_that_a_policy_speaks_of_is_written_and_not_read_in_its_transaction(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    session.execute("BEGIN")
    session.execute("CREATE TABLE vault (id int, secret text)")
    session.execute("INSERT INTO vault VALUES (1, 'mine')")
    with session.cursor().copy("COPY vault FROM STDIN") as copy:
        copy.write(b"2\tmine too\n")
    for sql in (
        "SELECT secret FROM vault",
        "TABLE vault",
        "COPY vault TO STDOUT",
        "INSERT INTO vault VALUES (3, 'x') RETURNING secret",
        "UPDATE vault SET id = 3",
        "DELETE FROM vault WHERE secret = 'mine'",
        "CREATE TEMP VIEW v AS SELECT * FROM vault",
    ):
        session.execute("SAVEPOINT s")
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
            session.execute(sql.encode())
        assert "COMMIT before the table is read" in str(caught.value.diag.message_hint)
        session.execute("ROLLBACK TO s")
    session.execute("COMMIT")
    assert session.execute("SELECT id, secret FROM vault ORDER BY id").fetchall() == [
        (1, "***"),
        (2, "***"),
    ]
    admin.execute("DROP TABLE vault")


SCRIPT = """
BEGIN;
DROP TABLE IF EXISTS script_b;
CREATE TABLE script_a (id serial PRIMARY KEY, email text);
CREATE TABLE script_b AS SELECT id, email FROM users;
CREATE SEQUENCE script_s;
CREATE UNIQUE INDEX script_i ON script_a (email);
INSERT INTO script_a (email) VALUES ('a'), ('b');
ALTER TABLE script_a ADD COLUMN note text, ADD CHECK (id > 0);
UPDATE script_a SET note = email || nextval('script_s');
SELECT a.id, b.email, u.email, note IS NULL FROM script_a a JOIN script_b b USING (id)
JOIN users u USING (id) ORDER BY 1
"""


def test_script_of_a_migration_runs_as_one_message_and_copies_masks(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], last: Any
) -> None:
    rows = [(1, "***", "***", False), (2, "***", "***", False)]
    assert last(session, SCRIPT) == rows
    session.execute("COMMIT")
    assert admin.execute("SELECT DISTINCT email FROM script_b").fetchall() == [("***",)]
    session.execute("DROP TABLE script_a")
    admin.execute("DROP SEQUENCE script_s")
    assert last(session, SCRIPT) == rows
    session.execute("ROLLBACK")


def test_column_that_a_policy_speaks_of_is_not_read_in_the_message_that_adds_it(
    session: psycopg.Connection[Any],
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
        session.execute("CREATE TABLE w (id int); ALTER TABLE w ADD secret text; SELECT * FROM w")
    assert "COMMIT before the table is read" in str(caught.value.diag.message_hint)


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE notes; CREATE TABLE notes (secret text); SELECT * FROM notes",
        "CREATE TABLE later (id int); COMMIT; SELECT * FROM later",
    ],
)
def test_script_that_gives_a_name_another_meaning_is_refused(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], sql: str
) -> None:
    admin.execute("ALTER TABLE notes OWNER TO migrator")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        session.execute(sql.encode())
    assert "one by one" in str(caught.value.diag.message_hint)
