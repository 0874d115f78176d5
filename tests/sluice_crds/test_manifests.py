"""The generated CustomResourceDefinitions: committed, structural, complete."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sluice_crds import manifests

KINDS = ["DataClassification", "DatabaseAccessPolicy"]
COMMITTED = Path(__file__).parents[2] / "crds" / "manifests"

FIELD_KEYWORDS = {
    "type", "description", "default", "enum", "format", "items", "properties", "required",
    "additionalProperties", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "nullable",
    "x-kubernetes-validations", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
}  # fmt: skip


def nodes(schema, path=""):
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield from nodes(schema[keyword], f"{path}[]")


def schema_of(kind):
    return manifests.manifest(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def test_committed_manifests_are_what_the_models_say():
    found = {path.name: path.read_text() for path in COMMITTED.glob("*.yaml")}
    assert found == manifests.files()


@pytest.mark.parametrize("kind", KINDS)
def test_yaml_says_what_was_generated(kind):
    assert YAML(typ="safe", pure=True).load(manifests.render(kind)) == manifests.manifest(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_schema_is_structural(kind):
    for path, node in nodes(schema_of(kind)):
        assert set(node) <= FIELD_KEYWORDS, path
        typed = node.get("type") in {"object", "array", "string", "integer", "number", "boolean"}
        assert typed or node.get("x-kubernetes-preserve-unknown-fields") is True, path
        assert not ("properties" in node and "additionalProperties" in node), path
        if node.get("type") == "array":
            assert isinstance(node["items"], dict), path
        assert set(node.get("required", ())) <= set(node.get("properties", {})), path
        if "enum" in node and node["type"] == "string":
            assert all(isinstance(value, str) for value in node["enum"]), path
        for bound in ("exclusiveMinimum", "exclusiveMaximum"):
            assert isinstance(node.get(bound, True), bool), path


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_spec_is_described(kind):
    spec = schema_of(kind)["properties"]["spec"]
    missing = [
        f"{path}.{name}"
        for path, node in nodes(spec)
        for name, field in node.get("properties", {}).items()
        if not field.get("description")
    ]
    assert missing == []


@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_bounded_so_that_cel_stays_in_its_budget(kind):
    for path, node in nodes(schema_of(kind)["properties"]["spec"]):
        if node.get("type") == "array":
            assert "maxItems" in node, path


@pytest.mark.parametrize("kind", KINDS)
def test_map_lists_name_required_keys(kind):
    for path, node in nodes(schema_of(kind)):
        for key in node.get("x-kubernetes-list-map-keys", ()):
            assert key in node["items"]["required"], path


@pytest.mark.parametrize("kind", KINDS)
def test_rules_of_cel_name_fields_that_are_there_and_have_messages(kind):
    schema = schema_of(kind)
    assert schema["x-kubernetes-validations"]
    known = {name for _, node in nodes(schema) for name in node.get("properties", {})}
    for rule in schema["x-kubernetes-validations"]:
        assert rule["message"]
        words = rule["rule"].replace("!", "").split("self.")[1:]
        for word in words:
            path = word.split(")")[0].split(" ")[0].split(".all(")[0]
            assert set(path.split(".")) <= known, path


def test_names_columns_and_status_are_those_of_the_design():
    found = {kind: manifests.manifest(kind)["spec"] for kind in KINDS}
    names = {kind: spec["names"] for kind, spec in found.items()}
    assert [names[kind]["shortNames"] for kind in KINDS] == [["dcl"], ["dap"]]
    for kind, spec in found.items():
        assert names[kind]["categories"] == ["sluice"]
        assert spec["group"] == "sluice.dev"
        assert spec["scope"] == "Namespaced"
        (version,) = spec["versions"]
        assert version["subresources"] == {"status": {}}
        assert {"Ready", "Age"} <= {c["name"] for c in version["additionalPrinterColumns"]}
        status = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
        assert {"conditions", "observedGeneration", "sidecars"} <= set(status)


def test_defaults_are_in_the_schema():
    spec = schema_of("DataClassification")["properties"]["spec"]["properties"]
    assert spec["database"]["properties"]["port"]["default"] == 5432
    assert spec["enforcement"]["default"] == "enforce"
    assert spec["unreviewedColumns"]["default"] == "mask"
    policy = schema_of("DatabaseAccessPolicy")["properties"]["spec"]["properties"]
    assert policy["mode"]["default"] == "enforce"


def test_check_fails_on_an_edited_manifest(tmp_path, capsys):
    assert manifests.main([str(tmp_path)]) == 0
    assert manifests.main(["--check", str(tmp_path)]) == 0
    edited = tmp_path / "sluice.dev_databaseaccesspolicies.yaml"
    edited.write_text(edited.read_text() + "\n")
    assert manifests.main(["--check", str(tmp_path)]) == 1
    assert edited.name in capsys.readouterr().err
