"""Which rows of a real catalog are shown: filters, through views, parents and children."""

from __future__ import annotations

import dataclasses
from typing import Any

import asyncpg
import pytest

from sluice_proxy.catalog.model import Catalog
from sluice_proxy.decisions import Parts, RowFilter
from sluice_proxy.governed import GovernedRelation

TENANT: Parts = (("tenant",), " OPERATOR(pg_catalog.=) 1")
TRUE: Parts = ("(TRUE)",)


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
    catalog: Catalog, connection: asyncpg.Connection, decision: Any, of: Any
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
    catalog: Catalog, connection: asyncpg.Connection, decision: Any, of: Any
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
    catalog: Catalog, view: str, decision: Any, of: Any
) -> None:
    said = decision(filters=(("public.users", TENANT),))
    governed = of(catalog, said, view)
    assert governed is not None
    assert governed.denial is not None
    assert f'add a rowFilters entry for "public.{view}"' in governed.denial
    lifted = decision(filters=(("public.users", TENANT), (f"public.{view}", TRUE)))
    allowed = of(catalog, lifted, view)
    assert allowed is None or allowed.denial is None


def test_view_that_gives_a_row_for_each_part_of_a_masked_value_is_denied(
    catalog: Catalog, decision: Any, of: Any
) -> None:
    governed = of(catalog, decision(("public.users", "ssn", "pii.ssn")), "v_words")
    assert governed is not None
    assert governed.denial is not None
    assert 'may hang on column "ssn"' in governed.denial


def test_view_that_gives_rows_by_a_constant_is_shown(
    catalog: Catalog, decision: Any, of: Any
) -> None:
    governed = of(catalog, decision(("public.users", "ssn", "pii.ssn")), "v_series")
    assert governed is None or governed.denial is None


def test_another_policys_exemption_lifts_nothing(catalog: Catalog, decision: Any, of: Any) -> None:
    said = decision(filters=(("public.users", TENANT),))
    said = dataclasses.replace(
        said, row_filters=(*said.row_filters, RowFilter("public.v_count", TRUE, "shop/other"))
    )
    governed = of(catalog, said, "v_count")
    assert governed is not None
    assert governed.denial is not None


def test_exemption_of_a_table_does_not_lift_its_filter(
    catalog: Catalog, decision: Any, of: Any
) -> None:
    said = decision(filters=(("public.users", TENANT), ("public.*", TRUE)))
    governed = of(catalog, said, "users")
    assert governed is not None
    assert governed.filters == (TENANT,)
    count = of(catalog, said, "v_count")
    assert count is not None
    assert count.denial is not None


def test_parents_filter_holds_for_children(catalog: Catalog, decision: Any, of: Any) -> None:
    said = decision(filters=(("public.parts", TENANT),))
    for name in ("parts", "parts_1", "parts_rest"):
        governed = of(catalog, said, name)
        assert governed is not None
        assert governed.filters == (TENANT,)
        assert governed.denial is None


def test_childs_filter_denies_a_parent_that_is_not_filtered_alike(
    catalog: Catalog, decision: Any, of: Any
) -> None:
    governed = of(catalog, decision(filters=(("public.staff", TENANT),)), "people")
    assert governed is not None
    assert governed.denial is not None
    assert "public.staff" in governed.denial
    alike = of(catalog, decision(filters=(("public.part*", TENANT),)), "parts")
    assert alike is not None
    assert alike.denial is None


def test_table_without_the_filters_column_is_denied(
    catalog: Catalog, decision: Any, of: Any
) -> None:
    governed = of(catalog, decision(filters=(("public.*", TENANT),)), "people")
    assert governed is not None
    assert governed.denial is not None
    assert 'column "tenant"' in governed.denial


def test_sequence_of_a_filtered_table_is_denied(catalog: Catalog, decision: Any, of: Any) -> None:
    governed = of(catalog, decision(filters=(("public.logs", TENANT),)), "logs_id_seq")
    assert governed is not None
    assert governed.denial is not None
    masked = of(catalog, decision(("public.logs", "id", "pii")), "logs_id_seq")
    assert masked is not None
    assert masked.denial is not None
    assert of(catalog, decision(("public.logs", "line", "pii")), "logs_id_seq") is None
