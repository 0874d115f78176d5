"""Equality joins of columns whose masks show different values alike are refused; every other join is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sluice_proxy.facts import read_facts
from sluice_proxy.reports import ClientError

Open = Callable[..., Any]

MEANINGLESS = """
SELECT count(*) FROM users a JOIN people b ON a.email = b.email
SELECT count(*) FROM users a, people b WHERE a.email = b.email AND a.id = 1
SELECT count(*) FROM users a JOIN people b USING (email)
SELECT count(*) FROM (SELECT email FROM users) a NATURAL JOIN people b
SELECT count(*) FROM users WHERE email IN (SELECT email FROM people)
SELECT count(*) FROM users WHERE email = ANY (SELECT email FROM people)
SELECT count(*) FROM users u WHERE EXISTS (SELECT FROM people p WHERE p.email = u.email)
SELECT count(*) FROM users a, people b WHERE (a.id, a.email) = (b.id, b.email)
SELECT count(*) FROM users a, people b WHERE lower(a.email) = lower(b.email)
WITH x AS (SELECT email e FROM users) SELECT count(*) FROM x, people p WHERE p.email = x.e
SELECT count(*) FROM users a LEFT JOIN people b ON a.email IS NOT DISTINCT FROM b.email
SELECT count(*) FROM users a JOIN old.orders b ON a.pay::text = b.card
DELETE FROM orders o USING users u, people p WHERE u.email = p.email
UPDATE orders SET memo = 'x' FROM users u JOIN people p ON u.email = p.email
"""


@pytest.mark.parametrize("sql", MEANINGLESS.strip().splitlines())
def test_join_of_two_weakly_masked_columns_is_refused_with_a_way_out(
    open_session: Open, sql: str
) -> None:
    with pytest.raises(ClientError) as caught:
        read_facts(sql.encode(), open_session().context(), simple=True)
    assert "joining" in caught.value.report.message
    assert "hash" in str(caught.value.report.hint)
    shown = open_session(identity=True)
    assert shown.ask(sql) == shown.raw(sql) or shown.ask(sql).rows == shown.raw(sql).rows


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM users a, orders b WHERE a.email = b.memo",
        "SELECT count(*) FROM users a JOIN users b ON a.id = b.id AND a.email <> b.email",
        "SELECT count(*) FROM users a WHERE a.email = a.note",
        "SELECT a.email = b.email FROM users a JOIN people b USING (id)",
        "SELECT email FROM users INTERSECT SELECT email FROM people",
        "SELECT count(*) FROM users WHERE email = 'c***@one.example'",
        "SELECT count(*) FROM users WHERE email = ANY (ARRAY['c***@one.example'])",
    ],
)
def test_other_uses_of_masked_columns_are_legal(open_session: Open, sql: str) -> None:
    assert open_session().ask(sql).sqlstate is None
    assert open_session().ask(sql).refused is None
