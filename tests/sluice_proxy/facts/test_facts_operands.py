"""Comparisons that raise for some value: shown on plain PostgreSQL over a filtered sub-select, and gone in the plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Open = Callable[..., Any]

DEAR = " OPERATOR(pg_catalog.+) 0" * 8
FILTERED = f"(SELECT * FROM public.spots s WHERE (s.tenant{DEAR}) OPERATOR(pg_catalog.=) 1)"

RAISING = """
SELECT count(*) FROM {spots} WHERE area = box '(1,1),(0,0)'
SELECT count(*) FROM {spots} WHERE side < lseg '[(1,1),(0,0)]'
SELECT count(*) FROM {spots} WHERE CASE area WHEN box '(1,1),(0,0)' THEN true END
SELECT count(*) FROM {spots} WHERE area IN (box '(1,1),(0,0)', box '(2,2),(0,0)')
SELECT count(*) FROM {spots} WHERE area BETWEEN '(1,1),(0,0)' AND box '(3,3),(0,0)'
SELECT count(*) FROM (SELECT area AS a FROM {spots}) x WHERE a = box '(1,1),(0,0)'
SELECT count(*) FROM (SELECT * FROM (SELECT id, area FROM {spots}) y) x(i, a) WHERE a = box '(1,1),(0,0)'
SELECT count(*) FROM (SELECT coalesce(area, NULL) AS a FROM {spots}) x WHERE a = box '(1,1),(0,0)'
SELECT count(*) FROM {spots} WHERE size = 1::float8
SELECT count(*) FROM {spots} WHERE coalesce(size, 1::float8) > 0
SELECT count(*) FROM {spots} WHERE greatest(size, 1::float8) > 0
SELECT count(*) FROM (SELECT size AS a FROM {spots}) x WHERE a > 0::float8
SELECT count(*) FROM {spots} WHERE big = 1::oid
SELECT count(*) FROM {spots} WHERE label <> 'hidden' OR (id, size) = (9, 1::float8)
SELECT count(*) FROM {spots} WHERE label <> 'hidden' OR (id, size) IN ((1, 1), (9, 1::float8))
SELECT count(*) FROM {spots} WHERE coalesce(at, now()) > '2000-01-01'
SELECT count(*) FROM {spots} WHERE label <> 'hidden' OR latin < posix
SELECT count(*) FROM {spots} s, LATERAL (VALUES (1 / (s.id - 9))) v(k) WHERE v.k < 5
SELECT count(*) FROM (SELECT 1 / (id - 9) AS k FROM {spots}) x(z) WHERE z < 5
SELECT count(*) FROM (SELECT * FROM (SELECT 1 / (id - 9) FROM {spots}) y(z)) x WHERE z < 5
WITH c(z) AS (SELECT 1 / (id - 9) FROM {spots}) SELECT count(*) FROM c AS d(y) WHERE y < 5
"""


@pytest.mark.parametrize("sql", RAISING.strip().splitlines())
def test_comparison_that_raises_for_a_hidden_value_does_not_meet_it(
    open_session: Open, sql: str
) -> None:
    sessions = [open_session(world) for world in "AB"]
    plain = [
        session.raw(sql.format(spots=FILTERED + " spots" * (" s," not in sql)))
        for session in sessions
    ]
    assert (plain[0].rows, plain[0].sqlstate) != (plain[1].rows, plain[1].sqlstate), plain[0]
    held = [session.ask(sql.format(spots="spots")) for session in sessions]
    assert held[0].refused is None, held[0].refused
    assert (held[0].rows, held[0].sqlstate) == (held[1].rows, held[1].sqlstate), held[0].text
    assert held[0].sqlstate is None, held[0].text


TEXT, INT8, FLOAT8, BOX, OID = 25, 20, 701, 603, 26


@pytest.mark.parametrize(
    ("sql", "values", "types"),
    [
        ("SELECT count(*) FROM {spots} WHERE label = 'hidden' AND id = $1::int", ["x"], [TEXT]),
        (
            "SELECT count(*) FROM {spots} WHERE label = 'hidden' AND label <> $1 AND id = $1::int",
            ["x"],
            [0],
        ),
        ("SELECT count(*) FROM {spots} WHERE label = 'hidden' AND id = $1::text::int", ["x"], [0]),
        (
            "SELECT count(*) FROM {spots} WHERE label = 'hidden' AND size = $1::numeric(3,2)",
            ["1000"],
            [0],
        ),
        (
            "SELECT count(*) FROM {spots} WHERE label <> 'hidden' OR $1 = $2",
            ["(1e200,1e200),(0,0)"] * 2,
            [BOX, BOX],
        ),
        ("SELECT count(*) FROM {spots} WHERE big = $1", ["1"], [OID]),
        ("SELECT count(*) FROM {spots} WHERE size > $1", ["1"], [FLOAT8]),
        (
            "SELECT count(*) FROM {spots} WHERE label = 'hidden' AND at < $1 + interval '300 years'",
            ["294270-01-01"],
            [1184],
        ),
    ],
)
def test_parameter_that_is_cast_for_each_row_tells_of_no_hidden_row(
    open_session: Open, sql: str, values: list[str], types: list[int]
) -> None:
    sessions = [open_session(world) for world in "AB"]
    plain = [
        s.prepared(sql.format(spots=FILTERED + " spots"), values, types, plain=True)
        for s in sessions
    ]
    assert plain[0].sqlstate != plain[1].sqlstate, plain[0]
    held = [session.prepared(sql.format(spots="spots"), values, types) for session in sessions]
    assert held[0].refused is None, held[0].refused
    assert (held[0].rows, held[0].sqlstate) == (held[1].rows, held[1].sqlstate), held[0].text


@pytest.mark.parametrize(
    ("where", "types"),
    [
        ("id = $1::int", [0]),
        ("id = $1::int OR $1::int IS NULL", [23]),
        ("size = $1", [0]),
        ("size > 1.5 AND big IN (1, 2, 3) AND at > date '2020-01-01'", []),
        ("label = $1 AND label LIKE 'x%' AND latin = posix COLLATE \"C\"", [0]),
        ("big = $1 AND coalesce(label, '') <> '' AND coalesce(size, 0) >= 0", [20]),
        ("at > now() - interval '1 year'", []),
        ("id = ANY($1::int[])", [0]),
        ("area IS NOT NULL", []),
        ("(id, size) IN ((1, 1), (2, $1))", [0]),
        ("id IN (SELECT user_id FROM orders)", []),
        ("id = (CASE WHEN big > 3 THEN 1 ELSE 2 END)", []),
    ],
)
def test_comparison_that_never_raises_is_left_alone(
    open_session: Open, where: str, types: list[int]
) -> None:
    text = open_session().rewritten(f"SELECT count(*) FROM spots WHERE {where}", types)
    assert "THEN (" not in text, text
