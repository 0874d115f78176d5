"""Which classes and masks hold for the columns of a real catalog: entries and lineage."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_proxy.catalog.model import Catalog
from sluice_proxy.decisions import Mask
from sluice_proxy.governed import governed_relations
from sluice_proxy.masks import strictness

EMAIL, REDACT, LAST = Mask("email"), Mask("redact"), Mask("last", count=4)


# Entries


def test_most_specific_entry_wins(catalog: Catalog, decision: Any, classes: Any) -> None:
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


def test_equally_specific_entries_give_the_strictest(
    catalog: Catalog, decision: Any, classes: Any
) -> None:
    for entries in (
        (("public.users", "email", "pii.email"), ("public.users", "email", "pii")),
        (("public.users", "email", "pii"), ("public.users", "email", "pii.email")),
    ):
        assert classes(catalog, decision(*entries), "users")["email"] == "pii"


def test_pattern_never_makes_public_what_another_entry_classifies(
    catalog: Catalog, decision: Any, classes: Any
) -> None:
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
    catalog: Catalog, decision: Any, classes: Any
) -> None:
    entries = (("public.users", "email", "pii.email"), ("public.users", "name", "public"))
    held = classes(catalog, decision(*entries, unreviewed=True), "users")
    assert held["meta"] == "unreviewed"
    assert "name" not in held
    assert classes(catalog, decision(*entries), "users").keys() == {"email", "low"}


def test_catalogs_are_never_unreviewed(catalog: Catalog, decision: Any, of: Any) -> None:
    said = decision(unreviewed=True)
    assert of(catalog, said, "pg_type", "pg_catalog") is None
    assert of(catalog, said, "tables", "information_schema") is None


# Lineage


def test_generated_columns_inherit_unless_named(
    catalog: Catalog, decision: Any, of: Any, classes: Any
) -> None:
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


def test_view_columns_inherit_and_computed_ones_are_redacted(
    catalog: Catalog, decision: Any, of: Any
) -> None:
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


def test_view_column_named_by_an_entry_is_what_the_entry_says(
    catalog: Catalog, decision: Any, classes: Any
) -> None:
    said = decision(("public.users", "ssn", "pii.ssn"), ("public.v_key", "loud", "public"))
    assert "loud" not in classes(catalog, said, "v_key")


def test_unknown_lineage_takes_the_strictest_class(
    catalog: Catalog, decision: Any, of: Any
) -> None:
    said = decision(("public.users", "email", "pii.email"), ("public.users", "ssn", "pii"))
    peek = of(catalog, said, "v_peek")
    assert peek is not None
    assert peek.masks == {"name": REDACT, "email": REDACT}


def test_view_over_a_denied_catalog_shows_nothing_of_it(
    catalog: Catalog, decision: Any, of: Any
) -> None:
    stats = of(catalog, decision(("public.users", "email", "pii.email")), "v_stats")
    assert stats is not None
    assert stats.masks.keys() == {"tablename", "vals"}


def test_parents_classes_hold_for_children_and_childrens_for_parents(
    catalog: Catalog, decision: Any, classes: Any
) -> None:
    said = decision(
        ("public.parts", "mail", "pii.email"),
        ("public.parts_1", "who", "pii"),
        ("*.*", "*", "public"),
    )
    assert classes(catalog, said, "parts_rest") == {"mail": "pii.email"}
    assert classes(catalog, said, "parts_1") == {"mail": "pii.email", "who": "pii"}
    assert classes(catalog, said, "parts") == {"mail": "pii.email", "who": "pii"}


def test_reviewed_parent_reviews_its_children(
    catalog: Catalog, decision: Any, classes: Any
) -> None:
    said = decision(("public.people", "*", "public"), unreviewed=True)
    assert classes(catalog, said, "staff").keys() == {"wage", "tenant"}


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
    catalog: Catalog,
    entries: list[tuple[str, str, str]],
    more: tuple[str, str, str],
    order: Any,
    decision: Any,
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
    catalog: Catalog, entries: list[tuple[str, str, str]], decision: Any
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


def test_answers_are_remembered_for_the_same_objects(catalog: Catalog, decision: Any) -> None:
    said = decision(("public.users", "email", "pii.email"))
    assert governed_relations(catalog, said) is governed_relations(catalog, said)
