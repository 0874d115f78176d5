"""What the compiler owns: who owns what, which policies a profile comes under, and that order changes nothing."""

import json
from pathlib import Path

import jsonschema
import pytest
import referencing
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_policy import Profile, Resource, compile_profile, content_revision, load_directory
from sluice_policy.hosts import host_forms
from sluice_policy.resources import parse_resource

ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "policy" / "contract"
SUPPORT = Profile("support", "desk", {"team": "support"})


def document(compiled):
    return json.loads(compiled.data)["sluice_data"]


def told(compiled):
    """(path, message) of every error."""
    return [(p.path, p.message) for p in compiled.errors]


def compiled_of(*resources, profile=SUPPORT):
    return compile_profile(resources, profile)


@pytest.fixture(scope="session")
def validator():
    texts = [json.loads(path.read_text()) for path in CONTRACT.glob("*.schema.json")]
    registry = referencing.Registry().with_resources(
        [(text["$id"], referencing.Resource.from_contents(text)) for text in texts]
    )
    schema = next(text for text in texts if text["$id"].endswith("/data.schema.json"))
    return jsonschema.Draft202012Validator(schema, registry=registry)


def test_policy_of_the_design_compiles_into_what_the_library_reads(
    classification, policy, validator
):
    found = compiled_of(
        classification(),
        policy(
            spec__databases={"names": ["shop"], "matchLabels": {"env": "production"}},
            spec__subjects=[
                {"workload": {"namespaces": ["support"], "podLabels": {"team": "support"}}},
                {"actor": {"groups": ["support"], "kinds": ["human", "agent"]}},
                {"role": {"names": ["support_ro"]}},
            ],
            spec__rules=[
                {
                    "name": "read",
                    "effect": "allow",
                    "actions": ["select"],
                    "tables": ["public.*"],
                    "classes": ["pii"],
                    "limits": {"rowsPerStatement": 1000, "statementSeconds": 30},
                    "when": {"hours": "Mon-Fri 08:00-18:00", "timeZone": "Europe/Berlin"},
                }
            ],
            spec__masks=[
                {"class": "pii.email", "mask": "email"},
                {"class": "pii.ssn", "mask": {"last": 4}},
                {"class": "pii", "mask": {"expression": "left(value, 1)", "rank": "email"}},
            ],
            spec__rowFilters=[
                {"table": "public.orders", "where": "region = 'eu'"},
                {"table": "public.v_orders", "exempt": True},
            ],
            spec__guardrails={
                "unfilteredWrites": "deny",
                "drop": "deny",
                "truncate": "allow",
                "bulkExport": {"rows": 10000, "effect": "deny"},
            },
            spec__writeOracles={"keys": "deny"},
        ),
    )
    assert found.problems == ()
    validator.validate(json.loads(found.data))
    (entry,) = document(found)["policies"]
    assert entry["databases"] == ["shop/shop"]
    assert {"role": {"names": ["support_ro"]}} in entry["subjects"]
    (rule,) = entry["rules"]
    assert rule["when"]["windows"] == [{"days": [1, 2, 3, 4, 5], "from": 480, "to": 1080}]
    assert rule["limits"] == {"rows_per_statement": 1000, "statement_seconds": 30}
    assert {"class": "pii.ssn", "mask": {"kind": "last", "count": 4}} in entry["masks"]
    assert {"table": "public.v_orders", "parts": ["(TRUE)"]} in entry["row_filters"]
    assert entry["guardrails"] == {
        "unfiltered_writes": "deny",
        "drop": "deny",
        "bulk_export": {"rows": 10000},
    }
    assert entry["write_oracles"] == {"keys": "deny"}


@pytest.mark.parametrize("folder_name", ["examples/shop", "tests/corpus/policies"])
def test_policies_of_this_repository_compile(folder_name, validator):
    loaded = load_directory(ROOT / folder_name, namespace="shop")
    assert loaded.problems == ()
    for namespace in {r.namespace for r in loaded.resources} | {"support"}:
        found = compile_profile(loaded.resources, Profile(namespace, "default"))
        assert found.problems == ()
        validator.validate(json.loads(found.data))


# --- which policies and databases a profile comes under


def policies_for(profile, *resources):
    return [
        entry["name"] for entry in document(compiled_of(*resources, profile=profile))["policies"]
    ]


@pytest.mark.parametrize(
    ("subjects", "selected"),
    [
        (None, True),
        ([{"workload": {"namespaces": ["support"]}}], True),
        ([{"workload": {"namespaces": ["other"]}}], False),
        ([{"workload": {"serviceAccounts": ["desk"]}}], True),
        ([{"workload": {"serviceAccounts": ["desk"], "namespaces": ["other"]}}], False),
        ([{"workload": {"podLabels": {"team": "support"}}}], True),
        ([{"workload": {"podLabels": {"team": "support", "tier": "1"}}}], False),
        ([{"workload": {"namespaces": ["other"]}}, {"role": {"names": ["r"]}}], True),
        ([{"actor": {"groups": ["g"]}, "workload": {"namespaces": ["other"]}}], False),
        ([{"actor": {"groups": ["g"]}}], True),
        ([{}], True),
    ],
)
def test_profile_gets_the_policies_that_could_select_it(classification, policy, subjects, selected):
    resources = (classification(), policy(spec__subjects=subjects))
    assert policies_for(SUPPORT, *resources) == (["shop/support"] if selected else [])


def test_namespace_that_is_not_admitted_learns_nothing(classification, policy):
    stranger = Profile("stranger", "x")
    found = compiled_of(classification(), policy(spec__subjects=None), profile=stranger)
    assert document(found)["databases"] == {}
    assert document(found)["policies"] == []
    # Where nobody is refused, it has to be known that this is so, and nothing else.
    observed = classification(spec__enforcement="observe")
    database = document(compiled_of(observed, profile=stranger))["databases"]["shop/shop"]
    assert database["allowed"] is False
    assert database["columns"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"spec__columns": [{"table": "a.b", "column": "c", "class": "pii"}]},
        {"spec__unreviewedColumns": "allow"},
        {"spec__allowedNamespaces": ["support", "more"]},
        {"spec__allowedNamespaces": None},
        {"metadata__labels": {"helm.sh/chart": "shop-2"}},
        {"metadata__name": "other"},
        None,
    ],
)
def test_change_of_a_classification_leaves_bundles_of_others_as_they_are(
    classification, policy, change
):
    mine = (
        classification(
            metadata__namespace="mine",
            spec__database={"hosts": ["pg"], "name": "mine"},
            spec__allowedNamespaces=None,
        ),
        policy(metadata__namespace="mine", spec__subjects=None),
    )
    other = [] if change is None else [classification(**change)]
    profile = Profile("mine", "x")
    before = compiled_of(*mine, classification(), profile=profile)
    assert compiled_of(*mine, *other, profile=profile).revision == before.revision
    owner = Profile("shop", "x")
    before = compiled_of(*mine, classification(), profile=owner)
    seen = change is None or not change.keys() <= {"spec__allowedNamespaces", "metadata__labels"}
    assert (compiled_of(*mine, *other, profile=owner).revision != before.revision) == seen


def test_own_namespace_is_admitted_without_being_named(classification, policy):
    resources = (classification(spec__allowedNamespaces=None), policy(spec__subjects=None))
    assert policies_for(Profile("shop", "x"), *resources) == ["shop/support"]


def test_labels_select_databases_of_the_same_namespace_alone(classification, policy):
    others = [
        classification(metadata__name="b", spec__database={"hosts": ["b"], "name": "b"}),
        classification(
            metadata__name="c", metadata__labels={}, spec__database={"hosts": ["c"], "name": "c"}
        ),
        classification(metadata__namespace="far", spec__database={"hosts": ["d"], "name": "d"}),
    ]
    selector = {"matchLabels": {"env": "production"}}
    found = compiled_of(classification(), *others, policy(spec__databases=selector))
    assert found.errors == ()
    assert document(found)["policies"][0]["databases"] == ["shop/b", "shop/shop"]


def test_policy_that_selects_nothing_is_warned_of(classification, policy):
    selector = {"matchLabels": {"env": "nowhere"}}
    found = compiled_of(classification(), policy(spec__databases=selector))
    (problem,) = found.problems
    assert problem.severity == "warning"
    assert "does nothing" in problem.message


# --- ownership


@pytest.mark.parametrize(
    ("hosts", "port", "name", "conflict"),
    [
        (["shop-pg.shop.svc"], 5432, "shop", True),
        (["SHOP-PG.shop.svc.cluster.local"], 5432, "shop", True),
        (["shop-pg.shop"], 5432, "shop", True),
        (["else", "shop-pg.shop.svc"], 5432, "shop", True),
        (["shop-pg.shop.svc"], 5433, "shop", False),
        (["shop-pg.shop.svc"], 5432, "shop2", False),
        (["shop-pg"], 5432, "shop", False),
        (["shop-pg.other.svc"], 5432, "shop", False),
    ],
)
def test_database_belongs_to_one_classification(classification, hosts, port, name, conflict):
    later = classification(
        metadata__namespace="tenant", spec__database={"hosts": hosts, "port": port, "name": name}
    )
    found = compiled_of(classification(), later)
    assert bool(found.errors) == conflict
    if conflict:
        (problem,) = found.errors
        assert problem.resource == "DataClassification tenant/shop"
        assert "belongs to DataClassification shop/shop" in problem.message
        assert document(found)["databases"]["shop/shop"]["state"] == "active"
        assert document(found)["databases"]["tenant/shop"]["state"] == "denied"


def test_older_owner_wins(classification):
    older = classification(
        metadata__namespace="zoo", metadata__creationTimestamp="2024-01-01T00:00:00Z"
    )
    newer = classification(metadata__creationTimestamp="2025-01-01T00:00:00Z")
    (problem,) = compiled_of(newer, older).errors
    assert problem.resource == "DataClassification shop/shop"


def test_loopback_is_one_host():
    assert host_forms("localhost", "a") == host_forms("127.0.0.1", "b") == host_forms("::1", "c")
    assert host_forms("pg", "a") & host_forms("pg.a.svc", "b")
    assert not host_forms("pg", "a") & host_forms("pg", "b")
    assert host_forms("10.0.0.1", "a") == {"10.0.0.1"}
    assert host_forms("db.example.com", "a") == {"db.example.com"}


def test_contradicting_columns_are_refused(classification, policy):
    columns = [
        {"table": "a.b", "column": "c", "class": "pii"},
        {"table": "a.b", "column": "c", "class": "public"},
        {"table": "a.b", "column": "c", "class": "pii"},
    ]
    found = compiled_of(classification(spec__columns=columns), policy())
    assert told(found) == [
        ("spec.columns[1]", "contradicts spec.columns[0]: a.b c is pii there and public here")
    ]
    assert document(found)["databases"]["shop/shop"]["state"] == "denied"


# --- determinism


def test_revision_is_that_of_data_and_library(classification, policy):
    found = compiled_of(classification(), policy())
    assert found.revision == content_revision({"data.json": found.data, **found.modules})
    assert found.revision != compiled_of(classification()).revision
    assert all(not path.endswith("_test.rego") for path in found.modules)
    assert all(b"package sluice" in text for text in found.modules.values())
    assert "sluice/session.rego" in found.modules


NAMES = ["a", "b", "c"]
CLASSES = ["pii", "pii.email", "pii.ssn", "public"]


def made(kind, name, spec):
    value = {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "n", "labels": {"l": name}},
        "spec": spec,
    }
    model = parse_resource(value)
    assert not isinstance(model, list), model
    return Resource(model=model, namespace="n")


entries = st.lists(
    st.builds(
        lambda table, column, class_: {"table": f"s.{table}", "column": column, "class": class_},
        st.sampled_from([*NAMES, "*"]),
        st.sampled_from([*NAMES, "*"]),
        st.sampled_from(CLASSES),
    ),
    min_size=1,
    max_size=4,
)
classifications = st.builds(
    lambda name, host, columns: made(
        "DataClassification",
        name,
        {"database": {"hosts": [host], "name": "d"}, "columns": columns},
    ),
    st.sampled_from(NAMES),
    st.sampled_from(["h1", "h2", "h3", "localhost"]),
    entries,
)
policies = st.builds(
    lambda name, databases, class_, mask, where: made(
        "DatabaseAccessPolicy",
        name,
        {
            "databases": databases,
            "masks": [{"class": class_, "mask": mask}, {"class": "*", "mask": "null"}],
            "rowFilters": [{"table": "s.t", "where": where}, {"table": "s.*", "where": "x"}],
        },
    ),
    st.sampled_from(NAMES),
    st.sampled_from([{"names": ["a"]}, {"names": ["b", "c"]}, {"matchLabels": {"l": "c"}}]),
    st.sampled_from(["pii", "pii.email", "card"]),
    st.sampled_from(["email", {"last": 4}, {"expression": "left(value, 1)"}, {"expression": "("}]),
    st.sampled_from(["a = 1", "a = 'x'", "now()", "b IN (SELECT c FROM s.a)"]),
)


@settings(max_examples=60)
@given(st.lists(classifications | policies, max_size=6), st.randoms())
def test_order_of_resources_changes_nothing(resources, random):
    first = compile_profile(resources, Profile("n", "x"))
    shuffled = list(resources)
    random.shuffle(shuffled)
    second = compile_profile(shuffled, Profile("n", "x"))
    assert first.data == second.data
    assert first.revision == second.revision
    assert first.problems == second.problems


@settings(max_examples=40)
@given(st.lists(classifications | policies, max_size=6))
def test_any_result_satisfies_the_contract(validator, resources):
    found = compile_profile(resources, Profile("n", "x"))
    validator.validate(json.loads(found.data))
