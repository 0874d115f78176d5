"""Rewritten statements, facts and refusals, word for word (tests/golden/rewriting.yaml)."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from sluice_proxy import _native
from sluice_proxy.catalog.model import Catalog, Column, ColumnType, Relation, RelationKind
from sluice_proxy.decisions import (
    ClassEntry,
    Level,
    Mask,
    RowFilter,
    SessionContext,
    SessionDecision,
)
from sluice_proxy.facts import read_facts
from sluice_proxy.reports import ClientError

GOLDEN = Path(__file__).parents[2] / "golden" / "rewriting.yaml"
QUERIES = """
SELECT name FROM users
SELECT email FROM users WHERE id = $1
SELECT * FROM ONLY (public.users) AS u
TABLE users
SELECT public.users.email FROM public.users
SELECT u.e FROM users AS u(i, t, n, e)
SELECT count(*) FROM users
SELECT name FROM users WHERE id = 7 AND name ~ 'x'
SELECT name FROM users WHERE (id = 7 AND name LIKE 'a%') AND NOT name ~ 'x'
SELECT o.id FROM orders o LEFT JOIN users u ON u.id = o.user_id AND u.name ~ 'x'
SELECT count(*) FROM (SELECT id FROM users) x WHERE 1 / (id - 5) < 3
WITH users AS (SELECT 1 AS id) SELECT id FROM users
WITH x AS (SELECT name ~ 'x' AS k FROM users) SELECT count(*) FROM x WHERE k
SELECT name, born FROM users GROUP BY id
SELECT id FROM users GROUP BY id HAVING 1 / (id - 5) < 3
SELECT orders.id FROM orders, old.orders
SELECT card FROM old.orders FOR UPDATE
UPDATE users SET name = 'x' WHERE name ~ 'y' RETURNING email
UPDATE users SET email = name
DELETE FROM users
DELETE FROM users WHERE email = 'x'
INSERT INTO users (id, tenant) VALUES (1, 2)
INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x'
COPY users (id, email) TO STDOUT
COPY users FROM STDIN
EXPLAIN SELECT name FROM users
SET search_path = old
SET role = x
BEGIN
CREATE TEMP TABLE t (id int); INSERT INTO t VALUES (1); DROP TABLE t
SELECT * FROM nowhere
SELECT dblink('x')
SELECT ctid FROM users
DO $$ BEGIN END $$
SELECT name FROM
"""


def _type(name: str) -> ColumnType:
    oid = {"int4": 23, "text": 25, "date": 1082}[name]
    category = {"int4": "N", "text": "S", "date": "D"}[name]
    full = f"pg_catalog.{name}"
    return ColumnType(oid, oid, full, full, category, None, None)


def _relation(oid: int, qualified: str, columns: dict[str, str]) -> Relation:
    schema, name = qualified.split(".")
    made = tuple(
        Column(
            number, column, _type(words.split()[0]), " " in words, generated=False, identity=False
        )
        for number, (column, words) in enumerate(columns.items(), 1)
    )
    key = tuple(column for column, words in columns.items() if words.endswith(" key"))
    return Relation(oid, schema, name, RelationKind.TABLE, made, len(made), key)


def _context(document: dict[str, Any]) -> SessionContext:
    tables = [_relation(20000 + n, *each) for n, each in enumerate(document["catalog"].items())]
    catalog = Catalog(
        database="shop",
        version=1,
        server_major=15,
        relations={(table.schema, table.name): table for table in tables},
        by_oid={table.oid: table for table in tables},
        functions={},
        operators={},
        types={},
        schemas=frozenset({"public", "old"}),
    )
    policy = document["policy"]
    entries = [
        ClassEntry(key.rpartition(".")[0], key.rpartition(".")[2], made)
        for key, made in policy["classes"].items()
    ]
    decision = SessionDecision(
        revision="r",
        sequence=1,
        valid_until_ns=None,
        allow=True,
        level=Level.RESTRICTED,
        observe=False,
        policies=("shop/desk",),
        reasons=(),
        entries=tuple(entries),
        unreviewed_masked=False,
        masks={name: Mask(kind) for name, kind in policy["masks"].items()},
        row_filters=tuple(
            RowFilter(table, ((column,), " OPERATOR(pg_catalog.=) 1"), "shop/desk")
            for table, column in policy["filters"].items()
        ),
        rows_max=None,
        seconds_max=None,
        trusted_functions=frozenset(),
        trusted_channels=frozenset(),
        write_oracle_keys_accepted=True,
        write_oracle_row_values_accepted=False,
    )
    return SessionContext("shop/shop", "desk", ("pg_catalog", "public"), {}, decision, catalog, 15)


def _outcome(query: str, context: SessionContext) -> dict[str, Any]:
    text = query.encode()
    try:
        facts = read_facts(text, context, simple=True)
    except ClientError as error:
        report = error.report
        return {"query": query, "refused": f"{report.sqlstate.value} {report.message}"}
    edits = [_native.Edit(e.start, e.end, e.text.encode()) for f in facts for e in f.edits]
    rewritten = _native.apply_edits(text, edits).decode()
    return {
        "query": query,
        "rewritten": LiteralScalarString(rewritten),
        "facts": [f.opa() | {"cache": f.cacheable, "bound": len(f.bound)} for f in facts],
    }


def test_statements_become_what_the_golden_file_says(request: pytest.FixtureRequest) -> None:
    yaml = YAML()
    yaml.width = 4096
    document: Any = yaml.load(GOLDEN)  # pyright: ignore[reportUnknownMemberType]
    context = _context(document)
    found = [_outcome(query, context) for query in QUERIES.strip().splitlines()]
    if request.config.getoption("--update-golden"):
        document["cases"] = found
        yaml.dump(document, GOLDEN)  # pyright: ignore[reportUnknownMemberType]
    assert found == [dict(case) for case in _golden()["cases"]]


def _golden() -> dict[str, Any]:
    return YAML(typ="safe").load(GOLDEN)  # pyright: ignore[reportUnknownMemberType]


@functools.cache
def _known_context() -> SessionContext:
    return _context(_golden())


@settings(deadline=None)
@given(st.text(alphabet="SELECTFROMusrWH= ().,;'\"-*/$1%éß😀&U\\\n", max_size=60))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    context = _known_context()
    with contextlib.suppress(ClientError):
        read_facts(text.encode("utf-8", "replace"), context, simple=True)
