"""GRANT, owners and names of types: they work for what no policy speaks of, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sluice_proxy.decisions import Mask
from sluice_proxy.facts import read_facts
from sluice_proxy.reports import ClientError

Open = Callable[..., Any]

ALLOWED = [
    ("GRANT SELECT, INSERT (memo) ON orders TO facts_desk, PUBLIC WITH GRANT OPTION", "ddl.grant"),
    ("GRANT ALL PRIVILEGES ON TABLE public.orders, tree TO CURRENT_USER", "ddl.grant"),
    ("REVOKE ALL ON orders FROM PUBLIC CASCADE", "ddl.grant"),
    ("GRANT USAGE ON SCHEMA tools TO PUBLIC", "ddl.grant"),
    ("ALTER TABLE orders OWNER TO CURRENT_USER", "ddl.alter"),
    ("ALTER TYPE feeling RENAME TO feeling_old", "ddl.alter"),
    ('ALTER TYPE "public"."feeling_new" RENAME TO "feeling"', "ddl.alter"),
    ("ALTER DOMAIN feet RENAME TO yards", "ddl.alter"),
    ("ALTER TYPE feeling RENAME VALUE 'a' TO 'b'", "ddl.alter"),
    ("ALTER TYPE mood ADD VALUE 'x'", "ddl.alter"),
    ("SET pg_trgm.similarity_threshold = 0.4", "session"),
    ("SET default_toast_compression TO 'lz4'", "session"),
    ("SET default_with_oids = false", "session"),
    ("SET temp_tablespaces = ''", "session"),
]
REFUSED = [
    "REVOKE ALL ON old.orders FROM PUBLIC",
    "GRANT SELECT ON users TO PUBLIC",
    "GRANT SELECT (name) ON users TO PUBLIC",
    "GRANT SELECT ON orders, people TO PUBLIC",
    "GRANT SELECT ON contacts TO PUBLIC",
    "GRANT SELECT ON named TO PUBLIC",
    "GRANT SELECT ON events_low TO PUBLIC",
    "GRANT SELECT ON pg_catalog.pg_authid TO PUBLIC",
    "REVOKE SELECT ON users FROM facts_desk",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC",
    "GRANT ALL ON SCHEMA public TO PUBLIC",
    "GRANT CREATE, USAGE ON SCHEMA public TO PUBLIC",
    "GRANT EXECUTE ON FUNCTION contact(users) TO PUBLIC",
    "GRANT CONNECT ON DATABASE shop TO PUBLIC",
    "GRANT USAGE ON LANGUAGE sql TO PUBLIC",
    "GRANT SET ON PARAMETER work_mem TO PUBLIC",
    "GRANT pg_read_all_data TO facts_desk",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    "ALTER TABLE orders OWNER TO postgres",
    "ALTER TABLE users OWNER TO CURRENT_USER",
    "ALTER VIEW contacts OWNER TO CURRENT_USER",
    "ALTER VIEW named OWNER TO CURRENT_USER",
    "ALTER VIEW contacts SET (security_barrier = false)",
    "ALTER TABLE named OWNER TO CURRENT_USER, ALTER COLUMN id SET DEFAULT 1",
    "ALTER TYPE mood RENAME TO feeling",
    "ALTER TYPE public.mood RENAME VALUE 'calm' TO 'loud'",
    "ALTER TYPE feeling RENAME TO text",
    "ALTER DOMAIN feet RENAME TO int4",
    "ALTER TYPE pg_catalog.text RENAME TO feeling",
    "ALTER TYPE feeling RENAME ATTRIBUTE a TO b",
    "SET default_with_oids = true",
    "SET temp_tablespaces = 'fast'",
    "SET hnsw.ef_search = 400",
    "SET ivfflat.probes = 20",
]


@pytest.mark.parametrize(("sql", "action"), ALLOWED)
def test_what_no_policy_speaks_of_is_given_and_named(
    open_session: Open, sql: str, action: str
) -> None:
    (facts,) = read_facts(sql.encode(), open_session().context(), simple=True)
    assert facts.actions == (action,)
    assert all(table.written and not table.governed for table in facts.tables)


@pytest.mark.parametrize("sql", REFUSED)
def test_what_a_policy_speaks_of_is_neither_given_nor_renamed(open_session: Open, sql: str) -> None:
    with pytest.raises(ClientError) as caught:
        read_facts(sql.encode(), open_session().context(), simple=True)
    assert caught.value.report.sqlstate.value in ("42501", "0A000")


def test_type_that_a_policy_names_is_not_renamed(open_session: Open) -> None:
    context = open_session().context()
    mask = Mask("expression", parts=("(", ("value",), ")::public.feeling"), rank="email")
    masks = {**context.decision.masks, "pii.email": mask}
    named = replace(context, decision=replace(context.decision, masks=masks))
    for sql in (
        b"ALTER TYPE feeling RENAME TO x",
        b"ALTER TYPE x RENAME TO feeling",
        b"ALTER TYPE feeling RENAME VALUE 'a' TO 'b'",
    ):
        read_facts(sql, context, simple=True)
        with pytest.raises(ClientError) as caught:
            read_facts(sql, named, simple=True)
        assert "A policy masks columns" in str(caught.value.report.detail)


def test_names_are_qualified_in_what_is_granted(open_session: Open) -> None:
    session = open_session()
    assert session.rewritten("GRANT SELECT ON orders, tree TO PUBLIC") == (
        'GRANT SELECT ON "public"."orders", "public"."tree" TO PUBLIC'
    )


def test_enum_is_exchanged_in_one_message_as_prisma_does(open_session: Open) -> None:
    sql = b"""BEGIN; CREATE TYPE "Role_new" AS ENUM ('A');
        ALTER TABLE "orders" ALTER COLUMN "memo" TYPE "Role_new" USING ("memo"::text::"Role_new");
        ALTER TYPE "Role" RENAME TO "Role_old"; ALTER TYPE "Role_new" RENAME TO "Role"; DROP TYPE "Role_old"; COMMIT"""
    assert len(read_facts(sql, open_session().context(), simple=True)) == 7
