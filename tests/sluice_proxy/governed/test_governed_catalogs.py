"""What a decision means for the catalogs themselves, and what of it cannot be carried out."""

from __future__ import annotations

import dataclasses
from typing import Any

import psycopg

from sluice_dev.postgres import Server
from sluice_proxy.catalog.model import Catalog
from sluice_proxy.catalog.reader import CatalogReader
from sluice_proxy.decisions import Mask, Parts
from sluice_proxy.governed import governed_relations, problems, warnings
from sluice_proxy.masks import mask_sql

EMAIL, REDACT, LAST = Mask("email"), Mask("redact"), Mask("last", count=4)


# Catalogs


async def test_catalogs_run_with_their_columns_replaced_on_each_major(
    each_postgres: Server, schema: str, decision: Any
) -> None:
    dsn = each_postgres.create_database("governed", schema)
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


def test_statistics_and_counters_are_denied(catalog: Catalog, decision: Any, of: Any) -> None:
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


def test_server_without_an_allow_list_shows_no_catalog(
    catalog: Catalog, decision: Any, of: Any
) -> None:
    old = dataclasses.replace(catalog, server_major=13)
    governed = of(old, decision(), "pg_class", "pg_catalog")
    assert governed is not None
    assert governed.denial is not None
    assert "PostgreSQL 13" in governed.denial


# What cannot be carried out


def test_mask_that_does_not_fit_is_a_problem_and_redacted(
    catalog: Catalog, decision: Any, of: Any
) -> None:
    said = decision(("public.users", "age", "pii.ssn"))
    (problem,) = problems(catalog, said)
    assert 'column "age" of "public.users" (class pii.ssn)' in problem
    assert "shop/p" in problem
    users = of(catalog, said, "users")
    assert users is not None
    assert users.masks["age"] == REDACT


def test_hash_without_the_owners_function_is_a_problem(
    catalog: Catalog, decision: Any, of: Any
) -> None:
    said = decision(("public.users", "email", "pii.email"), masks={"pii.email": Mask("hash")})
    (problem,) = problems(catalog, said)
    assert "sluice sql hash" in problem
    users = of(catalog, said, "users")
    assert users is not None
    assert users.masks["email"] == REDACT


def test_names_that_do_not_exist_are_told(catalog: Catalog, decision: Any) -> None:
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


def test_expression_that_reads_a_missing_column_is_a_problem(
    catalog: Catalog, decision: Any
) -> None:
    mask = Mask("expression", parts=("(", ("value",), " || ", ("region",), ")"), rank="email")
    said = decision(("public.users", "email", "pii.email"), masks={"pii.email": mask})
    assert any('reads column "region"' in problem for problem in problems(catalog, said))
