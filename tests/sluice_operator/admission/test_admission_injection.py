"""Injection as a function: what comes out of pods, and what does not come in."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from sluice_operator.admission import names
from sluice_operator.admission.injection import Injection, inject
from sluice_operator.admission.model import Namespace, Refusal

SUPPORT = Namespace("support")
GOLDEN = Path(__file__).parent / "golden"


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {v["name"]: v.get("value", "") for v in container["env"]}


def test_injected_pod_is_the_golden_one(injected, request):
    path = GOLDEN / "support-desk.yaml"
    yaml = YAML()
    plain = json.loads(json.dumps(injected))
    if request.config.getoption("--update-golden"):
        with path.open("w") as stream:
            yaml.dump(plain, stream)
    assert YAML(typ="safe").load(path.read_text()) == plain


def test_patch_adds_and_touches_nothing_of_the_application(pod, estate, settings):
    result = inject(pod, SUPPORT, estate, settings)
    assert {operation["op"] for operation in result.patch} == {"add"}
    assert len([o for o in result.patch if o["path"].startswith("/spec/initContainers/")]) == 2


def test_application_containers_come_after_ours_unchanged(pod, injected):
    names_found = [c["name"] for c in injected["spec"]["initContainers"]]
    assert names_found == ["sluice-opa", "sluice-proxy", "migrate"]
    assert injected["spec"]["containers"] == pod["spec"]["containers"]
    assert injected["spec"]["futureOfPods"] == 7


def test_injecting_twice_changes_nothing(injected, estate, settings):
    assert inject(injected, SUPPORT, estate, settings).patch == ()


def test_bare_pod_gets_every_list(estate, settings, apply_patch):
    bare = {
        "metadata": {"labels": {"sluice.dev/inject": "true"}},
        "spec": {"containers": [{"name": "a"}]},
    }
    result = inject(bare, SUPPORT, estate, settings)
    after = apply_patch(result.patch, bare)
    assert len(after["spec"]["initContainers"]) == 2
    assert after["metadata"]["annotations"]["sluice.dev/profile"].startswith("support/default/")


def test_pod_without_label_is_left_alone(pod, estate, settings):
    del pod["metadata"]["labels"]["sluice.dev/inject"]
    assert inject(pod, SUPPORT, estate, settings) == Injection()


def test_every_form_of_every_host_leads_to_one_address_of_its_server(injected):
    ours = [a for a in injected["spec"]["hostAliases"] if a["ip"] != "10.0.0.9"]
    assert ours == [
        {"ip": "127.0.0.32", "hostnames": ["db.billing.example.com"]},
        {
            "ip": "127.0.0.33",
            "hostnames": sorted(
                f"shop-pg{ro}.shop{tail}"
                for ro in ("", "-ro")
                for tail in ("", ".svc", ".svc.cluster.local")
            ),
        },
    ]


def test_single_label_form_is_for_pods_of_the_services_namespace(
    pod, estate, settings, apply_patch
):
    pod["metadata"]["namespace"] = "shop"
    after = apply_patch(inject(pod, Namespace("shop"), estate, settings).patch, pod)
    forms = {name for alias in after["spec"]["hostAliases"] for name in alias["hostnames"]}
    assert {"shop-pg", "shop-pg-ro"} <= forms


def test_search_domains_of_the_pod_shorten_names_too(pod, estate, settings, apply_patch):
    pod["spec"]["dnsConfig"] = {"searches": ["billing.example.com"]}
    after = apply_patch(inject(pod, SUPPORT, estate, settings).patch, pod)
    forms = {name for alias in after["spec"]["hostAliases"] for name in alias["hostnames"]}
    assert "db" in forms


def test_databases_of_the_sidecar_follow_the_contract(injected):
    entries = json.loads(variables(injected["spec"]["initContainers"][1])["SLUICE_DATABASES"])
    assert entries == [
        {
            "name": "billing/billing",
            "database": "billing",
            "upstream": ["db.billing.example.com", 6432],
            "listen": "127.0.0.32:6432",
            "tls": "prefer",
            "catalog": None,
            "secret": None,
        },
        {
            "name": "shop/shop",
            "database": "shop",
            "upstream": ["shop-pg.shop.svc.cluster.local", 5432],
            "listen": "127.0.0.33:5432",
            "tls": "prefer",
            "catalog": "/etc/sluice/catalog/0",
            "secret": "shop-catalog-reader",
        },
    ]


def test_namespace_that_is_not_admitted_mounts_no_catalog_secret_and_is_warned(
    pod, estate, settings, apply_patch
):
    result = inject(pod, Namespace("strangers"), estate, settings)
    after = apply_patch(result.patch, pod)
    assert not [v for v in after["spec"]["volumes"] if v["name"].startswith("sluice-catalog")]
    assert "admits the namespace strangers" in result.warnings[0]
    assert "allowedNamespaces" in result.warnings[0]


def test_profile_leaves_out_labels_that_change(injected):
    identity = json.loads(injected["metadata"]["annotations"]["sluice.dev/identity"])
    assert identity == {
        "serviceAccount": "support-desk",
        "labels": {"app": "desk", "sluice.dev/inject": "true"},
    }


def test_databases_annotation_names_generations(injected):
    assert json.loads(injected["metadata"]["annotations"]["sluice.dev/databases"]) == {
        "billing/billing": 1,
        "shop/shop": 3,
    }


def test_reinvocation_after_another_webhook_follows_the_pod(
    injected, estate, settings, apply_patch
):
    """Another webhook added a label and put its init container in front."""
    injected["metadata"]["labels"]["mesh"] = "on"
    injected["spec"]["initContainers"].insert(0, {"name": "mesh-init", "image": "mesh"})
    after = apply_patch(inject(injected, SUPPORT, estate, settings).patch, injected)
    assert [c["name"] for c in after["spec"]["initContainers"]][:3] == [
        *names.CONTAINERS,
        "mesh-init",
    ]
    identity = json.loads(after["metadata"]["annotations"]["sluice.dev/identity"])
    assert identity["labels"]["mesh"] == "on"
    assert inject(after, SUPPORT, estate, settings).patch == ()


def test_copied_pod_is_derived_anew(injected, estate_of, classification, settings, apply_patch):
    """A manifest taken from a running pod carries yesterday's part."""
    new = estate_of(classification("crm", "crm", ["crm-pg"]))
    after = apply_patch(inject(injected, SUPPORT, new, settings).patch, injected)
    assert json.loads(after["metadata"]["annotations"]["sluice.dev/databases"]) == {"crm/crm": 1}
    assert len([c for c in after["spec"]["initContainers"] if "sluice" in c["name"]]) == 2
    assert [a["ip"] for a in after["spec"]["hostAliases"]] == ["10.0.0.9", "127.0.0.32"]


def test_guaranteed_application_stays_guaranteed(pod, estate, settings, apply_patch):
    exact = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}}
    for container in [*pod["spec"]["containers"], *pod["spec"]["initContainers"]]:
        container["resources"] = copy.deepcopy(exact)
    after = apply_patch(inject(pod, SUPPORT, estate, settings).patch, pod)
    for container in after["spec"]["initContainers"][:2]:
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        assert set(resources["limits"]) == {"cpu", "memory"}


def test_annotations_tune_resources_and_log_level(pod, estate, settings, apply_patch):
    pod["metadata"]["annotations"] |= {
        "sluice.dev/proxy-cpu": "0.5",
        "sluice.dev/proxy-memory": "1Gi",
        "sluice.dev/opa-memory-limit": "300Mi",
        "sluice.dev/log-level": "debug",
    }
    after = apply_patch(inject(pod, SUPPORT, estate, settings).patch, pod)
    opa, proxy = after["spec"]["initContainers"][:2]
    assert proxy["resources"] == {
        "requests": {"cpu": "0.5", "memory": "1Gi"},
        "limits": {"memory": "1Gi"},
    }
    assert opa["resources"]["limits"] == {"memory": "300Mi"}
    assert variables(proxy)["SLUICE_LOG_LEVEL"] == "debug"


@pytest.mark.parametrize(
    ("annotation", "value", "why"),
    [
        ("proxy-cpu", "lots", "is no quantity; write one such as 10m"),
        ("proxy-memory", "1Mi", "is out of bounds; write a quantity from 96Mi to 16Gi"),
        ("proxy-cpu", "-1", "is no quantity"),
        ("proxy-memory-limit", "100Mi", "is above its limit"),
        ("log-level", "loud", "there are debug, info, warning, error"),
        ("audit-log", "syslog", "there is only stdout"),
        ("policy", "allow", "the annotation sluice.dev/policy means nothing"),
        ("capture", "redirect", "redirect is not supported yet"),
        ("capture", "brokered", "brokered is not supported yet"),
        ("capture", "all", "is no way of capture; write hosts"),
    ],
)
def test_wrong_annotation_is_refused_with_the_reason(  # noqa: PLR0917
    pod, estate, settings, annotation, value, why
):
    pod["metadata"]["annotations"][f"sluice.dev/{annotation}"] = value
    result = inject(pod, SUPPORT, estate, settings)
    assert isinstance(result, Refusal)
    assert f"sluice.dev/{annotation}" in result.message or "sluice-proxy" in result.message
    assert why in result.message
