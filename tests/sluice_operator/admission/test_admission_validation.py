"""Both resources as the webhook judges them: refused with the field's path, or accepted with warnings."""

import copy
from typing import Any

import pytest

from sluice_operator.admission.claims import claims_of
from sluice_operator.admission.model import Namespace
from sluice_operator.admission.validation import judge_resource, read_resource

SHOP = Namespace("shop")
EXTERNAL = Namespace("shop", {"sluice.dev/may-claim-external": "true"})


@pytest.fixture
def shop(classification) -> dict[str, Any]:
    return classification(
        "shop",
        "shop",
        ["shop-pg.shop.svc"],
        database={"catalogSecretRef": {"name": "reader"}},
        columns=[
            {"table": "public.users", "column": "email", "class": "pii.email"},
            {"table": "public.orders", "column": "*", "class": "public"},
        ],
    )


@pytest.fixture
def policy() -> dict[str, Any]:
    return {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "DatabaseAccessPolicy",
        "metadata": {"name": "support", "namespace": "shop"},
        "spec": {
            "databases": {"names": ["shop"]},
            "subjects": [{"workload": {"namespaces": ["support"]}}],
            "rules": [{"name": "read", "effect": "allow", "actions": ["select"]}],
            "masks": [{"class": "pii", "mask": "redact"}],
        },
    }


def known(*values: dict[str, Any]):
    found = [read_resource(value, value["metadata"]["namespace"]) for value in values]
    assert not [one for one in found if isinstance(one, list)], found
    return found


def with_spec(value: dict[str, Any], **fields: Any) -> dict[str, Any]:
    out = copy.deepcopy(value)
    out["spec"] |= fields
    return out


def test_sound_resources_are_accepted_without_a_word(shop, policy):
    assert judge_resource(shop, None, SHOP, []).errors == ()
    assert judge_resource(shop, None, SHOP, []).warnings == ()
    verdict = judge_resource(policy, None, SHOP, known(shop))
    assert (verdict.errors, verdict.warnings) == ((), ())


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        (
            {"masks": [{"class": "pii.emial", "mask": "redact"}]},
            "spec.masks[0].class: no column of shop/shop has the class pii.emial",
        ),
        (
            {"masks": [{"class": "pii", "mask": "blur"}]},
            "spec.masks[0].mask: unknown mask 'blur'",
        ),
        (
            {"rowFilters": [{"table": "public.orders", "where": "1=1) OR ("}]},
            "spec.rowFilters[0].where: not an SQL expression",
        ),
        (
            {"rules": [{"name": "r", "effect": "requireApproval"}]},
            "spec.rules[0].effect: not supported yet: requireApproval",
        ),
        (
            {"rules": [{"name": "r", "effect": "allow", "action": ["select"]}]},
            "spec.rules[0].action: unknown field; did you mean actions?",
        ),
    ],
)
def test_wrong_policy_is_refused_with_the_path_of_the_field(shop, policy, fields, error):
    verdict = judge_resource(with_spec(policy, **fields), None, SHOP, known(shop))
    assert any(error in found for found in verdict.errors), verdict.errors


def test_policy_may_come_before_its_classification(policy):
    verdict = judge_resource(policy, None, SHOP, [])
    assert verdict.errors == ()
    assert "spec.databases.names[0]: no valid DataClassification shop" in verdict.warnings[0]


@pytest.mark.parametrize(
    ("fields", "warning"),
    [
        ({"masks": [{"class": "pii.email", "mask": "none"}]}, "shows the class pii.email raw"),
        ({"subjects": None}, "spec.subjects is not set: the rule read allows it to every workload"),
        ({"mode": "audit"}, "spec.mode: audit adds nothing to the decision"),
        ({"databases": {"matchLabels": {"env": "none"}}}, "selects no DataClassification"),
    ],
)
def test_risky_policy_is_accepted_with_a_warning(shop, policy, fields, warning):
    changed = with_spec(policy, **fields)
    changed["spec"] = {k: v for k, v in changed["spec"].items() if v is not None}
    verdict = judge_resource(changed, None, SHOP, known(shop))
    assert verdict.errors == ()
    assert any(warning in found for found in verdict.warnings), verdict.warnings


@pytest.mark.parametrize(
    ("fields", "warning"),
    [
        ({"enforcement": "observe"}, "spec.enforcement: observe changes and denies nothing"),
        ({"unreviewedColumns": "allow"}, "spec.unreviewedColumns: allow shows every column"),
        ({"columns": None}, "spec.columns is empty"),
        (
            {"database": {"hosts": ["pg"], "name": "shop"}},
            "spec.database.catalogSecretRef is not set",
        ),
    ],
)
def test_risky_classification_is_accepted_with_a_warning(shop, fields, warning):
    changed = with_spec(shop, **fields)
    changed["spec"] = {k: v for k, v in changed["spec"].items() if v is not None}
    verdict = judge_resource(changed, None, SHOP, [])
    assert verdict.errors == ()
    assert any(warning in found for found in verdict.warnings), verdict.warnings


@pytest.mark.parametrize("host", ["db.example.com", "pg.other.svc", "10.0.0.1", "pg.other"])
def test_foreign_host_needs_the_namespaces_label(classification, host):
    value = classification("ext", "shop", ["pg", host])
    verdict = judge_resource(value, None, SHOP, [])
    assert (
        f"spec.database.hosts[1]: {host} is no Service of the namespace shop" in verdict.errors[0]
    )
    assert "sluice.dev/may-claim-external" in verdict.errors[0]
    assert judge_resource(value, None, EXTERNAL, []).errors == ()


def test_address_and_ambiguous_name_are_warned_of(classification):
    value = classification("ext", "shop", ["10.0.0.1", "pg.other"])
    warnings = " ".join(judge_resource(value, None, EXTERNAL, []).warnings)
    assert "connections to the address 10.0.0.1 itself are not led to the sidecar" in warnings
    assert "write pg.other.svc" in warnings


def test_the_pod_itself_is_no_host(classification):
    verdict = judge_resource(classification("l", "shop", ["localhost"]), None, EXTERNAL, [])
    assert "every pod itself" in verdict.errors[0]


def test_second_claim_is_refused_and_names_the_owner(shop, classification):
    thief = classification("mine", "evil", ["shop-pg.shop"], database={"name": "shop"})
    verdict = judge_resource(thief, None, Namespace("evil", EXTERNAL.labels), known(shop))
    assert "belongs to DataClassification shop/shop" in verdict.errors[0]
    assert "spec.allowedNamespaces" in verdict.errors[0]


def test_claim_of_an_elder_may_not_be_widened_over_a_younger(shop, classification):
    young = classification("crm", "shop", ["crm-pg"], created="2026-06-01T00:00:00Z")
    new = copy.deepcopy(shop)
    new["spec"]["database"] |= {"hosts": ["shop-pg.shop.svc", "crm-pg"], "name": "crm"}
    verdict = judge_resource(new, shop, SHOP, known(shop, young))
    assert "belongs to DataClassification shop/crm" in verdict.errors[0]


def test_conflict_that_was_there_does_not_block_other_changes(shop, classification):
    twin = classification("twin", "shop", ["shop-pg"], database={"name": "shop"})
    changed = with_spec(twin, unreviewedColumns="allow")
    verdict = judge_resource(changed, twin, SHOP, known(shop, twin))
    assert not [e for e in verdict.errors if "belongs to" in e]


def test_hosts_of_two_servers_with_one_database_name_are_refused(classification):
    one = classification("one", "shop", ["pg-1"], database={"name": "app"})
    two = classification("two", "shop", ["pg-2"], database={"name": "app"})
    both = classification("both", "shop", ["pg-1", "pg-2"])
    verdict = judge_resource(both, None, SHOP, known(one, two))
    assert "could not be told apart" in verdict.errors[0]


def test_classification_that_would_leave_no_pod_governable_is_refused(classification):
    """Whoever may write classifications in one namespace must not stop the pods of all others."""
    many = [classification(f"d{n}", "shop", [f"pg-{n}"]) for n in range(223)]
    one_more = classification("last", "shop", ["pg-last"])
    verdict = judge_resource(one_more, None, SHOP, known(*many))
    assert "more than the 223" in verdict.errors[0]
    same_server = classification("last", "shop", ["pg-0"])
    assert judge_resource(same_server, None, SHOP, known(*many)).errors == ()


def test_hosts_that_would_not_fit_into_a_pod_are_refused(classification):
    many = [
        classification(f"d{n}", "shop", [f"{'x' * 60}-{n}-{host}" for host in range(64)])
        for n in range(20)
    ]
    verdict = judge_resource(many[0], None, SHOP, known(*many[1:]))
    assert "that a pod may have" in verdict.errors[0]


def test_api_server_is_no_database(classification):
    value = classification("k", "default", ["kubernetes"])
    verdict = judge_resource(value, None, Namespace("default"), [])
    assert "is the API server" in verdict.errors[0]


def test_change_of_status_or_metadata_is_never_judged(shop):
    broken = with_spec(shop, unreviewedColumns="perhaps")
    touched = copy.deepcopy(broken)
    touched["metadata"]["labels"] = {"a": "b"}
    touched["status"] = {"conditions": []}
    assert judge_resource(touched, broken, SHOP, []).errors == ()


def test_fields_that_the_api_server_adds_are_no_fault(shop):
    shop["metadata"] |= {
        "uid": "u",
        "resourceVersion": "7",
        "selfLink": "/x",
        "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
        "ownerReferences": [{"kind": "App"}],
    }
    shop["status"] = {"unknown": True}
    assert judge_resource(shop, None, SHOP, []).errors == ()


def test_classification_that_breaks_a_policy_is_accepted_and_says_so(shop, policy):
    policy["spec"]["masks"] = [{"class": "pii.email", "mask": "redact"}]
    less = with_spec(shop, columns=[{"table": "public.a", "column": "b", "class": "secret"}])
    verdict = judge_resource(less, shop, SHOP, known(shop, policy))
    assert verdict.errors == ()
    assert any(
        "DatabaseAccessPolicy shop/support becomes invalid" in found for found in verdict.warnings
    ), verdict.warnings


def test_all_spellings_of_a_host_are_one_claim(classification):
    spelled = [
        claims_of(known(classification("a", "shop", [host]))[0].model)
        for host in ("pg", "PG.shop", "pg.shop.svc", "pg.shop.svc.cluster.local")
    ]
    assert all(spelled[0] & other for other in spelled)
