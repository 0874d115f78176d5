"""What still works: results with masks that show everything, plans, locks, and shapes of answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Open = Callable[..., Any]

HARMLESS = """
SELECT * FROM users ORDER BY id
SELECT u.*, o.amount FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id < 4
SELECT public.users.email FROM public.users
SELECT orders.memo FROM public.orders, old.orders AS o2 WHERE o2.id = orders.id
SELECT a, e FROM users AS u(a, b, c, e) WHERE a < 3
TABLE users
SELECT count(*), kind FROM users GROUP BY kind
SELECT id, email, doc, note FROM users GROUP BY id
SELECT u.id, lower(u.note), count(o.id) FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.id ORDER BY 2
SELECT DISTINCT ON (kind) kind, id FROM users ORDER BY kind, id
SELECT id FROM users WHERE note LIKE 'note 1%' AND id IN (SELECT user_id FROM orders)
SELECT id FROM users WHERE note ~ '1$' AND bonus > 2 OR id = 3
SELECT o.id, u.name FROM orders o LEFT JOIN users u ON u.id = o.user_id AND u.note ~ '2'
SELECT o.id FROM orders o LEFT JOIN users u ON u.id = o.id WHERE (u.note ~ 'x') IS NOT TRUE
SELECT x.k FROM (SELECT id, upper(note) AS k FROM users) x WHERE x.k LIKE 'NOTE 1%'
WITH x AS (SELECT id, bonus * 2 AS b FROM users) SELECT count(*) FROM x WHERE b > 5
WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT r.i + 1 FROM r JOIN users u ON u.id = r.i + 1) SELECT i FROM r
SELECT u.name, l.memo FROM users u, LATERAL (SELECT memo FROM orders o WHERE o.user_id = u.id ORDER BY id LIMIT 1) l
SELECT id, row_number() OVER (PARTITION BY kind ORDER BY id) FROM users
SELECT name FROM users UNION SELECT memo FROM orders
SELECT * FROM (SELECT id AS user_id, name FROM users) u NATURAL JOIN orders
SELECT j.name FROM (users u JOIN orders o ON o.user_id = u.id) AS j(uid, t, name) WHERE j.uid = 3
SELECT (SELECT name FROM users WHERE id = o.user_id) FROM orders o
SELECT id, doc ->> 'a' FROM users WHERE born IS NOT NULL FOR UPDATE OF users SKIP LOCKED
VALUES ((SELECT email FROM users WHERE id = 1))
UPDATE users SET note = note || '!' WHERE note ~ '^note 1$' RETURNING id, email, note
UPDATE users SET (note, bonus) = ('z', 0) WHERE id = 2 RETURNING users.*
UPDATE orders SET memo = u.name FROM users u WHERE u.id = user_id RETURNING orders.id, memo
DELETE FROM orders WHERE id IN (SELECT id FROM users WHERE note LIKE 'note%') RETURNING id
INSERT INTO users (id, name, email) VALUES (900, 'new', 'n@x') RETURNING *
INSERT INTO users (id, name) VALUES (1, 'q') ON CONFLICT (id) DO UPDATE SET note = excluded.name RETURNING id, note
INSERT INTO orders SELECT 900 + id, id, 2, name FROM users RETURNING *
WITH n AS (INSERT INTO users (id, name) VALUES (901, 'w') RETURNING id, email) SELECT * FROM n
MERGE INTO orders o USING users u ON u.id = o.id WHEN MATCHED THEN UPDATE SET memo = u.name
SELECT tableoid::regclass, xmin IS NULL, email FROM people
SELECT 'é😀' AS "ü", "ж".email FROM users AS "ж" WHERE "ж".id = 1 -- end
SELECT extract(year FROM born), coalesce(email, '-'), greatest(id, 3), (id, tenant) = (1, 1) FROM users
SELECT string_agg(name, ',' ORDER BY id) FILTER (WHERE note ~ '1') FROM users
EXPLAIN (COSTS OFF) SELECT * FROM orders WHERE id = 1
"""


@pytest.mark.parametrize("sql", HARMLESS.strip().splitlines())
def test_masks_that_show_everything_change_no_result(open_session: Open, sql: str) -> None:
    session = open_session(identity=True)
    plain, held = session.raw(sql), session.ask(sql)
    assert held.refused is None, held.refused
    assert (held.sqlstate, held.columns) == (plain.sqlstate, plain.columns), held.text
    assert plain.sqlstate is None, sql
    assert held.rows == plain.rows, held.text


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("SELECT email FROM users WHERE id = 7", "users_pkey"),
        ("SELECT email FROM users WHERE id = 7 AND 'x' ~ name", "users_pkey"),
        ("SELECT id FROM users WHERE note LIKE 'note 1%'", "users_note"),
        ("SELECT o.id FROM orders o JOIN users u ON u.id = o.user_id WHERE o.id = 3", "users_pkey"),
    ],
)
def test_plan_keeps_its_index(open_session: Open, sql: str, index: str) -> None:
    session = open_session()
    session.connection.execute("SET enable_seqscan = off")
    session.connection.execute("SET enable_hashjoin = off")
    text = session.rewritten(sql)
    plan = str(session.connection.execute("EXPLAIN " + text).fetchall())
    assert index in plan
    assert "catalog changed" not in plan  # The pin folds to nothing.
    assert "Subquery" not in plan


def test_swapped_table_raises_instead_of_showing(open_session: Open) -> None:
    session = open_session()
    text = session.rewritten("SELECT email FROM people")
    text = text.replace(f"'{session.catalog.relation('public', 'people').oid}'", "'12345'")
    assert session.raw(text).sqlstate == "22P02"


def test_row_outside_the_filter_is_refused_by_the_server(open_session: Open) -> None:
    session = open_session()
    assert (
        session.ask("INSERT INTO users (id, tenant, name) VALUES (700, 2, 'n')").sqlstate == "22P02"
    )
    assert session.ask("INSERT INTO users (id, tenant, name) VALUES (700, 1, 'n')").sqlstate is None
    assert session.ask("UPDATE users SET tenant = 2 WHERE id = 1").sqlstate == "22P02"


def test_hidden_rows_are_neither_updated_nor_locked(open_session: Open) -> None:
    session = open_session()
    assert session.ask("UPDATE users SET note = 'x' WHERE id > 100 RETURNING id").rows == ()
    assert session.ask("DELETE FROM users WHERE id > 100 RETURNING id").rows == ()
    assert session.ask("SELECT id FROM users WHERE id > 100 FOR UPDATE").rows == ()


def test_masked_column_shows_its_mask_in_returning(open_session: Open) -> None:
    answer = open_session().ask("UPDATE users SET note = 'x' WHERE id = 1 RETURNING email, users.*")
    assert "c***@one.example" in answer.rows[0]
    assert answer.columns[0] == "email"
