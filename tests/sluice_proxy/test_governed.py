"""What a decision means for a real catalog: classes, masks and row filters by lineage."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_dev.postgres import Server
from sluice_proxy.catalog.dsn import connect_arguments
from sluice_proxy.catalog.model import Catalog
from sluice_proxy.catalog.reader import CatalogReader
from sluice_proxy.decisions import ClassEntry, Level, Mask, Parts, RowFilter, SessionDecision
from sluice_proxy.governed import GovernedRelation, governed_relations, problems, warnings
from sluice_proxy.masks import mask_sql, strictness

SCHEMA = """
CREATE TABLE users (id int PRIMARY KEY, tenant int NOT NULL, name text, email text NOT NULL, ssn text,
  age int, meta jsonb,
  low text GENERATED ALWAYS AS (lower(email)) STORED, short text GENERATED ALWAYS AS (right(ssn, 4)) STORED,
  CONSTRAINT c CHECK (ssn <> 'check-secret'));
CREATE INDEX ON users (id) WHERE ssn = 'index-secret';
CREATE TABLE logs (id serial, line text DEFAULT 'default-secret', tenant int, kind text DEFAULT 'default-shown');
CREATE VIEW v_filter AS SELECT email AS mail, tenant AS t FROM users;
CREATE VIEW v_nested AS SELECT v.mail, v.t AS tt FROM v_filter v;
CREATE VIEW v_key AS SELECT id, email, upper(ssn) AS loud, name FROM users;
CREATE VIEW v_blind AS SELECT name, email FROM users;
CREATE VIEW v_count AS SELECT tenant, count(*) AS n FROM users GROUP BY tenant;
CREATE VIEW v_join AS SELECT u.tenant, l.line FROM users u JOIN logs l ON l.id = u.id;
CREATE FUNCTION peek() RETURNS SETOF users LANGUAGE sql AS 'SELECT * FROM users';
CREATE VIEW v_peek AS SELECT p.name, p.email FROM peek() p;
CREATE VIEW v_stats AS SELECT tablename, most_common_vals::text AS vals FROM pg_catalog.pg_stats;
CREATE TABLE parts (id int, tenant int, day date, mail text, who text) PARTITION BY LIST (mail);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN ('bound-secret');
CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
CREATE TABLE people (id int, mail text);
CREATE TABLE staff (wage numeric, tenant int) INHERITS (people);
INSERT INTO users (id, tenant, name, email, ssn) SELECT i, 1 + i % 2, 'n' || i, 'u' || i || '@x.com', '900-00-000' || i
  FROM generate_series(1, 9) i;
"""

EMAIL, REDACT, LAST = Mask("email"), Mask("redact"), Mask("last", count=4)
MASKS = {
    "pii.email": EMAIL,
    "pii.ssn": LAST,
    "pii": REDACT,
    "raw": Mask("none"),
    "unreviewed": REDACT,
}
TENANT: Parts = (("tenant",), " OPERATOR(pg_catalog.=) 1")
TRUE: Parts = ("(TRUE)",)


def decision(
    *entries: tuple[str, str, str],
    filters: tuple[tuple[str, Parts], ...] = (),
    policy: str = "shop/p",
    unreviewed: bool = False,
    masks: dict[str, Mask] | None = None,
) -> SessionDecision:
    return SessionDecision(
        revision="r",
        sequence=1,
        valid_until_ns=None,
        allow=True,
        level=Level.RESTRICTED,
        observe=False,
        policies=(policy,),
        reasons=(),
        entries=tuple(ClassEntry(*entry) for entry in entries),
        unreviewed_masked=unreviewed,
        masks=masks or MASKS,
        row_filters=tuple(RowFilter(table, parts, policy) for table, parts in filters),
        rows_max=None,
        seconds_max=None,
        trusted_functions=frozenset(),
        trusted_channels=frozenset(),
        write_oracle_keys_accepted=True,
        write_oracle_row_values_accepted=False,
    )


@pytest.fixture(scope="module")
def dsn(postgres: Server) -> str:
    return postgres.create_database("governed_tests", SCHEMA)


@pytest.fixture(scope="module")
def catalog(dsn: str) -> Catalog:
    import asyncio  # noqa: PLC0415

    async def read() -> Catalog:
        reader = CatalogReader(dsn)
        try:
            return await reader.read()
        finally:
            await reader.close()

    return asyncio.run(read())


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**connect_arguments(dsn))
    yield connection
    await connection.close()


def of(
    catalog: Catalog, said: SessionDecision, name: str, schema: str = "public"
) -> GovernedRelation | None:
    relation = catalog.relation(schema, name)
    assert relation is not None, name
    return governed_relations(catalog, said).get(relation.oid)


def classes(catalog: Catalog, said: SessionDecision, name: str) -> dict[str, str]:
    found = of(catalog, said, name)
    return dict(found.classes) if found is not None else {}


# Entries


def test_most_specific_entry_wins(catalog: Catalog) -> None:
    said = decision(
        ("*.*", "email", "pii"),
        ("public.users", "e*", "pii.ssn"),
        ("public.users", "email", "pii.email"),
    )
    assert classes(catalog, said, "users")["email"] == "pii.email"
    said = decision(("*.*", "email", "pii"), ("public.users", "e*", "pii.ssn"))
    assert classes(catalog, said, "users")["email"] == "pii"
    said = decision(("*.*", "e*", "pii"), ("public.users", "e*", "pii.ssn"))
    assert classes(catalog, said, "users")["email"] == "pii.ssn"


def test_equally_specific_entries_give_the_strictest(catalog: Catalog) -> None:
    for entries in (
        (("public.users", "email", "pii.email"), ("public.users", "email", "pii")),
        (("public.users", "email", "pii"), ("public.users", "email", "pii.email")),
    ):
        assert classes(catalog, decision(*entries), "users")["email"] == "pii"


def test_pattern_never_makes_public_what_another_entry_classifies(catalog: Catalog) -> None:
    for pattern in (
        ("public.users", "*", "public"),
        ("public.*", "ssn", "public"),
        ("*.*", "*", "public"),
    ):
        said = decision(pattern, ("*.*", "*ssn*", "pii.ssn"))
        assert classes(catalog, said, "users")["ssn"] == "pii.ssn", pattern
    named = decision(("public.users", "ssn", "public"), ("*.*", "*ssn*", "pii.ssn"))
    assert "ssn" not in classes(catalog, named, "users")


def test_column_that_no_entry_matches_is_unreviewed_where_the_policy_says_so(
    catalog: Catalog,
) -> None:
    entries = (("public.users", "email", "pii.email"), ("public.users", "name", "public"))
    held = classes(catalog, decision(*entries, unreviewed=True), "users")
    assert held["meta"] == "unreviewed"
    assert "name" not in held
    assert classes(catalog, decision(*entries), "users").keys() == {"email", "low"}


def test_catalogs_are_never_unreviewed(catalog: Catalog) -> None:
    said = decision(unreviewed=True)
    assert of(catalog, said, "pg_type", "pg_catalog") is None
    assert of(catalog, said, "tables", "information_schema") is None


# Lineage


def test_generated_columns_inherit_unless_named(catalog: Catalog) -> None:
    entries = (
        ("public.users", "ssn", "pii.ssn"),
        ("public.users", "email", "pii.email"),
        ("*.*", "*", "public"),
    )
    users = of(catalog, decision(*entries), "users")
    assert users is not None
    assert users.classes["short"] == "pii.ssn"
    assert users.masks["short"] == REDACT, "last 4 of the last 4 would be the whole of it"
    named = decision(*entries, ("public.users", "short", "public"))
    assert "short" not in classes(catalog, named, "users")


def test_view_columns_inherit_and_computed_ones_are_redacted(catalog: Catalog) -> None:
    said = decision(
        ("public.users", "email", "pii.email"),
        ("public.users", "ssn", "pii.ssn"),
        ("*.*", "*", "public"),
    )
    nested = of(catalog, said, "v_nested")
    assert nested is not None
    assert nested.classes == {"mail": "pii.email"}
    assert nested.masks == {"mail": EMAIL}
    key = of(catalog, said, "v_key")
    assert key is not None
    assert key.masks == {"email": EMAIL, "loud": REDACT}


def test_view_column_named_by_an_entry_is_what_the_entry_says(catalog: Catalog) -> None:
    said = decision(("public.users", "ssn", "pii.ssn"), ("public.v_key", "loud", "public"))
    assert "loud" not in classes(catalog, said, "v_key")


def test_unknown_lineage_takes_the_strictest_class(catalog: Catalog) -> None:
    said = decision(("public.users", "email", "pii.email"), ("public.users", "ssn", "pii"))
    peek = of(catalog, said, "v_peek")
    assert peek is not None
    assert peek.masks == {"name": REDACT, "email": REDACT}


def test_view_over_a_denied_catalog_shows_nothing_of_it(catalog: Catalog) -> None:
    stats = of(catalog, decision(("public.users", "email", "pii.email")), "v_stats")
    assert stats is not None
    assert stats.masks.keys() == {"tablename", "vals"}


def test_parents_classes_hold_for_children_and_childrens_for_parents(catalog: Catalog) -> None:
    said = decision(
        ("public.parts", "mail", "pii.email"),
        ("public.parts_1", "who", "pii"),
        ("*.*", "*", "public"),
    )
    assert classes(catalog, said, "parts_rest") == {"mail": "pii.email"}
    assert classes(catalog, said, "parts_1") == {"mail": "pii.email", "who": "pii"}
    assert classes(catalog, said, "parts") == {"mail": "pii.email", "who": "pii"}


def test_reviewed_parent_reviews_its_children(catalog: Catalog) -> None:
    said = decision(("public.people", "*", "public"), unreviewed=True)
    assert classes(catalog, said, "staff").keys() == {"wage", "tenant"}


# Row filters


def run(text: tuple[str | tuple[str], ...], names: dict[str, str]) -> str:
    return "".join(part if isinstance(part, str) else names[part[0]] for part in text)


async def visible(connection: asyncpg.Connection, governed: GovernedRelation) -> list[Any]:
    """Read a relation as a plan would: positional aliases, all filters."""
    columns = governed.relation.columns
    names = {column.name: f"s.c{i}" for i, column in enumerate(columns, 1)}
    where = " AND ".join(f"({run(parts, names)})" for parts in governed.filters) or "true"
    aliases = ", ".join(f"c{i}" for i in range(1, len(columns) + 1))
    return await connection.fetch(
        f"SELECT s.* FROM {governed.relation.qualified} s({aliases}) WHERE {where}"
    )


async def test_filters_follow_into_views_by_column_or_by_key(
    catalog: Catalog, connection: asyncpg.Connection
) -> None:
    said = decision(filters=(("public.users", TENANT),))
    for name in ("users", "v_filter", "v_nested", "v_key"):
        governed = of(catalog, said, name)
        assert governed is not None
        assert governed.denial is None
        assert len(await visible(connection, governed)) == 4, name
    key = of(catalog, said, "v_key")
    assert key is not None
    assert key.filter_columns == {"id"}
    assert "EXISTS" in str(key.filters)


async def test_key_filter_is_pinned_to_the_table_that_was_judged(
    catalog: Catalog, connection: asyncpg.Connection
) -> None:
    governed = of(catalog, decision(filters=(("public.users", TENANT),)), "v_key")
    assert governed is not None
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        "ALTER TABLE users RENAME TO users_was; CREATE TABLE users AS SELECT * FROM users_was"
    )
    with pytest.raises(asyncpg.DivisionByZeroError):
        await visible(connection, governed)
    await transaction.rollback()


@pytest.mark.parametrize("view", ["v_blind", "v_count", "v_join", "v_peek"])
def test_view_whose_filter_cannot_follow_is_denied_with_a_way_out(
    catalog: Catalog, view: str
) -> None:
    said = decision(filters=(("public.users", TENANT),))
    governed = of(catalog, said, view)
    assert governed is not None
    assert governed.denial is not None
    assert f'add a rowFilters entry for "public.{view}"' in governed.denial
    lifted = decision(filters=(("public.users", TENANT), (f"public.{view}", TRUE)))
    allowed = of(catalog, lifted, view)
    assert allowed is None or allowed.denial is None


def test_another_policys_exemption_lifts_nothing(catalog: Catalog) -> None:
    said = decision(filters=(("public.users", TENANT),))
    said = dataclasses.replace(
        said, row_filters=(*said.row_filters, RowFilter("public.v_count", TRUE, "shop/other"))
    )
    governed = of(catalog, said, "v_count")
    assert governed is not None
    assert governed.denial is not None


def test_exemption_of_a_table_does_not_lift_its_filter(catalog: Catalog) -> None:
    said = decision(filters=(("public.users", TENANT), ("public.*", TRUE)))
    governed = of(catalog, said, "users")
    assert governed is not None
    assert governed.filters == (TENANT,)
    count = of(catalog, said, "v_count")
    assert count is not None
    assert count.denial is not None


def test_parents_filter_holds_for_children(catalog: Catalog) -> None:
    said = decision(filters=(("public.parts", TENANT),))
    for name in ("parts", "parts_1", "parts_rest"):
        governed = of(catalog, said, name)
        assert governed is not None
        assert governed.filters == (TENANT,)
        assert governed.denial is None


def test_childs_filter_denies_a_parent_that_is_not_filtered_alike(catalog: Catalog) -> None:
    governed = of(catalog, decision(filters=(("public.staff", TENANT),)), "people")
    assert governed is not None
    assert governed.denial is not None
    assert "public.staff" in governed.denial
    alike = of(catalog, decision(filters=(("public.part*", TENANT),)), "parts")
    assert alike is not None
    assert alike.denial is None


def test_table_without_the_filters_column_is_denied(catalog: Catalog) -> None:
    governed = of(catalog, decision(filters=(("public.*", TENANT),)), "people")
    assert governed is not None
    assert governed.denial is not None
    assert 'column "tenant"' in governed.denial


def test_sequence_of_a_filtered_table_is_denied(catalog: Catalog) -> None:
    governed = of(catalog, decision(filters=(("public.logs", TENANT),)), "logs_id_seq")
    assert governed is not None
    assert governed.denial is not None
    masked = of(catalog, decision(("public.logs", "id", "pii")), "logs_id_seq")
    assert masked is not None
    assert masked.denial is not None
    assert of(catalog, decision(("public.logs", "line", "pii")), "logs_id_seq") is None


# Catalogs


async def test_catalogs_run_with_their_columns_replaced_on_each_major(
    each_postgres: Server,
) -> None:
    dsn = each_postgres.create_database("governed", SCHEMA)
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("ANALYZE")
    reader = CatalogReader(dsn)
    catalog = await reader.read()
    await reader.close()
    said = decision(
        ("public.users", "ssn", "pii.ssn"),
        ("public.parts", "mail", "pii.email"),
        ("public.logs", "line", "pii"),
    )
    secrets = ("check-secret", "index-secret", "bound-secret", "default-secret")
    shown: dict[str, str] = {}
    with psycopg.connect(dsn, autocommit=True) as admin:
        for governed in governed_relations(catalog, said).values():
            relation = governed.relation
            if (
                relation.schema not in {"pg_catalog", "information_schema"}
                or governed.denial is not None
            ):
                continue
            names = {column.name: f"s.c{i}" for i, column in enumerate(relation.columns, 1)}
            aliases = ", ".join(alias[2:] for alias in names.values())
            for name, mask in governed.masks.items():
                column = relation.column(name)
                assert column is not None
                sql = mask_sql(mask, column, names[name], catalog, references=names.__getitem__)
                text = f"SELECT {sql} AS v FROM {relation.qualified} s({aliases})"
                answer = admin.execute(text)
                assert answer.description is not None
                assert answer.description[0].type_code == column.type.base_oid, (
                    relation.qualified,
                    name,
                )
                rows = admin.execute(f"SELECT v::pg_catalog.text FROM ({text}) q").fetchall()
                shown[f"{relation.name}.{name}"] = str(rows)
    assert "-1" in shown["pg_class.reltuples"]
    assert "nextval('logs_id_seq'::regclass)" in shown["columns.column_default"]
    assert "'default-shown'::text" in shown["columns.column_default"], (
        "nothing holds for that column"
    )
    for name, text in shown.items():
        raw = name in {
            "pg_class.relpartbound",
            "pg_attrdef.adbin",
            "pg_constraint.conbin",
            "pg_index.indpred",
        }
        for secret in secrets:
            assert secret not in text, name
            if raw:
                # A node tree prints a constant as the decimal numbers of its bytes.
                assert " ".join(str(byte) for byte in secret.encode()) not in text, name


def test_statistics_and_counters_are_denied(catalog: Catalog) -> None:
    said = decision(("public.users", "ssn", "pii.ssn"))
    for name in (
        "pg_stats",
        "pg_statistic",
        "pg_stat_user_functions",
        "pg_largeobject",
        "pg_authid",
    ):
        governed = of(catalog, said, name, "pg_catalog")
        assert governed is not None
        assert governed.denial is not None, name


def test_server_without_an_allow_list_shows_no_catalog(catalog: Catalog) -> None:
    old = dataclasses.replace(catalog, server_major=13)
    governed = of(old, decision(), "pg_class", "pg_catalog")
    assert governed is not None
    assert governed.denial is not None
    assert "PostgreSQL 13" in governed.denial


# What cannot be carried out


def test_mask_that_does_not_fit_is_a_problem_and_redacted(catalog: Catalog) -> None:
    said = decision(("public.users", "age", "pii.ssn"))
    (problem,) = problems(catalog, said)
    assert 'column "age" of "public.users" (class pii.ssn)' in problem
    assert "shop/p" in problem
    users = of(catalog, said, "users")
    assert users is not None
    assert users.masks["age"] == REDACT


def test_hash_without_the_owners_function_is_a_problem(catalog: Catalog) -> None:
    said = decision(("public.users", "email", "pii.email"), masks={"pii.email": Mask("hash")})
    (problem,) = problems(catalog, said)
    assert "sluice sql hash" in problem
    users = of(catalog, said, "users")
    assert users is not None
    assert users.masks["email"] == REDACT


def test_names_that_do_not_exist_are_told(catalog: Catalog) -> None:
    missing: Parts = (("region",), " IS NULL")
    said = decision(
        ("public.nope", "x", "pii"),
        ("public.users", "nope", "pii"),
        filters=(("public.users", missing),),
    )
    assert len(warnings(catalog, said)) == 2
    (problem,) = problems(catalog, said)
    assert 'column "region"' in problem
    assert "shop/p" in problem


def test_expression_that_reads_a_missing_column_is_a_problem(catalog: Catalog) -> None:
    mask = Mask("expression", parts=("(", ("value",), " || ", ("region",), ")"), rank="email")
    said = decision(("public.users", "email", "pii.email"), masks={"pii.email": mask})
    assert any('reads column "region"' in problem for problem in problems(catalog, said))


# Properties

_TABLES = (
    "*.*",
    "public.*",
    "public.users",
    "public.u*",
    "public.parts",
    "public.parts_1",
    "public.v_key",
)
_COLUMNS = ("*", "e*", "email", "ssn", "mail", "*m*", "tenant")
_ENTRY = st.tuples(
    st.sampled_from(_TABLES),
    st.sampled_from(_COLUMNS),
    st.sampled_from(["pii", "pii.email", "pii.ssn"]),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(entries=st.lists(_ENTRY, max_size=5), more=_ENTRY, order=st.randoms())
def test_order_of_entries_changes_nothing(
    catalog: Catalog, entries: list[tuple[str, str, str]], more: tuple[str, str, str], order: Any
) -> None:
    all_entries = [*entries, more]
    shuffled = list(all_entries)
    order.shuffle(shuffled)
    first = governed_relations(catalog, decision(*all_entries))
    second = governed_relations(catalog, decision(*shuffled))
    assert {o: g.masks for o, g in first.items()} == {o: g.masks for o, g in second.items()}


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(entries=st.lists(_ENTRY, max_size=4))
def test_children_never_show_more_than_their_parents_promise(
    catalog: Catalog, entries: list[tuple[str, str, str]]
) -> None:
    """A parent's mask is at least as strict as any child's, by the same column: its scan shows the child's rows."""
    said = decision(*entries)
    found = governed_relations(catalog, said)
    for relation in catalog.by_oid.values():
        parent = found.get(relation.oid)
        for oid in relation.children:
            child = found.get(oid)
            for name, mask in (child.masks if child is not None else {}).items():
                if relation.column(name) is not None:
                    assert parent is not None
                    assert strictness(parent.masks[name]) >= strictness(mask)


def test_answers_are_remembered_for_the_same_objects(catalog: Catalog) -> None:
    said = decision(("public.users", "email", "pii.email"))
    assert governed_relations(catalog, said) is governed_relations(catalog, said)
