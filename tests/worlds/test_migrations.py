"""What migrations, ORMs and drivers send, through the whole product: transactions, new tables, unknown functions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from sluice_dev.restricted import Restriction

ROLE = "migrator"
SCHEMA = f"""
CREATE TABLE public.users (id int PRIMARY KEY, email text, name text DEFAULT 'x');
INSERT INTO public.users VALUES (1, 'canary@one.example', 'a'), (2, 'canary@two.example', 'b');
CREATE TABLE public.notes (id int PRIMARY KEY, note text);
CREATE FUNCTION public.steal() RETURNS text LANGUAGE sql AS $$ SELECT email FROM public.users LIMIT 1 $$;
CREATE ROLE {ROLE} LOGIN;
GRANT CREATE, USAGE ON SCHEMA public TO {ROLE};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE};
"""


RESTRICTION = Restriction(
    name="mig",
    role=ROLE,
    unreviewed="allow",
    columns=[
        {"table": "public.users", "column": "email", "class": "pii.email"},
        {"table": "public.*", "column": "secret", "class": "pii.email"},
    ],
    masks=[{"class": "pii.email", "mask": "redact"}],
    actions=[
        *("select", "insert", "update", "delete", "merge", "copyIn", "copyOut"),
        *("ddl.create", "ddl.alter", "ddl.drop", "session"),
    ],
)


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[str, str]]:
    """DSNs straight to the server, as its administrator, and through Sluice."""
    with RESTRICTION.running(SCHEMA) as (server, sluice):
        yield server.dsn(dbname="mig"), sluice.dsn(user=ROLE, password="")


@pytest.fixture
def admin(both: tuple[str, str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(both[0], autocommit=True) as connection:
        yield connection


@pytest.fixture
def session(both: tuple[str, str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(both[1], autocommit=True) as connection:
        yield connection
        connection.execute("ROLLBACK")


def last(session: psycopg.Connection[Any], sql: str) -> list[Any]:
    """Return the rows of a message's last statement."""
    cursor = session.execute(sql.encode())
    while cursor.nextset():
        pass
    return cursor.fetchall()


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
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], *, separate: bool
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
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any]
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


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT nope()",
        "SELECT nope(1, 'x', 2.5, true, NULL, 3000000000)",
        "SELECT id FROM notes WHERE nope(id, note)",
        "SELECT * FROM nope(7)",
        "SELECT public.nope('x'::varchar, now(), '{a}'::text[])",
        "SELECT pg_catalog.nope()",
        "SELECT public.lower('x')",
        "SELECT nowhere.nope()",
        "SELECT max(nope()) FROM users",
        "CALL nope(1)",
    ],
)
def test_function_that_is_nowhere_is_told_as_by_the_server(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], sql: str
) -> None:
    told: list[tuple[str | None, str | None]] = []
    for connection in (admin, session):
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(sql.encode())
        told.append((caught.value.diag.sqlstate, caught.value.diag.message_primary))
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT steal()",
        "SELECT public.steal()",
        "SELECT pg_read_file('x')",
        "SELECT pg_catalog.pg_read_file('x')",
        "SELECT email(users) FROM users",
        "SELECT information_schema.nope()",
        "SELECT nope(x) FROM (SELECT 1 AS nope) x",
        "SELECT pg_notify('x', 'y')",
    ],
)
def test_function_that_is_there_and_not_known_is_denied(
    session: psycopg.Connection[Any], sql: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(sql.encode())


def test_function_that_comes_between_is_denied_and_not_called(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    with pytest.raises(psycopg.errors.UndefinedFunction):
        session.execute("SELECT late()")
    admin.execute(
        "CREATE FUNCTION late() RETURNS text LANGUAGE sql AS 'SELECT email FROM public.users LIMIT 1'"
    )
    for _ in range(30):
        with pytest.raises(
            (psycopg.errors.UndefinedFunction, psycopg.errors.InsufficientPrivilege)
        ) as caught:
            session.execute("SELECT late()")
        if caught.value.sqlstate == "42501":
            break
        time.sleep(0.1)
    else:
        pytest.fail("the catalog was not read again")
    admin.execute("DROP FUNCTION late")


@pytest.mark.parametrize("separate", [True, False], ids=["messages", "one message"])
def test_foreign_keys_tie_tables_that_no_policy_speaks_of(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], *, separate: bool
) -> None:
    admin.execute("DROP TABLE IF EXISTS posts, cats CASCADE")
    admin.execute(f"ALTER TABLE notes OWNER TO {ROLE}".encode())
    steps = (
        "BEGIN",
        "CREATE TABLE cats (id serial PRIMARY KEY, parent_id int REFERENCES cats (id) ON DELETE CASCADE)",
        """CREATE TABLE public.posts (id int, cat_id int NOT NULL REFERENCES cats,
           note_id int REFERENCES public.notes (id), up int, UNIQUE (id),
           FOREIGN KEY (up) REFERENCES posts (id) DEFERRABLE INITIALLY DEFERRED)""",
        "ALTER TABLE posts ADD CONSTRAINT again FOREIGN KEY (cat_id) REFERENCES cats (id)",
        "INSERT INTO cats VALUES (1, NULL), (2, 1)",
        "INSERT INTO posts VALUES (1, 2, NULL, 1)",
        "COMMIT",
    )
    for step in steps if separate else ("; ".join(steps),):
        session.execute(step.encode())
    known = """SELECT count(*), min(confrelid::regclass::text), max(confrelid::regclass::text) FROM pg_constraint
               WHERE contype = 'f' AND conrelid IN ('cats'::regclass, 'posts'::regclass)"""
    assert admin.execute(known.encode()).fetchall() == [(5, "cats", "posts")]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        session.execute("INSERT INTO posts VALUES (2, 77, NULL, NULL)")


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE tied (id int REFERENCES users)",
        "CREATE TABLE tied (id int REFERENCES public.users (id))",
        "CREATE TABLE tied (id int, email text, FOREIGN KEY (email) REFERENCES users (email))",
        "ALTER TABLE notes ADD FOREIGN KEY (id) REFERENCES users (id)",
        "CREATE TABLE tied (id oid REFERENCES pg_catalog.pg_class (oid))",
        "CREATE TABLE users (id int, up int REFERENCES public.users (id))",
        "CREATE TABLE hidden (id int PRIMARY KEY, secret text); CREATE TABLE tied (id int REFERENCES hidden)",
    ],
)
def test_foreign_key_to_what_a_policy_speaks_of_is_refused(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], sql: str
) -> None:
    admin.execute(
        f"ALTER TABLE notes OWNER TO {ROLE}; GRANT REFERENCES ON users TO {ROLE}".encode()
    )
    session.execute("BEGIN")
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.DuplicateTable)):
        session.execute(sql.encode())
    session.execute("ROLLBACK")
    assert admin.execute(
        "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND confrelid = 'users'::regclass"
    ).fetchone() == (0,)


@pytest.mark.parametrize("separate", [True, False], ids=["messages", "one message"])
@pytest.mark.parametrize(
    ("steps", "rows"),
    [
        (
            (
                "CREATE TABLE IF NOT EXISTS seen (id serial PRIMARY KEY, email text)",
                "INSERT INTO seen (email) SELECT email FROM users",
                "CREATE TABLE IF NOT EXISTS seen (id int, other int)",
                "SELECT DISTINCT email FROM seen",
            ),
            [("***",)],
        ),
        (
            (
                "CREATE TABLE IF NOT EXISTS users (id int, email text)",
                "SELECT email FROM users WHERE id = 1",
            ),
            [("***",)],
        ),
        (
            (
                "CREATE TABLE IF NOT EXISTS seen AS SELECT email FROM users",
                "SELECT DISTINCT email FROM seen",
            ),
            [("***",)],
        ),
        (
            (
                "ALTER TABLE notes RENAME TO remarks",
                "ALTER TABLE remarks RENAME COLUMN note TO remark",
                "INSERT INTO remarks VALUES (8, 'x')",
                "UPDATE public.remarks SET remark = remark || '!' WHERE id = 8",
                "SELECT r.remark, u.email FROM remarks r CROSS JOIN users u WHERE r.id = 8 AND u.id = 1",
            ),
            [("x!", "***")],
        ),
        (
            (
                "CREATE TABLE fresh (LIKE notes)",
                "INSERT INTO fresh VALUES (1, 'fresh')",
                "ALTER TABLE notes RENAME TO stale",
                "ALTER TABLE fresh RENAME TO notes",
                "SELECT note FROM notes",
            ),
            [("fresh",)],
        ),
    ],
)
def test_table_goes_by_its_new_name_in_the_transaction_that_gave_it(
    session: psycopg.Connection[Any],
    admin: psycopg.Connection[Any],
    steps: tuple[str, ...],
    rows: list[Any],
    *,
    separate: bool,
) -> None:
    admin.execute(f"ALTER TABLE notes OWNER TO {ROLE}".encode())
    session.execute("BEGIN")
    if separate:
        for step in steps[:-1]:
            session.execute(step.encode())
        assert session.execute(steps[-1].encode()).fetchall() == rows
    else:
        assert last(session, "; ".join(steps)) == rows
    session.execute("ROLLBACK")


def test_table_that_comes_before_if_not_exists_is_not_taken_for_the_one_that_is_made(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    made = "CREATE TABLE IF NOT EXISTS raced (id int, note text); SELECT * FROM raced"
    assert last(session, made) == []
    admin.execute("DROP TABLE raced")
    with admin.transaction():
        admin.execute("CREATE TABLE raced (id int, secret text)")
        admin.execute("INSERT INTO raced VALUES (1, 'canary')")
        admin.execute(f"GRANT ALL ON raced TO {ROLE}".encode())
    try:
        rows = last(session, made)
    except psycopg.errors.DuplicateTable:
        rows = []
    assert "canary" not in str(rows)
    assert last(session, made) == [(1, "***")]
    admin.execute("DROP TABLE raced")


def test_table_that_a_policy_speaks_of_by_its_new_name_is_not_read_before_commit(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    admin.execute(f"ALTER TABLE notes OWNER TO {ROLE}".encode())
    made = "CREATE TABLE vault (id int, plain text)"
    renamed = "ALTER TABLE vault RENAME plain TO secret"
    read = "SELECT * FROM vault"
    for steps in (
        ("ALTER TABLE notes RENAME note TO secret", "ALTER TABLE notes RENAME TO vault", read),
        (made, renamed, read),
        (f"{made}; {renamed}; {read}",),
        (f"CREATE TABLE vault (LIKE notes); ALTER TABLE vault RENAME note TO secret; {read}",),
    ):
        session.execute("BEGIN")
        for step in steps[:-1]:
            session.execute(step.encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
            session.execute(steps[-1].encode())
        assert "COMMIT before the table is read" in str(caught.value.diag.message_hint)
        session.execute("ROLLBACK")


@pytest.mark.parametrize("other", ["RENAME TO kept", "RENAME TO users3"])
def test_renaming_by_others_makes_no_table_the_sessions_own(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], other: str
) -> None:
    admin.execute(
        "CREATE TABLE passing (id int, secret text); INSERT INTO passing VALUES (1, 'canary')"
    )
    admin.execute(f"GRANT ALL ON passing TO {ROLE}".encode())
    session.execute("BEGIN")
    session.execute("CREATE TABLE own (id int)")
    admin.execute(f"ALTER TABLE passing {other}".encode())
    name = other.rpartition(" ")[2]
    session.execute("CREATE TABLE own2 (id int)")
    assert session.execute(f"SELECT secret FROM {name}".encode()).fetchall() == [("***",)]
    session.execute("ROLLBACK")
    admin.execute(f"DROP TABLE {name}".encode())


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE users RENAME TO mine",
        "ALTER TABLE users RENAME COLUMN email TO mine",
        "ALTER TABLE users RENAME TO mine; SELECT * FROM mine",
    ],
)
def test_governed_table_is_not_renamed(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], sql: str
) -> None:
    admin.execute(f"ALTER TABLE users OWNER TO {ROLE}".encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(sql.encode())
    admin.execute("ALTER TABLE users OWNER TO CURRENT_USER")
    admin.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON users TO {ROLE}".encode())


@pytest.mark.parametrize(
    ("argument", "drawn"),
    [
        ("pg_get_serial_sequence('counted', 'id')", 7),
        ("pg_catalog.pg_get_serial_sequence('public.counted', 'id')::regclass", 7),
        ("""pg_get_serial_sequence('"counted"', 'note')""", None),
    ],
)
def test_sequence_of_a_column_is_set_as_mappers_do(
    session: psycopg.Connection[Any], argument: str, drawn: int | None
) -> None:
    session.execute("BEGIN")
    session.execute("CREATE TABLE counted (id serial, note text)")
    session.execute("COMMIT")
    known = f"SELECT setval({argument}, coalesce(max(id), 7)) FROM counted"
    assert session.execute(known.encode()).fetchall() == [(drawn,)]
    session.execute("DROP TABLE counted")


def test_sequence_of_a_hidden_column_is_not_set(
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    admin.execute(
        "CREATE TABLE numbered (secret serial); GRANT ALL ON numbered, numbered_secret_seq TO migrator"
    )
    session.execute("SELECT 1")
    for sql in (
        "SELECT setval(pg_get_serial_sequence('numbered', 'secret'), 5)",
        "SELECT nextval(pg_get_serial_sequence('numbered', 'secret'))",
        "SELECT nextval(pg_get_serial_sequence('numbered', name)) FROM users",
    ):
        with pytest.raises(psycopg.Error) as caught:
            session.execute(sql.encode())
        assert caught.value.sqlstate in ("42501", "42P01")
    admin.execute("DROP TABLE numbered")


def test_masked_columns_and_rows_in_returning_keep_their_names_under_a_cast(
    session: psycopg.Connection[Any],
) -> None:
    cursor = session.execute(
        "UPDATE users u SET name = name WHERE id = 1 RETURNING email::varchar, u::text, (u).email::text, upper(u::text)"
    )
    assert [each.name for each in cursor.description or ()] == ["email", "u", "email", "upper"]
    assert [each.partition("***")[1] for each in cursor.fetchall()[0]] == ["***"] * 4
    rows = session.execute(
        "WITH w AS (UPDATE users SET name = name WHERE id = 1 RETURNING users::text, email::text) "
        "SELECT email, users LIKE '%canary%' FROM w"
    ).fetchall()
    assert rows == [("***", False)]
