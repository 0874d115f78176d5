"""Pods, classifications and settings to inject with."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from sluice_crds import DataClassification
from sluice_operator.admission.estate import Estate
from sluice_operator.admission.injection import inject
from sluice_operator.admission.model import Injection, InjectionSettings, Namespace, Trust
from sluice_policy.resources import parse_resource

Change = Callable[[dict[str, Any]], None]


def _classification(name: str, namespace: str, hosts: list[str], **fields: Any) -> dict[str, Any]:
    database = {"hosts": hosts, "name": name, **fields.pop("database", {})}
    metadata = {
        "name": name,
        "namespace": namespace,
        "generation": fields.pop("generation", 1),
        "creationTimestamp": fields.pop("created", "2026-01-01T00:00:00Z"),
    }
    return {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "DataClassification",
        "metadata": metadata,
        "spec": {"database": database, **fields},
    }


def _model(value: dict[str, Any]) -> DataClassification:
    model = parse_resource(value)
    assert isinstance(model, DataClassification), model
    return model


@pytest.fixture
def classification() -> Callable[..., dict[str, Any]]:
    """Makes a DataClassification as the API has it: name, namespace, hosts, fields of its spec."""
    return _classification


@pytest.fixture
def estate_of() -> Callable[..., Estate]:
    """Makes an estate of raw classifications."""

    def make(*values: dict[str, Any], domain: str = "cluster.local") -> Estate:
        return Estate.of([_model(value) for value in values], domain=domain)

    return make


SHOP = _classification(
    "shop",
    "shop",
    ["shop-pg.shop.svc", "shop-pg-ro.shop.svc"],
    database={"catalogSecretRef": {"name": "shop-catalog-reader"}},
    allowedNamespaces=["support"],
    generation=3,
)
BILLING = _classification("billing", "billing", ["db.billing.example.com"], database={"port": 6432})


@pytest.fixture(scope="session")
def estate() -> Estate:
    """Two servers: a Service of namespace shop and a host of the world."""
    return Estate.of([_model(SHOP), _model(BILLING)])


@pytest.fixture(scope="session")
def settings() -> InjectionSettings:
    """Settings with short images."""
    return InjectionSettings(
        version="0.1.0",
        proxy_image="registry.example/sluice-proxy@sha256:11",
        opa_image="registry.example/opa@sha256:22",
        bundles_url="https://sluice-bundles.sluice-system.svc",
        trust=Trust("CA\n", {"k1": "KEY ONE\n", "k2": "KEY TWO\n"}),
    )


POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "desk-7d9c-x1",
        "namespace": "support",
        "labels": {"sluice.dev/inject": "true", "app": "desk", "pod-template-hash": "7d9c"},
        "annotations": {"team": "support"},
    },
    "spec": {
        "serviceAccountName": "support-desk",
        "containers": [
            {
                "name": "desk",
                "image": "desk:1",
                "env": [{"name": "DATABASE_URL", "value": "postgres://shop-pg.shop/shop"}],
                "futureField": {"kept": True},
            }
        ],
        "initContainers": [{"name": "migrate", "image": "desk:1"}],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "hostAliases": [{"ip": "10.0.0.9", "hostnames": ["mail"]}],
        "futureOfPods": 7,
    },
}


@pytest.fixture
def pod() -> dict[str, Any]:
    """A labelled pod of namespace support with what pods have."""
    return copy.deepcopy(POD)


def _index(items: list[Any], step: str) -> int:
    return len(items) if step == "-" else int(step)


def _apply(patch: Any, document: dict[str, Any]) -> dict[str, Any]:
    out = copy.deepcopy(document)
    for operation in patch:
        *way, last = [
            step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]
        ]
        node: Any = out
        for step in way:
            node = node[int(step)] if isinstance(node, list) else node[step]
        value = copy.deepcopy(operation.get("value"))
        if isinstance(node, list):
            place = _index(node, last)
            match operation["op"]:
                case "add":
                    assert place <= len(node)
                    node.insert(place, value)
                case "replace":
                    node[place] = value
                case _:
                    del node[place]
        elif operation["op"] == "remove":
            del node[last]
        else:
            assert operation["op"] == "add" or last in node
            node[last] = value
    return out


@pytest.fixture(scope="session")
def apply_patch() -> Callable[[Any, dict[str, Any]], dict[str, Any]]:
    """Applies a JSON patch: add, replace, remove (RFC 6902), after a way through JSON."""
    return lambda patch, document: _apply(json.loads(json.dumps(list(patch))), document)


@pytest.fixture
def injected(pod, estate, settings, apply_patch) -> dict[str, Any]:
    """The pod as injection leaves it."""
    result = inject(pod, Namespace("support"), estate, settings)
    assert isinstance(result, Injection), result
    return apply_patch(result.patch, pod)
