"""What a plan depends on, as a number."""

from __future__ import annotations

import dataclasses

from sluice_proxy.contexts import Contexts
from sluice_proxy.databases import Database
from sluice_proxy.decide import parse_session
from sluice_proxy.decisions import SessionContext, TemporaryRelation

DATABASE = Database(name="shop/shop", database_name="shop", upstream="db:5432")


def context(making, **changes) -> SessionContext:
    document = making.session() | {"contract": 1, "revision": "r1", "sequence": 1}
    made = SessionContext(
        database="shop/shop",
        role="app",
        search_path=("pg_catalog", "public"),
        temporary={},
        decision=parse_session(document),
        catalog=None,
        server_major=15,
    )
    return dataclasses.replace(made, **changes)


def test_equal_contexts_have_one_number_whatever_the_sequence(making):
    contexts = Contexts()
    one = context(making)
    later = dataclasses.replace(one.decision, sequence=9, valid_until_ns=5)
    number = contexts.number(one, DATABASE, expired=False)
    assert contexts.number(context(making, decision=later), DATABASE, expired=False) == number


def test_whatever_a_plan_may_depend_on_makes_another_number(making):
    contexts = Contexts()
    one = context(making)
    temporary = {"t": TemporaryRelation("t", "r", ("a",))}
    others = [
        dataclasses.replace(one, database="crm/shop"),
        dataclasses.replace(one, role="other"),
        dataclasses.replace(one, search_path=("public", "pg_catalog")),
        dataclasses.replace(one, temporary=temporary),
        dataclasses.replace(one, server_major=16),
        dataclasses.replace(one, decision=dataclasses.replace(one.decision, revision="r2")),
        dataclasses.replace(one, decision=dataclasses.replace(one.decision, rows_max=5)),
    ]
    numbers = {contexts.number(item, DATABASE, expired=False) for item in [one, *others]}
    numbers.add(contexts.number(one, DATABASE, expired=True))
    assert len(numbers) == len(others) + 2


def test_registry_is_bounded_and_numbers_are_not_used_again(making):
    contexts = Contexts(limit=2)
    numbers = [
        contexts.number(context(making, role=role), DATABASE, expired=False) for role in "abca"
    ]
    assert len(set(numbers)) == 4
    assert contexts.get(numbers[0]) is None
    assert contexts.get(numbers[3]) is not None
    assert len(contexts) == 2


def test_other_revisions_are_dropped(making):
    contexts = Contexts()
    number = contexts.number(context(making), DATABASE, expired=False)
    contexts.forget_other_revisions("r1")
    assert contexts.get(number) is not None
    contexts.forget_other_revisions("r2")
    assert contexts.get(number) is None
