"""What a restricted session sees is the same in two worlds that differ only in what is hidden from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Open = Callable[..., Any]
RAW = ("canary", "cobalt", "hidden", "70001", "40002", "1970-01-06")

HOSTILE = """
SELECT * FROM users
SELECT u FROM users u
SELECT public.users.email FROM public.users
TABLE ONLY users
SELECT e FROM users AS u(i, t, n, e)
SELECT email FROM U&"us\\0065rs"
SELECT email FROM /* a /* b */ */ public . /* c */ users -- d
SELECT (u).email, to_jsonb(u) FROM users u
SELECT contact(u) FROM users u
SELECT u.contact FROM users u
SELECT card FROM old.orders
WITH users AS (SELECT * FROM users) SELECT email FROM users
WITH x AS (SELECT 1), users AS (SELECT 'x' AS email) SELECT u.email FROM public.users u
SELECT count(*) FROM users
SELECT count(*) FROM contacts
SELECT count(*) FROM users WHERE note LIKE '(8\\'
SELECT count(*) FROM users WHERE 'x' ~ note
SELECT count(*) FROM users WHERE 1 / (id - 105) < 5
SELECT count(*) FROM users WHERE NOT (1 / (id - 105) < 5) AND note <> 'x'
SELECT count(*) FROM users WHERE name = 'hidden5' AND 1 / (extract(epoch FROM now())::int * 0) = 1
SELECT count(*) FROM users WHERE name = 'hidden5' AND born > now() - interval '300000 years'
SELECT count(*) FROM (SELECT id, 1 / (id - 105) AS k FROM users) x WHERE k < 5
SELECT count(*) FROM (SELECT id FROM users) x WHERE 1 / (id - 105) < 5
SELECT count(*) FROM (SELECT 1 / (id - 105) AS k FROM users UNION ALL SELECT 1) x WHERE k < 5
SELECT k FROM (SELECT 1 / (id - 105) AS k, count(*) FROM users GROUP BY 1) x WHERE k < 5
WITH x AS (SELECT 1 / (id - 105) AS k FROM users) SELECT count(*) FROM x WHERE k < 5
SELECT count(*) FROM users u, LATERAL (SELECT 1 / (u.id - 105) AS k) l WHERE l.k < 5
SELECT count(*) FROM users u WHERE EXISTS (SELECT FROM orders o WHERE o.id = 1 / (u.id - 105))
SELECT count(*) FROM orders o WHERE o.id IN (SELECT 1 / (id - 105) FROM users)
SELECT count(*) FROM orders o LEFT JOIN users u ON u.id = o.id AND 1 / (u.id - 105) < 5
SELECT count(*) FROM orders o LEFT JOIN users u ON u.id = o.id + 20 WHERE (u.note ~ 'x') IS NOT TRUE
SELECT count(*) FROM (users u CROSS JOIN people p) AS j(a, b) WHERE 1 / (a - 105) < 5
SELECT count(*) FROM (users u CROSS JOIN people p) AS j WHERE j.note ~ '^n'
SELECT count(*) FROM people p, users u, LATERAL (SELECT u.note ~ '^n' AS k) l WHERE l.k
SELECT count(*) FROM users u, LATERAL (SELECT 1 FROM people p WHERE p.id = 1 / (u.id - 105)) l
SELECT count(*) FROM users u, LATERAL (SELECT x.k FROM (SELECT 1 / (u.id - 105) AS k) x) l WHERE l.k < 5
SELECT count(*) FROM users u, LATERAL (WITH c AS (SELECT 1 / (u.id - 105) AS k) SELECT k FROM c) l WHERE l.k < 5
SELECT count(*) FROM users u WHERE EXISTS (SELECT FROM (SELECT 1 / (u.id - 105) AS k) x WHERE x.k < 5)
SELECT count(*) FROM people p WHERE EXISTS (SELECT FROM users u WHERE u.id = p.id + 100 AND 1 / (u.id - 105) < 5)
SELECT count(*) FROM people p WHERE p.id < ALL (SELECT 1 / (id - 105) + 9 FROM users)
SELECT count(*) FROM (VALUES (101), (105)) v(i) JOIN users u ON u.id = v.i AND 1 / (v.i - 105) < 5
SELECT count(*) FROM users JOIN (SELECT 1 / (id - 105) AS id FROM users) x USING (id)
SELECT count(*) FROM people NATURAL JOIN (SELECT 1 / (id - 105) AS id FROM users) x
SELECT count(*) FROM users a LEFT JOIN users b ON a.id = b.id AND b.note ~ '^n' WHERE a.note ~ '^n'
SELECT count(*) FROM people p RIGHT JOIN users u ON u.note ~ '^n'
WITH RECURSIVE r AS (SELECT 99 i UNION ALL SELECT u.id FROM r JOIN users u ON u.id = r.i + 1 AND u.note ~ 'n') TABLE r
SELECT id FROM users GROUP BY id HAVING 1 / (id - 105) < 5
SELECT (SELECT count(name) FROM users) FROM (SELECT 1 AS tenant) x
SELECT id FROM users WHERE pg_try_advisory_lock(id)
SELECT ctid FROM users
SELECT count(*) FROM users TABLESAMPLE system (100)
SELECT reltuples, relpages FROM pg_class WHERE relname = 'users'
SELECT pg_relation_size('users'), pg_table_size('users_pkey')
UPDATE users SET note = email
UPDATE users SET note = 'x' WHERE email LIKE 'can%'
UPDATE users SET note = 'x' WHERE 1 / (id - 105) < 5
UPDATE users SET note = 'x' RETURNING *
UPDATE users SET note = 'x' RETURNING (SELECT email), lower(users.email), pay + 1
UPDATE users SET note = 'x' RETURNING (SELECT email FROM unnest(ARRAY[1]) z)
UPDATE users SET note = 'x' RETURNING users
UPDATE users SET note = 'x' RETURNING old.email
UPDATE users SET note = 'x' RETURNING new.*
UPDATE users SET note = 'x' RETURNING old
UPDATE users SET note = 'x' RETURNING to_jsonb(new), (SELECT old.email)
DELETE FROM users RETURNING old.*
INSERT INTO users (id, name) VALUES (1, 'q') ON CONFLICT (id) DO UPDATE SET note = 'x' RETURNING old.email
UPDATE orders SET memo = u.email FROM users u WHERE u.id = orders.user_id RETURNING orders.memo
UPDATE users SET tenant = 2 WHERE id = 3
INSERT INTO users (id, tenant, name) VALUES (500, 2, 'q')
INSERT INTO users (id, name) VALUES (101, 'q') ON CONFLICT (id) DO UPDATE SET note = users.email
INSERT INTO users (id, name) VALUES (1, 'q') ON CONFLICT (id) DO UPDATE SET note = 'x' RETURNING email
INSERT INTO orders SELECT 900 + id, id, 1, email FROM users RETURNING memo
WITH u AS (DELETE FROM users RETURNING email) SELECT * FROM u
DELETE FROM orders USING users u WHERE u.id = orders.user_id AND u.email LIKE 'can%' RETURNING orders.id
MERGE INTO orders o USING users u ON u.id = o.id AND 1 / (u.id - 105) < 5 WHEN MATCHED THEN UPDATE SET memo = u.email
MERGE INTO users u USING orders o ON u.id = o.id AND u.email LIKE 'can%' WHEN MATCHED THEN DELETE
COPY users (email) FROM '/etc/passwd'
EXPLAIN ANALYZE SELECT * FROM users
EXPLAIN SELECT * FROM contacts
SET ROLE postgres
SET SESSION AUTHORIZATION postgres
SELECT set_config('search_path', n, false) FROM (SELECT 'old' AS n) x
SET search_path = tools, pg_catalog
SELECT tools.upper('x')
SELECT 1 OPERATOR(tools.=) 2
SELECT query_to_xml('select * from users', true, true, '')
SELECT ('base'::text).pg_ls_dir
SELECT (x.t).pg_read_file FROM (SELECT 'PG_VERSION'::text AS t, 1 AS pg_read_file) x
DO $$ BEGIN END $$
CREATE VIEW pg_temp.v AS SELECT * FROM users
CREATE TEMP TABLE users (id int, email text); SELECT email FROM users; DROP TABLE users; SELECT email FROM users
SELECT id FROM (SELECT id, 1 / (id - 105) AS k FROM users) x WHERE k < 5 FOR UPDATE
SELECT tableoid::regclass, xmin IS NULL, email FROM people
SELECT set_config(name, 'old', false) FROM pg_settings WHERE name = 'search_path'
LISTEN secrets
LOCK TABLE users
"""


@pytest.mark.parametrize("sql", HOSTILE.strip().splitlines())
def test_hostile_statement_shows_no_raw_value_and_no_difference(
    open_session: Open, sql: str
) -> None:
    answers = [open_session(world).ask(sql) for world in "AB"]
    for answer in answers:
        assert not [mark for mark in RAW if mark in str(answer.rows)], answer.text
    seen = [(each.rows, each.columns, each.sqlstate, each.refused) for each in answers]
    assert seen[0] == seen[1], answers[0].text
    assert answers[0].sqlstate != "42601", answers[0].text


COLUMNS = st.sampled_from(["id", "tenant", "name", "email", "pay", "note", "bonus", "kind"])
TERMS = st.one_of(
    COLUMNS.map(lambda name: f"u.{name}::text"),
    st.sampled_from(
        [
            "(1 / (u.id - 105))::text",
            "u.note || 'x'",
            "substr(u.email, 1, 2)",
            "lower(u.note)",
            "'z'",
        ]
    ),
)
TESTS = st.one_of(
    st.sampled_from(
        [
            "u.note ~ '^n'",
            "'x' ~ u.note",
            "u.note LIKE 'note%'",
            "u.note LIKE '(8\\'",
            "u.email LIKE 'c%'",
            "1 / (u.id - 105) < 5",
            "u.tenant <> 1",
            "u.id BETWEEN 2 AND 9",
            "u.kind = 'loud'",
            "u.pay > 45000",
            "u.name IN ('user1', 'hidden1')",
            "EXISTS (SELECT FROM orders x WHERE x.user_id = u.id)",
            "u.id IN (SELECT x.user_id FROM orders x WHERE x.amount / (x.id - 500) < 1)",
            "u.id = (SELECT min(y.id) FROM users y WHERE 1 / (y.id - 105) < 7)",
            "coalesce(u.note, '') <> ''",
            "(u.id, u.tenant) = (1, 1)",
        ]
    ),
    st.tuples(TERMS, TERMS).map(lambda pair: f"{pair[0]} < {pair[1]}"),
)
CONDITIONS = st.recursive(
    TESTS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        inner.map(lambda t: f"NOT ({t})"),
        inner.map(lambda t: f"CASE WHEN {t} THEN u.id > 3 ELSE u.bonus = 0 END"),
    ),
    max_leaves=4,
)
ORIGINS = st.sampled_from(
    [
        "users u",
        "ONLY users u",
        "users AS u JOIN orders o ON o.user_id = u.id",
        "orders o LEFT JOIN users u ON u.id = o.user_id + 90 AND {on}",
        "users u FULL JOIN orders o USING (id)",
        "(SELECT * FROM users) u",
        "(SELECT id, tenant, name, email, pay, note || '' AS note, kind, bonus FROM users) u",
        "(SELECT u.* FROM users u WHERE {on}) u",
        "(SELECT DISTINCT * FROM (SELECT id, tenant, name, email, pay, note, kind, bonus FROM users) v) u",
        "people p, LATERAL (SELECT * FROM users w WHERE w.id >= p.id) u",
        "(users u CROSS JOIN people p)",
        "(users u JOIN people p ON {on})",
        "users v, LATERAL (SELECT v.*, substr(v.note, 1 / (v.id - 105)) AS z) u",
        "(SELECT * FROM users UNION ALL SELECT * FROM users) u",
    ]
)


@st.composite
def statements(draw: st.DrawFn) -> str:
    origin = draw(ORIGINS).format(on=draw(TESTS))
    where = draw(CONDITIONS)
    shape = draw(st.sampled_from(["plain", "count", "group", "cte", "in", "update", "delete"]))
    term = draw(TERMS)
    if shape == "plain":
        return f"SELECT {term} AS t, u.email FROM {origin} WHERE {where} ORDER BY 1, 2"
    if shape == "group":
        return f"SELECT {term} AS t, count(*) FROM {origin} WHERE {where} GROUP BY 1 HAVING {term} < 'z'"
    if shape == "cte":
        return f"WITH c AS (SELECT {term} AS t, u.note AS n FROM {origin}) SELECT count(*) FROM c WHERE t < n"
    if shape == "in":
        return f"SELECT id FROM people WHERE email IN (SELECT {term} FROM {origin} WHERE {where})"
    if shape == "update":
        return f"UPDATE orders SET memo = {term} FROM users u WHERE u.id = user_id AND {where} RETURNING memo"
    if shape == "delete":
        return (
            f"DELETE FROM orders USING users u WHERE u.id = user_id AND {where} RETURNING orders.id"
        )
    return f"SELECT count(*) FROM {origin} WHERE {where}"


@given(sql=statements())
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_statement_is_the_same_in_both_worlds(open_session: Open, sql: str) -> None:
    sessions = _kept(open_session)
    answers = [session.ask(sql) for session in sessions]
    seen = [(each.rows, each.sqlstate, each.refused) for each in answers]
    assert seen[0] == seen[1], answers[0].text
    assert answers[0].sqlstate != "42601", answers[0].text
    assert not [mark for mark in RAW if mark in str(answers[0].rows)], answers[0].text


_sessions: list[Any] = []


def _kept(open_session: Open) -> list[Any]:
    if not _sessions or any(session.connection.closed for session in _sessions):
        _sessions[:] = [open_session("A"), open_session("B")]
    return _sessions
