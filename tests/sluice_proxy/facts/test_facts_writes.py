"""Writes: masks that come back are not written, rows outside the filter are refused by the server; also in MERGE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from sluice_proxy.facts import read_facts
from sluice_proxy.reports import ClientError

Open = Callable[..., Any]

OUTSIDE = "22P02"
"""What our own check raises; the data plane gives it its own words and 42501."""

WRITES = """
UPDATE users SET email = 'new@x', pay = 80000 WHERE id = 4 RETURNING id, email
UPDATE users SET email = lower(name) || '@x', note = 'y' WHERE id < 3 RETURNING email
UPDATE users SET (email, bonus) = ('z@x', 3) WHERE id = 3 RETURNING email
UPDATE users SET (note, email) = ROW('it''s', 'z@x, (y)') WHERE id = 3 RETURNING email
UPDATE users SET email = NULL, doc = '{"a": 2}' WHERE id = 2 RETURNING email, doc::text
UPDATE users SET email = DEFAULT WHERE id = 2 RETURNING email
UPDATE users SET note = 'a' IS DISTINCT FROM 'b' FROM orders o WHERE o.id = users.id AND o.id = 1 RETURNING users.note
UPDATE users SET email = (SELECT max(memo) FROM orders) WHERE id = 2 RETURNING email
UPDATE users SET tenant = 1, email = 'q@r' WHERE id = 2 RETURNING tenant, email
UPDATE users SET tenant = id WHERE id = 1 RETURNING tenant
UPDATE users SET tenant = DEFAULT WHERE id = 1 RETURNING tenant
UPDATE users u SET email = 'p' || o.id FROM orders o WHERE o.id = u.id AND u.id < 3 RETURNING u.email
INSERT INTO users (id, name, email) VALUES (900, 'new', 'n@x') RETURNING *
INSERT INTO users VALUES (900, 1, 'new', 'n@x'), (901, DEFAULT, 'b', NULL) RETURNING id, tenant, email
INSERT INTO users (id, name, tenant) SELECT 900 + id, memo, 1 FROM orders WHERE id < 3 RETURNING *
INSERT INTO users (id, name) (SELECT 900 + id, memo FROM orders WHERE id < 3) RETURNING id, tenant
INSERT INTO users AS u (id, name) SELECT 900 + id, memo FROM orders WHERE id < 3 ON CONFLICT (id) DO NOTHING RETURNING *
INSERT INTO users (id, name, tenant) VALUES (1, 'q', 1) ON CONFLICT (id) DO UPDATE SET email = EXCLUDED.email
  RETURNING email
INSERT INTO users (id, name, tenant) VALUES (1, 'q', 1) ON CONFLICT (id) DO UPDATE SET tenant = EXCLUDED.tenant
  RETURNING id
INSERT INTO users (id, name, tenant) WITH w AS (SELECT 910 i) SELECT i, 'x', 1 FROM w RETURNING id, tenant
INSERT INTO users (id, name, tenant) VALUES (905, 'v', (SELECT 1)), (906, 'w', 2 - 1) RETURNING id
MERGE INTO orders o USING users u ON u.id = o.id AND u.note ~ '^n' WHEN MATCHED THEN UPDATE SET memo = u.name
MERGE INTO users u USING orders o ON u.id = o.id + 100 WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN DO NOTHING
MERGE INTO users u USING orders o ON u.id = o.id AND u.note LIKE 'n%' WHEN MATCHED AND o.id > 9 THEN DELETE
  WHEN MATCHED THEN UPDATE SET note = o.memo, email = 'x' || o.id
  WHEN NOT MATCHED THEN INSERT (id, name, tenant) VALUES (o.id + 1000, o.memo, 1)
MERGE INTO people u USING orders o ON u.id = o.id WHEN MATCHED THEN UPDATE SET email = o.memo
  WHEN NOT MATCHED THEN INSERT VALUES (o.id, o.memo)
"""


@pytest.mark.parametrize("sql", WRITES.strip().replace("\n  ", " ").splitlines())
def test_write_is_the_same_with_masks_that_show_everything(open_session: Open, sql: str) -> None:
    shown = open_session(identity=True)
    plain, held = shown.raw(sql), shown.ask(sql)
    assert held.refused is None, held.refused
    assert plain.sqlstate is None, sql
    assert (held.rows, held.columns, held.sqlstate) == (plain.rows, plain.columns, None), held.text
    worlds = [open_session(world).ask(sql) for world in "AB"]
    assert worlds[0].rows == worlds[1].rows
    assert (worlds[0].sqlstate, worlds[0].refused) == (None, None), worlds[0].text


MASK = "c***@one.example"


@pytest.mark.parametrize(
    "sql",
    [
        f"UPDATE users SET email = '{MASK}', note = 'x' WHERE id = 1",
        f"UPDATE users SET (note, email) = ('x', '{MASK}') WHERE id = 1",
        "UPDATE users SET email = u.email FROM (SELECT id, email FROM users) u WHERE users.id = u.id AND u.id = 1",
        f"INSERT INTO users (id, name) VALUES (1, 'q') ON CONFLICT (id) DO UPDATE SET email = '{MASK}'",
        f"MERGE INTO users USING orders o ON users.id = o.id AND o.id < 2 WHEN MATCHED THEN UPDATE SET email='{MASK}'",
        "UPDATE users SET pay = 0, born = '1970-01-01' WHERE id = 1",
    ],
)
def test_mask_that_comes_back_leaves_the_value_as_it_was(open_session: Open, sql: str) -> None:
    session = open_session()
    before = session.raw("SELECT email, pay, born FROM users WHERE id = 1").rows
    after = session.raw(
        f"{session.rewritten(sql)}; SELECT email, pay, born FROM users WHERE id = 1"
    )
    assert after.sqlstate is None, after.text
    assert after.rows == before


def test_value_that_is_no_mask_is_written(open_session: Open) -> None:
    session = open_session()
    text = session.rewritten("UPDATE users SET email = 'new@x.example' WHERE id = 1")
    assert "new@x.example" in session.raw(f"{text}; SELECT email FROM users WHERE id = 1").rows[0]


def test_value_that_is_too_long_still_raises(open_session: Open) -> None:
    session = open_session()
    assert session.ask("UPDATE users SET pay = 1234567890123 WHERE id = 1").sqlstate == "22003"


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE users SET tenant = 2 WHERE id = 1",
        "UPDATE users SET tenant = tenant + 1 WHERE id = 1",
        "UPDATE users SET (note, tenant) = ('x', 2) WHERE id = 1",
        "INSERT INTO users (id, tenant, name) VALUES (700, 1, 'n'), (701, 2, 'm')",
        "INSERT INTO users (id, name, tenant) SELECT 900 + id, memo, id FROM orders WHERE id < 3",
        "INSERT INTO users (id, name) VALUES (1, 'q') ON CONFLICT (id) DO UPDATE SET tenant = 2",
        "MERGE INTO users u USING orders o ON u.id = o.id WHEN MATCHED THEN UPDATE SET tenant = 2",
        "MERGE INTO users USING orders o ON false WHEN NOT MATCHED THEN INSERT (id, name, tenant) VALUES (77, 'x', 2)",
        "INSERT INTO spots (id, tenant) VALUES (77, NULL)",
        "WITH w AS (INSERT INTO users (id, name, tenant) VALUES (950, 'v', 3) RETURNING id) SELECT * FROM w",
    ],
)
def test_row_outside_the_filter_is_refused_by_the_server(open_session: Open, sql: str) -> None:
    answer = open_session().ask(sql)
    assert answer.refused is None, answer.refused
    assert answer.sqlstate == OUTSIDE, answer.text


def test_prepared_write_keeps_its_parameter_types(open_session: Open) -> None:
    session = open_session()
    sql = "UPDATE users SET email = $1, pay = $2, tenant = $3, born = $4 WHERE id = $5"
    rewritten = session.rewritten(sql, [0])
    assert session.parameter_types(sql) == session.parameter_types(rewritten)


def test_literals_that_are_written_share_one_plan(open_session: Open) -> None:
    context = open_session().context()
    for sql in (
        "UPDATE users SET email = 'a@b', tenant = 1 WHERE id = 3",
        "INSERT INTO users (id, tenant, name) VALUES (1, 1, 'x')",
    ):
        assert read_facts(sql.encode(), context, simple=True)[0].bound == ()


@pytest.mark.parametrize(
    ("sql", "data", "stored"),
    [
        ("COPY users (id, name) FROM STDIN", "700\tx\n", [(700, 1)]),
        (
            "COPY users (id, tenant, name) FROM STDIN (FORMAT csv)",
            "700,1,x\n701,1,y\n",
            [(700, 1), (701, 1)],
        ),
        ("COPY users (id, tenant, name) FROM STDIN (FORMAT csv)", "700,1,x\n701,2,y\n", None),
        (
            "COPY users (id, tenant, name) FROM STDIN CSV WHERE id < 701",
            "700,1,x\n701,2,y\n",
            [(700, 1)],
        ),
        (
            "COPY users (id, tenant, name) FROM STDIN CSV WHERE id < 702 OR id > 9",
            "700,1,x\n701,2,y\n",
            None,
        ),
    ],
)
def test_copied_rows_are_held_against_the_filter(
    open_session: Open, sql: str, data: str, stored: list[tuple[int, int]] | None
) -> None:
    connection = open_session().connection
    text = open_session().rewritten(sql)

    def run() -> list[Any]:
        with connection.cursor().copy(text) as copy:
            copy.write(data)
        return connection.execute(
            "SELECT id, tenant FROM users WHERE id >= 700 ORDER BY id"
        ).fetchall()

    connection.execute("BEGIN")
    if stored is None:
        with pytest.raises(
            psycopg.errors.InvalidTextRepresentation, match="outside the row filter"
        ):
            run()
    else:
        assert run() == stored
    connection.execute("ROLLBACK")


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE copies AS SELECT id, email FROM people",
        "CREATE TABLE public.copies AS TABLE people WITH DATA",
        "SELECT id, email INTO copies FROM people",
    ],
)
def test_copy_that_stays_holds_masks_and_needs_the_policys_leave(
    open_session: Open, worlds: dict[str, Any], sql: str
) -> None:
    session = open_session()
    (facts,) = read_facts(sql.encode(), session.context(), simple=True)
    assert "ddl.create" in facts.actions
    assert ("public.copies", True) in [(table.name, table.written) for table in facts.tables]
    owner: Any = psycopg.connect(worlds["A"].owner, autocommit=True)
    with owner as connection, connection.transaction(force_rollback=True):
        connection.execute(session.rewritten(sql))
        rows = connection.execute("SELECT email FROM public.copies").fetchall()
    assert set(rows) == {(MASK,)}


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE fresh () INHERITS (people)",
        "CREATE TABLE fresh PARTITION OF events FOR VALUES FROM (2000) TO (3000)",
        "CREATE TABLE fresh (email text REFERENCES users (email))",
        "CREATE TABLE fresh (LIKE users INCLUDING ALL)",
        "CREATE TABLE pg_catalog.fresh (id int)",
        "CREATE MATERIALIZED VIEW fresh AS SELECT id FROM users",
    ],
)
def test_table_that_is_tied_to_a_governed_one_is_refused(open_session: Open, sql: str) -> None:
    with pytest.raises(ClientError):
        read_facts(sql.encode(), open_session().context(), simple=True)
