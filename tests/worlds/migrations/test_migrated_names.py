"""Migrations that tie and rename tables, through the whole product: foreign keys, new names."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

ROLE = "migrator"


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
    last: Any,
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
    session: psycopg.Connection[Any], admin: psycopg.Connection[Any], last: Any
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
