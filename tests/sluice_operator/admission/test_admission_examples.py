"""The example of a managed database: accepted without a word, and its Secrets are those that pods mount."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sluice_operator.admission.estate import Estate
from sluice_operator.admission.model import Namespace
from sluice_operator.admission.tls import tls_secrets
from sluice_operator.admission.validation import judge_resource
from sluice_policy import load_directory

FOLDER = Path(__file__).parents[3] / "examples" / "managed"


@pytest.fixture
def secrets():
    return list(YAML(typ="safe").load_all(FOLDER / "secrets.yaml"))


@pytest.fixture
def classification():
    return YAML(typ="safe").load(FOLDER / "policies" / "classification.yaml")


def test_example_is_accepted_without_a_word_where_the_namespace_may_claim_the_host(
    classification, secrets
):
    labels = next(s for s in secrets if s["metadata"]["name"] == "shop")["metadata"]["labels"]
    verdict = judge_resource(classification, None, Namespace("shop", labels), [])
    assert (verdict.errors, verdict.warnings) == ((), ())
    known = load_directory(FOLDER / "policies")
    assert known.problems == ()
    policy = YAML(typ="safe").load(FOLDER / "policies" / "support.yaml")
    verdict = judge_resource(policy, None, Namespace("shop"), known.resources)
    assert (verdict.errors, verdict.warnings) == ((), ())


def test_namespaces_of_the_example_have_the_secrets_that_their_pods_mount(classification, secrets):
    (model,) = [r.model for r in load_directory(FOLDER / "policies").resources if r.name == "shop"]
    (entry,) = Estate.of([model]).entries("support")
    given = {s["metadata"]["name"]: s for s in secrets if s["metadata"].get("namespace")}
    assert {s["metadata"]["namespace"] for s in given.values()} == {"support"}
    assert {*tls_secrets([entry]), entry["secret"]} == given.keys()
    tls = classification["spec"]["database"]["tls"]
    assert tls["caSecretRef"]["key"] in given[tls["caSecretRef"]["name"]]["stringData"]
    catalog = given[entry["secret"]]
    assert (catalog["type"], catalog["stringData"]["host"]) == (
        "sluice.dev/catalog",
        classification["spec"]["database"]["hosts"][0],
    )
