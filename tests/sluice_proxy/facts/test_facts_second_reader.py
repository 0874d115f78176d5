"""sqlglot as a second reader: every column of a table that its lineage finds is in the facts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlglot
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import traverse_scope

from sluice_proxy.facts import read_facts
from sluice_proxy.reports import ClientError

Open = Callable[..., Any]
Columns = set[tuple[str, str]]

QUERIES = """
SELECT * FROM users
SELECT u.*, o.amount FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id < 4
SELECT count(*) FROM users
SELECT public.users.email FROM public.users
SELECT a, e FROM users AS u(a, b, c, e) WHERE a < 3
SELECT id, email, note FROM users GROUP BY id HAVING max(pay) > 3
SELECT DISTINCT ON (kind) kind, id FROM users ORDER BY kind, born
SELECT id FROM users WHERE note LIKE 'n%' AND id IN (SELECT user_id FROM orders WHERE memo <> '')
SELECT x.k FROM (SELECT id, upper(note) AS k FROM users) x WHERE x.k LIKE 'NOTE 1%'
WITH x AS (SELECT id, bonus * 2 AS b FROM users) SELECT count(*) FROM x WHERE b > 5
WITH users AS (SELECT id AS email FROM orders) SELECT email FROM users
WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT r.i + 1 FROM r JOIN users u ON u.id = r.i + 1) SELECT i FROM r
SELECT u.name, l.memo FROM users u, LATERAL (SELECT memo FROM orders o WHERE o.user_id = u.id LIMIT 1) l
SELECT id, row_number() OVER (PARTITION BY kind ORDER BY born) FROM users
SELECT name FROM users UNION SELECT memo FROM orders
SELECT * FROM orders JOIN old.orders o2 USING (id)
SELECT (SELECT name FROM users WHERE id = o.user_id) FROM orders o
SELECT CASE WHEN u.pay > 3 THEN u.note END, coalesce(u.email, u.name) FROM users u
SELECT string_agg(name, ',' ORDER BY id) FILTER (WHERE note ~ '1') FROM users
SELECT o.id FROM orders o WHERE EXISTS (SELECT 1 FROM users u WHERE u.id = o.user_id AND u.born > now())
SELECT sum(pay) OVER w FROM users WINDOW w AS (PARTITION BY tenant)
SELECT kind, tenant, count(email) FROM users GROUP BY GROUPING SETS ((kind), (tenant))
"""


def second_opinion(sql: str, session: Any) -> Columns:
    """Return (table, column) for every column that sqlglot resolves to a table."""
    schema: dict[str, Any] = {}
    for relation in session.catalog.relations.values():
        if relation.schema in ("public", "old"):
            columns = {column.name: column.type.base_sql for column in relation.columns}
            schema.setdefault(relation.schema, {})[relation.name] = columns
    tree = sqlglot.parse_one(sql, dialect="postgres")
    tree = qualify(
        tree, dialect="postgres", schema=schema, db="public", validate_qualify_columns=False
    )
    found: Columns = set()
    for scope in traverse_scope(tree):
        for column in scope.columns:
            source = scope.sources.get(column.table)
            if isinstance(source, exp.Table):
                alias = source.args.get("alias")
                names = [each.name for each in (alias.columns if alias else ())]
                table = session.catalog.relation(source.db or "public", source.name)
                name = column.name
                if name in names and table is not None:
                    name = table.columns[names.index(name)].name
                found.add((f"{source.db or 'public'}.{source.name}", name))
    return found


def first_opinion(sql: str, session: Any) -> Columns:
    (facts,) = read_facts(sql.encode(), session.context(), simple=True)
    return {(table.name, column) for table in facts.tables for column in table.reads}


@pytest.mark.parametrize("sql", QUERIES.strip().splitlines())
def test_every_column_that_the_second_reader_finds_is_in_the_facts(
    open_session: Open, sql: str
) -> None:
    session = open_session()
    second = second_opinion(sql, session)
    assert second <= first_opinion(sql, session), sql


NAMES = ["id", "tenant", "name", "email", "pay", "born", "note", "kind", "bonus"]
TERM = st.recursive(
    st.sampled_from([f"u.{name}" for name in NAMES] + ["o.memo", "o.amount", "name", "email", "1"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda t: f"coalesce({t[0]}::text, {t[1]}::text)"),
        st.tuples(inner, inner).map(lambda t: f"CASE WHEN {t[0]} IS NULL THEN {t[1]}::text END"),
        inner.map(lambda t: f"(SELECT max({t}::text) FROM users y WHERE y.id = u.id)"),
        inner.map(lambda t: f"md5({t}::text)"),
    ),
    max_leaves=4,
)
QUERY = st.builds(
    "SELECT {} FROM {} WHERE ({}) IS NOT NULL {}".format,
    st.lists(TERM, min_size=1, max_size=3).map(", ".join),
    st.sampled_from(
        [
            "users u JOIN orders o ON o.user_id = u.id",
            "users u, LATERAL (SELECT memo, amount FROM orders z WHERE z.user_id = u.id) o",
            "(SELECT * FROM users WHERE pay > 3) u CROSS JOIN orders o",
            "(SELECT id, name, email, tenant, pay, born, note, kind, bonus FROM users) u LEFT JOIN orders o USING (id)",
        ]
    ),
    TERM,
    st.sampled_from(["", "ORDER BY u.note", "LIMIT 3"]),
)


@given(sql=QUERY)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_second_reader_never_finds_more(open_session: Open, sql: str) -> None:
    if not _kept:
        _kept.append(open_session())
    try:
        second = second_opinion(sql, _kept[0])
        first = first_opinion(sql, _kept[0])
    except (SqlglotError, ClientError):
        assume(False)
        return
    assert second <= first, sql


_kept: list[Any] = []
