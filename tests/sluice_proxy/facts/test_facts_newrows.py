"""New rows get the values and types that PostgreSQL itself would give them, and the row filter holds for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sluice_proxy.facts import read_facts

Open = Callable[..., Any]

OUTSIDE = "22P02"

WRITES = """
INSERT INTO users (id, name, born, pay, kind, doc) SELECT 900, 'n', '2024-05-05', '12.5', 'loud', '{"a": 1}' RETURNING *
INSERT INTO users (id, name, born, note) SELECT 900 + id, memo, '2024-05-05', NULL FROM orders WHERE id < 3 RETURNING *
INSERT INTO users (id, name, born) WITH w AS (SELECT 901 i) SELECT i, 'x' AS "n", ('2024-05-05') FROM w RETURNING born
INSERT INTO users (id, name, born) (SELECT 902, E'a\\nb', U&'2024!002D01-01' UESCAPE '!') RETURNING name, born
INSERT INTO users (id, tenant, name, email, pay, born) SELECT 903, *, '5', '2024-01-02' FROM (SELECT 1, 'n', 'm') s
  RETURNING pay
INSERT INTO users SELECT 904, '1', 'n', NULL, '7', NULL, 'x', 'calm', NULL, '3' RETURNING id, tenant, bonus, note, kind
INSERT INTO users (id, name, born, pay) SELECT user_id + 900, 'n' || user_id, '2024-02-02', sum(amount) FROM orders
  WHERE user_id < 4 GROUP BY user_id ORDER BY 1 LIMIT 2 RETURNING id, born
INSERT INTO users (id, name, born) SELECT 905, 'a', '2024-01-01'::date UNION ALL SELECT 906, 'b', '2024-01-02'
  RETURNING id
INSERT INTO users (id, name, born) SELECT DISTINCT 900 + user_id, 'm' || user_id, DATE '2024-01-01' FROM orders
  RETURNING id
INSERT INTO users (id, name, born) VALUES (907, 'a', '2024-01-01'), (908, 'b', NULL), (909, 'c', DEFAULT)
  RETURNING id, tenant
INSERT INTO users (id, name, born) SELECT 910, 'x', '2024-01-01' ON CONFLICT (id) DO UPDATE SET born = EXCLUDED.born
INSERT INTO users (id, name, tenant) OVERRIDING SYSTEM VALUE SELECT 911, 'x', '1' RETURNING tenant
INSERT INTO users (id, name, born, note) SELECT * FROM unnest(ARRAY[920, 921], ARRAY['a', 'b'],
  '{2024-01-01,2024-01-02}'::date[], ARRAY['x', NULL]) RETURNING id, note
INSERT INTO users SELECT * FROM json_populate_record(NULL::users, '{"id": 922, "tenant": 1, "name": "n", "kind": "calm",
  "bonus": 0}') RETURNING id
INSERT INTO spots (id, at, size, big, label) SELECT 77, '2024-01-01', '1.5', '9', NULL RETURNING *
WITH w AS (INSERT INTO users (id, name, born) SELECT 912, 'x', '2024-01-01' RETURNING id, born) SELECT * FROM w
UPDATE users SET (note, email) = (SELECT memo, 'z@x' || id FROM orders o WHERE o.id = users.id)
  WHERE id < 3 RETURNING note, email
UPDATE users SET (note, tenant) = (SELECT 'y', 1) WHERE id = 3 RETURNING note, tenant
UPDATE users SET (tenant, note) = (((SELECT 1, 'y'))), bonus = 4 WHERE id = 3 RETURNING note, tenant, bonus
UPDATE users SET (email, pay) = (SELECT NULL, 80000 WHERE false) WHERE id = 3 RETURNING email
UPDATE users u SET (email, note) = (SELECT p.email, o.memo FROM people p WHERE p.id = o.id) FROM orders o
  WHERE o.id = u.id AND u.id < 3 RETURNING u.id
UPDATE users SET note = 'x', (email) = ROW('q@r'), (name, born) = (SELECT 'w', DATE '2024-01-01')
  WHERE id = 3 RETURNING name
INSERT INTO users (id, name, tenant) VALUES (1, 'q', 1) ON CONFLICT (id) DO UPDATE SET (email, note) =
  (SELECT EXCLUDED.name, 'c') RETURNING note
MERGE INTO users u USING orders o ON u.id = o.id WHEN MATCHED THEN UPDATE SET (email, note) = (SELECT o.memo, 'm')
MERGE INTO users u USING orders o ON u.id = o.id + 1000 WHEN NOT MATCHED THEN
  INSERT (id, name) VALUES (o.id + 1000, o.memo)
MERGE INTO spots u USING orders o ON u.id = o.id + 1000 WHEN NOT MATCHED AND CASE WHEN o.id < 3 THEN true END THEN
  INSERT VALUES (o.id + 1000)
MERGE INTO users u USING (VALUES (1000, 'x')) v(i, n) ON u.id = v.i WHEN NOT MATCHED THEN
  INSERT (id, name, born, pay) OVERRIDING USER VALUE VALUES (v.i, v.n, '2024-01-01', '5')
"""


@pytest.mark.parametrize("sql", WRITES.strip().replace("\n  ", " ").splitlines())
def test_write_stores_what_it_stores_without_sluice(open_session: Open, sql: str) -> None:
    shown = open_session(identity=True)
    after = "; SELECT * FROM users WHERE id < 4 OR id > 200"
    plain = shown.raw(sql + after)
    assert plain.sqlstate is None, sql
    held = shown.raw(shown.rewritten(sql) + after)
    assert (held.rows, held.sqlstate) == (plain.rows, None), held.text
    assert shown.ask(sql).columns == shown.raw(sql).columns
    worlds = [open_session(world).ask(sql) for world in "AB"]
    assert worlds[0].rows == worlds[1].rows
    assert (worlds[0].sqlstate, worlds[0].refused) == (None, None), worlds[0].text


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO users (id, name, born) SELECT 900, 'n', 'no date'",
        "INSERT INTO users (id, name, born) SELECT DISTINCT 900, 'n', '2024-01-01'",
        "INSERT INTO users (id, name, born) SELECT 900, 'n', '2024-01-01' UNION SELECT 901, 'n', '2024-01-01'",
        "INSERT INTO users (id, name) SELECT 900, 'n', 'one too many'",
        "INSERT INTO users (id, name, note) SELECT * FROM unnest(ARRAY[920], ARRAY['one too few'])",
        "INSERT INTO users (id, name, pay) SELECT 900, 'n', '1234567890123'",
        "INSERT INTO users DEFAULT VALUES",
        "UPDATE users SET (email, note) = (SELECT memo, memo FROM orders) WHERE id = 1",
        "UPDATE users SET (email, note) = (SELECT 1, 2, 3) WHERE id = 1",
    ],
)
def test_write_that_fails_fails_in_the_same_way(open_session: Open, sql: str) -> None:
    shown = open_session(identity=True)
    plain, held = shown.raw(sql), shown.ask(sql)
    assert (held.sqlstate, held.refused) == (plain.sqlstate, None), held.text
    assert plain.sqlstate


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO users (id, name, tenant) SELECT 900, 'n', '2'",
        "INSERT INTO users (id, name, tenant) SELECT 900, 'n', NULL",
        "INSERT INTO users (id, name, tenant) SELECT * FROM unnest(ARRAY[900, 901], ARRAY['n', 'm'], ARRAY[1, 2])",
        "UPDATE users SET (note, tenant) = (SELECT 'y', 2) WHERE id = 3",
        "UPDATE users SET (tenant, note) = (SELECT 1, 'y' WHERE false) WHERE id = 3",
        "UPDATE users SET (note, tenant) = (SELECT 'y', id) WHERE id = 3",
        (
            "MERGE INTO users u USING orders o ON u.id = o.id WHEN MATCHED THEN "
            "UPDATE SET (tenant, note) = (SELECT o.id, '')"
        ),
    ],
)
def test_row_outside_the_filter_is_refused_by_the_server(open_session: Open, sql: str) -> None:
    answer = open_session().ask(sql)
    assert answer.refused is None, answer.refused
    assert answer.sqlstate == OUTSIDE, answer.text


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE users SET (note, email) = (SELECT 'x', 'c***@one.example') WHERE id = 1",
        "UPDATE users SET (email, note) = (SELECT u.email, 'x' FROM users u WHERE u.id = users.id) WHERE id = 1",
        "UPDATE users SET (pay, born) = (SELECT 0, DATE '1970-01-01') WHERE id = 1",
    ],
)
def test_mask_that_a_sub_select_gives_back_leaves_the_value_as_it_was(
    open_session: Open, sql: str
) -> None:
    session = open_session()
    before = session.raw("SELECT email, pay, born FROM users WHERE id = 1").rows
    text = session.rewritten(sql)
    after = session.raw(f"{text}; SELECT email, pay, born FROM users WHERE id = 1")
    assert (after.rows, after.sqlstate) == (before, None), after.text


def test_parameters_of_a_source_have_their_columns_types(open_session: Open) -> None:
    session = open_session()
    sql = "INSERT INTO users (id, name, born, pay, tenant) SELECT $1, $2, $3, $4, $5"
    rewritten = session.rewritten(sql, [0])
    assert session.parameter_types(sql) == session.parameter_types(rewritten)


def test_literals_of_a_source_are_not_part_of_what_is_spliced(open_session: Open) -> None:
    context = open_session().context()
    edits = [
        read_facts(
            f"INSERT INTO users (id, name, born) SELECT 900, 'n', '{day}'".encode(),
            context,
            simple=True,
        )[0].edits
        for day in ("2024-01-01", "2024-01-02")
    ]
    assert edits[0] == edits[1]


SAME = """
UPDATE users SET email = email WHERE id = 3
UPDATE users SET email = users.email, pay = pay, note = 'z' WHERE id = 3
UPDATE users AS u SET email = u.email, tenant = u.tenant, name = 'z' WHERE id = 3
UPDATE users u SET email = u.email, note = o.memo FROM orders o WHERE o.id = u.id AND u.id < 4
UPDATE people SET email = email
INSERT INTO users (id, name) VALUES (3, 'q') ON CONFLICT (id) DO UPDATE SET email = users.email, note = 'c'
MERGE INTO users u USING orders o ON u.id = o.id WHEN MATCHED THEN UPDATE SET email = u.email, note = o.memo
"""


@pytest.mark.parametrize("sql", SAME.strip().splitlines())
def test_masked_column_that_is_set_to_itself_keeps_its_raw_value(
    open_session: Open, sql: str
) -> None:
    session = open_session()
    after = "; SELECT (SELECT string_agg(u::text, ';' ORDER BY id) FROM users u), (SELECT string_agg(p::text, ';'"
    after += " ORDER BY id) FROM people p)"
    plain = session.raw(sql + after)
    assert plain.sqlstate is None, sql
    held = session.raw(session.rewritten(sql) + after)
    assert held.sqlstate is None, held.text
    assert held.rows == plain.rows
    assert "canary3@" in held.rows[0]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE users SET note = email",
        "UPDATE users SET email = email || ''",
        "UPDATE users SET email = (email)::text",
        "UPDATE users SET email = note, note = email",
        "UPDATE users u SET email = email FROM people p WHERE p.id = u.id",
        "UPDATE users SET email = coalesce(email, 'x')",
        "UPDATE users SET (email, note) = (email, email)",
        "INSERT INTO users (id, name) VALUES (3, 'q') ON CONFLICT (id) DO UPDATE SET email = email",
        "MERGE INTO users u USING people p ON u.id = p.id WHEN MATCHED THEN UPDATE SET email = email",
    ],
)
def test_masked_column_in_any_other_new_value_is_refused_or_ambiguous(
    open_session: Open, sql: str
) -> None:
    answer = open_session().ask(sql)
    assert answer.refused is not None or answer.sqlstate == "42702", answer


def test_column_that_is_set_to_itself_hides_no_oracle(open_session: Open) -> None:
    context = open_session().context()
    (facts,) = read_facts(b"UPDATE users SET pay = pay, bonus = 5", context, simple=True)
    assert "rowValues" in facts.write_oracles
    (facts,) = read_facts(b"UPDATE users SET pay = pay", context, simple=True)
    assert "rowValues" not in facts.write_oracles
