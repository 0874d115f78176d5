"""Resources to compile, small enough to read."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from sluice_policy import Resource
from sluice_policy.resources import parse_resource

CLASSIFICATION: dict[str, Any] = {
    "apiVersion": "sluice.dev/v1alpha1",
    "kind": "DataClassification",
    "metadata": {"name": "shop", "namespace": "shop", "labels": {"env": "production"}},
    "spec": {
        "database": {"hosts": ["shop-pg.shop.svc"], "name": "shop"},
        "allowedNamespaces": ["support"],
        "columns": [
            {"table": "public.users", "column": "email", "class": "pii.email"},
            {"table": "*.*", "column": "*ssn*", "class": "pii.ssn"},
            {"table": "public.orders", "column": "*", "class": "public"},
        ],
    },
}

POLICY: dict[str, Any] = {
    "apiVersion": "sluice.dev/v1alpha1",
    "kind": "DatabaseAccessPolicy",
    "metadata": {"name": "support", "namespace": "shop"},
    "spec": {
        "databases": {"names": ["shop"]},
        "subjects": [{"workload": {"namespaces": ["support"]}}],
        "rules": [{"name": "read", "effect": "allow", "actions": ["select"]}],
    },
}


def changed(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """A copy with fields set by dotted path; None removes."""
    out = copy.deepcopy(base)
    for path, value in change.items():
        *way, last = path.split(".")
        node = out
        for step in way:
            node = node.setdefault(step, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return out


def resource(value: dict[str, Any]) -> Resource:
    """A resource that its schema accepts."""
    model = parse_resource(value)
    assert not isinstance(model, list), model
    return Resource(model=model, namespace=model.metadata.namespace or "default")


@pytest.fixture
def classification() -> Callable[..., Resource]:
    """Makes a DataClassification; arguments set fields by dotted path."""
    return lambda **change: resource(changed(CLASSIFICATION, _dotted(change)))


@pytest.fixture
def policy() -> Callable[..., Resource]:
    """Makes a DatabaseAccessPolicy; arguments set fields by dotted path."""
    return lambda **change: resource(changed(POLICY, _dotted(change)))


def _dotted(change: dict[str, Any]) -> dict[str, Any]:
    """``spec__masks=…`` → ``spec.masks``."""
    return {name.replace("__", "."): value for name, value in change.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes files into a directory: name=value, text as it is and dicts as YAML."""

    def write(files: dict[str, Any]) -> Path:
        for name, value in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(value, bytes):
                path.write_bytes(value)
            elif isinstance(value, str):
                path.write_text(value)
            else:
                with path.open("w") as stream:
                    YAML(typ="safe", pure=True).dump(value, stream)
        return tmp_path

    return write
