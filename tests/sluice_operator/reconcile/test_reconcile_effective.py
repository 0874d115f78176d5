"""What is in force, decided without a cluster."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_operator.reconcile.effective import decide
from sluice_operator.reconcile.model import LastValid, RawResource
from sluice_operator.reconcile.parsing import pack_last_valid, unpack_last_valid
from sluice_policy import Profile, judge
from sluice_policy.resources import Resource, parse_resource

EMAIL = {"table": "public.users", "column": "email", "class": "pii.email"}
CARD = {"table": "public.users", "column": "card", "class": "pci.pan"}
WEB = Profile("shop", "default", {"app": "web"})


def classification(name="shop", *, namespace="shop", generation=1, created=1, columns=None, **more):
    spec = {
        "database": {"hosts": [f"{name}-pg.{namespace}.svc"], "name": "shop"},
        "columns": [EMAIL, CARD] if columns is None else columns,
        **more,
    }
    return raw("DataClassification", namespace, name, generation, created, spec)


def policy(name="app", *, namespace="shop", generation=1, **more):
    spec = {
        "rules": [{"name": "all", "effect": "allow"}],
        "masks": [{"class": "pii.email", "mask": "hash"}, {"class": "pci", "mask": "null"}],
        **more,
    }
    return raw("DatabaseAccessPolicy", namespace, name, generation, 1, spec)


def raw(kind, namespace, name, generation, created, spec):  # noqa: PLR0917
    return RawResource(
        kind=kind,
        namespace=namespace,
        name=name,
        uid=f"{kind}-{namespace}-{name}",
        generation=generation,
        created=f"2026-01-01T00:00:{created:02}Z",
        spec=spec,
    )


def run(*resources, before=None, named=(), external=()):
    return decide(
        resources,
        last_valid=before.last_valid if before else {},
        named=named,
        external=external,
    )


def document(effective, profile=WEB):
    return effective.judged.document(profile, effective.denied)


def verdict(effective, resource):
    return effective.verdicts[resource.uid]


def masks(effective, name="shop/app"):
    policies = {p["name"]: p for p in document(effective)["policies"]}
    return {m["class"]: m["mask"]["kind"] for m in policies[name]["masks"]}


def test_valid_resources_give_what_the_compiler_gives():
    resources = [classification(), policy(), policy("other", masks=[])]
    resources[2].spec.pop("masks")
    effective = run(*resources)
    models = [Resource(parse_resource(one.document()), one.namespace) for one in resources]
    assert document(effective) == judge(models).document(WEB)
    assert all(one.sound for one in effective.verdicts.values())
    assert {uid: last.resource for uid, last in effective.last_valid.items()} == {
        one.uid: one for one in resources
    }


BROKEN_POLICIES = [
    {"rowFilters": [{"table": "public.users", "where": "1=1) OR (true"}]},
    {"rules": [{"name": "ask", "effect": "requireApproval"}]},
    {"masks": [{"class": "pii.emial", "mask": "hash"}]},
    {"databases": {"names": ["shpo"]}},
    {"nonsense": True},
]


@pytest.mark.parametrize("change", BROKEN_POLICIES, ids=lambda change: next(iter(change)))
def test_broken_policy_keeps_its_last_valid_generation_and_stops_no_other(change):
    first = run(classification(), policy(), policy("other"))
    broken = policy(generation=2, **change)
    other = policy("other", generation=2, masks=[{"class": "pii", "mask": "redact"}])
    second = run(classification(), broken, other, before=first)
    assert verdict(second, broken).reason == "Invalid"
    assert verdict(second, broken).in_force == 1
    assert "generation 1 stays in force" in verdict(second, broken).message
    assert masks(second) == masks(first)
    assert masks(second, "shop/other") == {"pii": "redact"}
    # Once more, as a new process sees it.
    stored = {uid: unpack_last_valid(pack_last_valid(v)) for uid, v in second.last_valid.items()}
    third = decide([classification(), broken, other], last_valid=stored, named=(), external=())
    assert document(third) == document(second)
    assert third.last_valid == second.last_valid


@pytest.mark.parametrize("change", BROKEN_POLICIES, ids=lambda change: next(iter(change)))
def test_policy_that_never_was_valid_is_not_in_force(change):
    broken = policy(**change)
    effective = run(classification(), broken)
    assert document(effective)["policies"] == []
    assert verdict(effective, broken).in_force is None


@pytest.mark.parametrize(
    "change",
    [
        {"discovery": {"mode": "enforce"}},
        {"columns": [EMAIL, {**EMAIL, "class": "pii.other"}]},
        {"database": {"hosts": ["db.example.com"], "name": "shop"}},
        {"database": {"hosts": []}},
    ],
)
def test_broken_classification_keeps_its_last_valid_generation(change):
    first = run(classification(), policy())
    broken = classification(generation=2, **change)
    second = run(broken, policy(), before=first)
    assert not verdict(second, broken).sound
    assert verdict(second, broken).in_force == 1
    assert document(second) == document(first)


def test_classification_that_never_was_valid_denies_its_database():
    effective = run(classification(discovery={"mode": "enforce"}), policy())
    assert document(effective)["databases"]["shop/shop"]["state"] == "denied"
    # The policy says something about it and stays valid.
    assert verdict(effective, policy()).sound


def test_older_claim_wins_whatever_the_order():
    older = classification("b-older", created=1)
    younger = classification("a-younger", created=2)
    younger.spec["database"]["hosts"] = ["b-older-pg"]
    for order in ([older, younger], [younger, older]):
        effective = run(*order, policy())
        databases = document(effective)["databases"]
        assert databases["shop/b-older"]["state"] == "active"
        assert databases["shop/a-younger"]["state"] == "denied"
        assert verdict(effective, younger).reason == "Conflict"


def test_broken_older_classification_holds_no_claim_that_it_never_had():
    older = classification("older", created=1, discovery={"mode": "enforce"})
    younger = classification("younger", created=2)
    younger.spec["database"]["hosts"] = older.spec["database"]["hosts"]
    effective = run(older, younger, policy())
    assert document(effective)["databases"]["shop/younger"]["state"] == "active"


def test_edit_into_a_conflict_leaves_the_last_valid_hosts():
    older = classification("older", created=1)
    younger = classification("younger", created=2)
    first = run(older, younger, policy())
    greedy = classification("younger", created=2, generation=2)
    greedy.spec["database"]["hosts"] = ["younger-pg.shop.svc", "older-pg.shop.svc"]
    second = run(older, greedy, policy(), before=first)
    assert verdict(second, greedy).reason == "Conflict"
    assert verdict(second, greedy).in_force == 1
    assert document(second)["databases"]["shop/younger"]["state"] == "active"


def test_foreign_host_needs_leave():
    foreign = classification(database={"hosts": ["db.example.com"], "name": "shop"})
    assert verdict(run(foreign), foreign).reason == "NotOwner"
    assert verdict(run(foreign, external={"shop"}), foreign).sound
    other = classification(database={"hosts": ["pg.billing.svc"], "name": "shop"})
    assert verdict(run(other), other).reason == "NotOwner"


def test_deleted_classification_is_denied_while_pods_name_it():
    first = run(classification(), policy(databases={"names": ["shop"]}))
    kept = policy(databases={"names": ["shop"]})
    second = run(kept, before=first, named={"shop/shop"})
    assert document(second)["databases"]["shop/shop"]["state"] == "denied"
    assert masks(second) == masks(first)
    assert second.tombstones == {"shop/shop"}
    third = run(kept, before=second)
    assert document(third)["databases"] == {}
    assert not any(one.resource.kind == "DataClassification" for one in third.last_valid.values())
    # What pods name and nobody remembers: its namespace is told so, all others do not know it, which is refused too.
    lost = run(named={"lost/db"})
    assert document(lost, Profile("lost", "x"))["databases"]["lost/db"]["state"] == "denied"
    assert document(lost)["databases"] == {}


def test_class_that_goes_takes_nothing_else_with_it():
    strict = policy(
        rules=[
            {"name": "mail", "effect": "allow", "classes": ["pii", "pci"]},
            {"name": "no-cards", "effect": "deny", "classes": ["pci"]},
            {"name": "cards", "effect": "allow", "classes": ["pci.pan"]},
        ]
    )
    first = run(classification(), strict)
    second = run(classification(generation=2, columns=[EMAIL]), strict, before=first)
    assert masks(second) == {"pii.email": "hash"}
    rules = document(second)["policies"][0]["rules"]
    assert [(rule["name"], rule["classes"]) for rule in rules] == [("mail", ["pii"])]
    assert "what has a meaning of generation 1 stays in force" in verdict(second, strict).message
    # It comes back whole.
    third = run(classification(generation=3), strict, before=second)
    assert document(third) == document(first)


def test_row_filter_that_lost_its_table_hides_every_row():
    where = "id IN (SELECT o.id FROM public.other o)"
    other = {"table": "public.other", "column": "id", "class": "public"}
    filtered = policy(rowFilters=[{"table": "public.users", "where": where}])
    first = run(classification(columns=[EMAIL, CARD, other]), filtered)
    assert verdict(first, filtered).sound, verdict(first, filtered).message
    second = run(classification(generation=2), filtered, before=first)
    assert not verdict(second, filtered).sound
    (entry,) = document(second)["policies"][0]["row_filters"]
    assert entry["parts"] == ["(FALSE)"]


def test_name_of_a_database_that_is_gone_selects_nothing():
    two = policy(databases={"names": ["shop", "crm"]})
    first = run(classification(), classification("crm"), two)
    second = run(classification(), two, before=first)
    assert document(second)["policies"][0]["databases"] == ["shop/shop"]
    assert masks(second) == masks(first)


def test_capture_generation_follows_the_hosts_only():
    first = run(classification())
    second = run(classification(generation=2, columns=[EMAIL]), before=first)
    third_resource = classification(generation=3, columns=[EMAIL])
    third_resource.spec["database"]["hosts"] = ["other.shop.svc"]
    third = run(third_resource, before=second)
    uid = third_resource.uid
    assert [e.last_valid[uid].capture_generation for e in (first, second, third)] == [1, 1, 3]


def test_last_valid_generation_survives_its_storage():
    last = LastValid(resource=policy(), capture_generation=3)
    assert unpack_last_valid(pack_last_valid(last)) == last
    assert pack_last_valid(last) == pack_last_valid(copy.deepcopy(last))
    assert unpack_last_valid(b"") is None
    assert unpack_last_valid(b"\x1f\x8bnonsense") is None


# Versions of four resources; those marked False are broken by themselves, whatever the others are.
HISTORIES = {
    "shop": [classification(generation=1), classification(generation=2, unreviewedColumns="allow")],
    "crm": [
        classification("crm", generation=1, created=2),
        classification("crm", generation=2, created=2, discovery={"mode": "enforce"}),
        classification("crm", generation=3, created=2, allowedNamespaces=["support"]),
    ],
    "app": [
        policy(generation=1),
        policy(generation=2, rules=[{"name": "ask", "effect": "requireApproval"}]),
    ],
    "other": [
        policy("other", generation=1, masks=[{"class": "pii", "mask": "redact"}]),
        policy("other", generation=2, masks=[{"class": "pii", "mask": "null"}]),
    ],
}


@st.composite
def interleavings(draw):
    """Events of each resource in their order, of all in any; with restarts and pods between."""
    queues = {name: list(range(len(versions))) for name, versions in HISTORIES.items()}
    order = []
    while any(queues.values()):
        name = draw(st.sampled_from(sorted(name for name in queues if queues[name])))
        order.append((name, queues[name].pop(0)))
        if draw(st.booleans()):
            order.append(("restart", 0))
    return order


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(interleavings(), st.randoms(use_true_random=False))
def test_order_of_events_changes_nothing_in_the_end(order, random):
    present: dict[str, RawResource] = {}
    last_valid: dict[str, LastValid] = {}
    # The classifications are there first: a policy cannot be valid without what it names.
    for name in ("shop", "crm"):
        present[name] = HISTORIES[name][0]
    effective = None
    for name, version in order:
        if name == "restart":
            last_valid = {u: unpack_last_valid(pack_last_valid(v)) for u, v in last_valid.items()}
        elif present.get(name) is None or present[name].generation <= version + 1:
            present[name] = HISTORIES[name][version]
        resources = list(present.values())
        random.shuffle(resources)
        effective = decide(resources, last_valid=last_valid, named={"shop/shop"}, external=())
        last_valid = dict(effective.last_valid)
    assert effective is not None
    expected = run(
        HISTORIES["shop"][1], HISTORIES["crm"][2], HISTORIES["app"][0], HISTORIES["other"][1]
    )
    assert json.dumps(document(effective), sort_keys=True) == json.dumps(
        document(expected), sort_keys=True
    )
    broken = HISTORIES["app"][1]
    assert verdict(effective, broken).in_force == 1
    assert set(effective.last_valid) == {versions[0].uid for versions in HISTORIES.values()}


def test_labels_select_by_what_is_there_now():
    labelled = policy(databases={"matchLabels": {"env": "prod"}})
    plain = classification()
    effective = run(plain, labelled)
    assert "selects no DataClassification" in verdict(effective, labelled).remarks[0]
    effective = run(replace(plain, labels={"env": "prod"}), labelled)
    assert document(effective)["policies"][0]["databases"] == ["shop/shop"]


@pytest.mark.parametrize(
    "changed",
    [
        [classification("wares", namespace="depot", columns=[CARD], generation=2)],
        [classification("wares", namespace="depot", database={"hosts": []}, generation=2)],
        [],
    ],
    ids=["changed", "broken", "deleted"],
)
def test_change_of_a_classification_is_news_only_to_namespaces_that_it_admits(changed):
    known = (classification(), policy())
    wares = classification("wares", namespace="depot", allowedNamespaces=["support"])
    for one in changed:
        one.spec["allowedNamespaces"] = ["support"]
    named = {"shop/shop", "depot/wares"}
    before = run(*known, wares, named=named)
    after = run(*known, *changed, before=before, named=named)
    for namespace, same in (("shop", True), ("depot", False), ("support", False)):
        profile = Profile(namespace, "x")
        broken = bool(changed) and not changed[0].spec["database"]["hosts"]
        # A broken generation leaves the last valid one in force: no news to anybody.
        assert (document(before, profile) == document(after, profile)) == (same or broken)
    told = document(after, Profile("support", "x"))["databases"]["depot/wares"]
    assert told["state"] == ("active" if changed else "denied")
