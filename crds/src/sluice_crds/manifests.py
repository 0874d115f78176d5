"""Structural CustomResourceDefinitions, generated from the models.

``python -m sluice_crds.manifests DIR`` writes them, ``--check`` only compares.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from sluice_crds import classifications, policies
from sluice_crds.base import GROUP, VERSION

Schema = dict[str, Any]

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
"""Where the committed manifests are, in a checkout."""

_DROPPED = frozenset({"title", "additionalProperties", "$defs", "default"})


@dataclass(frozen=True, slots=True)
class _Resource:
    model: type[BaseModel]
    plural: str
    short: str
    cel: Mapping[str, Any]
    columns: tuple[tuple[str, str, str], ...]


_RESOURCES = (
    _Resource(
        classifications.DataClassification,
        "dataclassifications",
        "dcl",
        classifications.CEL,
        (
            ("Database", "string", ".spec.database.name"),
            ("Host", "string", ".spec.database.hosts[0]"),
            ("Enforcement", "string", ".spec.enforcement"),
            ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
            ("Unreviewed", "integer", ".status.columns.unreviewed"),
            ("Age", "date", ".metadata.creationTimestamp"),
        ),
    ),
    _Resource(
        policies.DatabaseAccessPolicy,
        "databaseaccesspolicies",
        "dap",
        policies.CEL,
        (
            ("Mode", "string", ".spec.mode"),
            ("Databases", "string", ".spec.databases.names"),
            ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
            ("Current", "integer", ".status.sidecars.current"),
            ("Stale", "integer", ".status.sidecars.stale"),
            ("Age", "date", ".metadata.creationTimestamp"),
        ),
    ),
)


def _without_null(schema: Schema) -> Schema:
    """A field that may be absent: its own schema, with the field's description kept."""
    choices = [c for c in schema["anyOf"] if c != {"type": "null"}]
    if len(choices) != 1:
        raise ValueError(f"not structural: a choice of types in {schema}")
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**choices[0], **rest}


def _inlined(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    if "anyOf" in schema:
        schema = _without_null(schema)
    if "$ref" in schema:
        target = definitions[schema["$ref"].removeprefix("#/$defs/")]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def _structural(raw: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """OpenAPI v3.0 in the subset that CustomResourceDefinitions take."""
    schema = _inlined(raw, definitions)
    out: Schema = {key: value for key, value in schema.items() if key not in _DROPPED}
    if "const" in out:
        out["enum"] = [out.pop("const")]
    for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if bound in out:
            out[limit] = out[bound]
            out[bound] = True
    if (default := schema.get("default")) is not None and default not in ([], {}):
        out["default"] = default
    if "properties" in schema:
        fields = cast("dict[str, Schema]", schema["properties"])
        out["properties"] = {
            name: _structural(field, definitions) for name, field in fields.items()
        }
    elif isinstance(schema.get("additionalProperties"), dict):
        out["additionalProperties"] = _structural(schema["additionalProperties"], definitions)
    out.pop("propertyNames", None)
    out.pop("minProperties", None) if "properties" in out else None
    if "items" in schema:
        out["items"] = _structural(schema["items"], definitions)
    return out


def _openapi(resource: _Resource) -> Schema:
    raw = resource.model.model_json_schema(by_alias=True)
    definitions = cast("dict[str, Schema]", raw.get("$defs", {}))
    root = _structural(raw, definitions)
    fields = cast("dict[str, Schema]", root["properties"])
    fields["apiVersion"] = {"type": "string"}
    fields["kind"] = {"type": "string"}
    fields["metadata"] = {"type": "object"}
    root["required"] = ["spec"]
    return {**root, **resource.cel}


def manifest(resource_kind: str) -> Schema:
    """The CustomResourceDefinition of a kind."""
    resource = next(r for r in _RESOURCES if r.model.__name__ == resource_kind)
    kind = resource.model.__name__
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": resource.plural,
                "singular": kind.lower(),
                "shortNames": [resource.short],
                "categories": ["sluice"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": type_, "jsonPath": path}
                        for name, type_, path in resource.columns
                    ],
                    "schema": {"openAPIV3Schema": _openapi(resource)},
                }
            ],
        },
    }


def _scalar(value: object) -> str:
    # JSON is YAML: quoted strings never turn into numbers, dates or booleans.
    return json.dumps(value, ensure_ascii=False)


def _yaml(value: object, indent: int = 0) -> list[str]:
    pad = "  " * indent
    if isinstance(value, dict) and value:
        lines: list[str] = []
        for key, item in cast("dict[str, object]", value).items():
            nested = _yaml(item, indent + 1)
            if isinstance(item, dict | list) and item:
                lines += [f"{pad}{key}:", *nested]
            else:
                lines.append(f"{pad}{key}: {nested[0].strip()}")
        return lines
    if isinstance(value, list) and value:
        lines = []
        for item in cast("list[object]", value):
            first, *rest = _yaml(item, indent + 1)
            lines += [f"{pad}- {first.strip()}", *rest]
        return lines
    return [pad + _scalar(cast("object", value))]


def render(resource_kind: str) -> str:
    """The manifest as YAML text, the same for every run."""
    head = "# Generated from sluice_crds by `python -m sluice_crds.manifests`. Do not edit.\n"
    return head + "\n".join(_yaml(manifest(resource_kind))) + "\n"


def files() -> dict[str, str]:
    """File name → text, for both resources."""
    return {
        f"{GROUP}_{resource.plural}.yaml": render(resource.model.__name__)
        for resource in _RESOURCES
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifests, or compare them."""
    parser = argparse.ArgumentParser(prog="python -m sluice_crds.manifests", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=MANIFESTS)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 on a difference"
    )
    options = parser.parse_args(argv)
    stale = 0
    for name, text in files().items():
        path = cast("Path", options.directory) / name
        if options.check:
            if not path.exists() or path.read_text() != text:
                sys.stderr.write(f"{path} is not what the models say; run this without --check\n")
                stale = 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return stale


if __name__ == "__main__":
    raise SystemExit(main())
