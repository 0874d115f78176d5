"""What the compiler refuses, with the place and a way out: names, fields without effect, expressions."""

import json

import pytest

from sluice_policy import Profile, compile_profile, load_directory

SUPPORT = Profile("support", "desk", {"team": "support"})


def document(compiled):
    return json.loads(compiled.data)["sluice_data"]


def told(compiled):
    """(path, message) of every error."""
    return [(p.path, p.message) for p in compiled.errors]


def compiled_of(*resources):
    return compile_profile(resources, SUPPORT)


# --- names that are nowhere


def test_unknown_database_names_near_ones(classification, policy):
    found = compiled_of(classification(), policy(spec__databases={"names": ["shopp"]}))
    assert told(found)[0][0] == "spec.databases.names[0]"
    assert "did you mean shop?" in told(found)[0][1]
    assert document(found)["policies"] == []


def test_database_of_another_namespace_is_explained(classification, policy):
    found = compiled_of(classification(metadata__namespace="far"), policy())
    assert "there is one in far" in told(found)[0][1]


@pytest.mark.parametrize("name", ["pii", "pii.email", "pii.ssn", "*", "unreviewed"])
def test_known_classes_are_accepted(classification, policy, name):
    rule = {"name": "r", "effect": "deny", "classes": [name]}
    masks = [{"class": name, "mask": "redact"}]
    assert compiled_of(classification(), policy(spec__rules=[rule], spec__masks=masks)).errors == ()


@pytest.mark.parametrize("name", ["pi", "pii.mail", "pii.email.work", "email", "unreview"])
def test_unknown_class_is_refused_with_near_ones(classification, policy, name):
    rule = {"name": "r", "effect": "deny", "classes": ["pii", name]}
    masks = [{"class": name, "mask": "redact"}]
    found = compiled_of(classification(), policy(spec__rules=[rule], spec__masks=masks))
    assert [path for path, _ in told(found)] == ["spec.masks[0].class", "spec.rules[0].classes[1]"]
    assert f"has the class {name}" in told(found)[0][1]


# --- what is not enforced yet


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("spec__database__brokered", {"secretRef": {"name": "a"}}, "spec.database.brokered"),
        ("spec__discovery", {"mode": "suggest"}, "spec.discovery.mode"),
        ("spec__audit", {"literals": True}, "spec.audit.literals"),
    ],
)  # fmt: skip
def test_classification_field_without_effect_is_refused(classification, field, value, path):
    found = compiled_of(classification(**{field: value}))
    assert [where for where, _ in told(found)] == [path]
    assert told(found)[0][1].startswith("not supported yet")
    assert document(found)["databases"]["shop/shop"]["state"] == "denied"


CA = {"name": "ca", "key": "ca.crt"}


@pytest.mark.parametrize(
    ("tls", "field", "way"),
    [
        ({"mode": "verify-ca"}, "caSecretRef", "need caSecretRef: name the Secret and the key"),
        ({"mode": "verify-full", "clientCertSecretRef": {"name": "a"}}, "caSecretRef",
         "need caSecretRef: name the Secret and the key"),
        ({"mode": "disable", "caSecretRef": CA}, "caSecretRef", "write another mode, or leave it out"),
        ({"mode": "disable", "clientCertSecretRef": {"name": "a"}}, "clientCertSecretRef",
         "write another mode, or leave it out"),
        ({"mode": "prefer", "caSecretRef": CA}, "caSecretRef", "write mode verify-full"),
    ],
)  # fmt: skip
def test_tls_that_contradicts_its_mode_is_refused_with_a_way_out(classification, tls, field, way):
    found = compiled_of(classification(spec__database__tls=tls))
    ((path, message),) = told(found)
    assert path == f"spec.database.tls.{field}"
    assert way in message
    assert document(found)["databases"]["shop/shop"]["state"] == "denied"


@pytest.mark.parametrize(
    "tls",
    [
        {"mode": "prefer", "clientCertSecretRef": {"name": "a"}},
        {"mode": "require"},
        {"mode": "require", "caSecretRef": CA},
        {"mode": "verify-ca", "caSecretRef": CA},
        {"mode": "verify-full", "caSecretRef": CA, "clientCertSecretRef": {"name": "a"}},
    ],
)
def test_every_mode_of_tls_is_accepted_to_servers_and_to_clients(classification, tls):
    for front in (None, {"name": "front"}):
        one = classification(spec__database__tls=tls, spec__database__clientTLSSecretRef=front)
        assert compiled_of(one).problems == ()


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("spec__rules", [{"name": "r", "effect": "requireApproval"}], "spec.rules[0].effect"),
        ("spec__rules", [{"name": "r", "effect": "allow", "limits": {"rowsPerHour": {"max": 1}}}],
         "spec.rules[0].limits.rowsPerHour"),
        ("spec__writeOracles", {"keyViolationsPerHour": 5}, "spec.writeOracles.keyViolationsPerHour"),
        ("spec__copyIn", "unfiltered", "spec.copyIn"),
    ],
)  # fmt: skip
def test_policy_field_without_effect_is_refused(classification, policy, field, value, path):
    found = compiled_of(classification(), policy(**{field: value}))
    assert [where for where, _ in told(found)] == [path]
    assert told(found)[0][1].startswith("not supported yet")
    assert document(found)["policies"] == []


def test_what_says_the_default_is_accepted(classification, policy):
    found = compiled_of(
        classification(
            spec__discovery={"mode": "off"},
            spec__audit={"literals": False},
            spec__database__tls={"mode": "disable"},
            spec__database__pooler="session",
            spec__database__catalogSecretRef={"name": "reader"},
        ),
        policy(spec__copyIn="deny"),
    )
    assert found.problems == ()


# --- expressions, together with their place


def test_every_expression_fault_has_its_place(classification, policy):
    found = compiled_of(
        classification(),
        policy(
            spec__rowFilters=[
                {"table": "public.a", "where": "random() > 0"},
                {"table": "public.b", "where": "x = 1) OR (true"},
                {"table": "public.*", "exempt": True},
            ],
            spec__masks=[{"class": "pii", "mask": {"expression": "now()"}}],
        ),
    )
    assert [path for path, _ in told(found)] == [
        "spec.masks[0].mask.expression",
        "spec.rowFilters[0].where",
        "spec.rowFilters[1].where",
        "spec.rowFilters[2].table",
    ]


def test_filter_reads_tables_of_its_own_classification_alone(classification, policy):
    columns = [{"table": "public.users", "column": "*", "class": "public"}]
    where = "id IN (SELECT id FROM {})"
    for table, accepted in (("public.users", True), ("secret.keys", False)):
        found = compiled_of(
            classification(spec__columns=columns),
            policy(spec__rowFilters=[{"table": "public.orders", "where": where.format(table)}]),
        )
        assert (found.errors == ()) == accepted
    assert "of which DataClassification shop/shop has no entry" in told(found)[0][1]


def test_one_bad_resource_leaves_the_others_alone(classification, policy):
    bad = policy(metadata__name="bad", spec__rowFilters=[{"table": "a.b", "where": "("}])
    found = compiled_of(classification(), policy(), bad)
    assert [p.resource for p in found.errors] == ["DatabaseAccessPolicy shop/bad"]
    assert [entry["name"] for entry in document(found)["policies"]] == ["shop/support"]


def test_problem_of_a_file_names_its_line(folder):
    text = (
        "apiVersion: sluice.dev/v1alpha1\nkind: DatabaseAccessPolicy\nmetadata: {name: p}\n"
        "spec:\n  rowFilters:\n    - table: a.b\n      where: random() > 0\n"
    )
    loaded = load_directory(folder({"p.yaml": text}))
    errors = compile_profile(loaded.resources, SUPPORT).errors
    assert [(e.line, e.path) for e in errors] == [(7, "spec.rowFilters[0].where")]
