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


@pytest.fixture
def injected(pod, estate, settings, apply_patch):
    result = inject(pod, SUPPORT, estate, settings)
    assert isinstance(result, Injection), result
    return apply_patch(result.patch, pod)


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
    assert len([o for o in result.patch if o["path"].startswith("/spec/initContainers/")]) == 3


def test_application_containers_come_after_ours_unchanged(pod, injected):
    names_found = [c["name"] for c in injected["spec"]["initContainers"]]
    assert names_found == ["sluice-init", "sluice-opa", "sluice-proxy", "migrate"]
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
    assert len(after["spec"]["initContainers"]) == 3
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
    entries = json.loads(variables(injected["spec"]["initContainers"][2])["SLUICE_DATABASES"])
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
    assert [c["name"] for c in after["spec"]["initContainers"]][:4] == [
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
    assert len([c for c in after["spec"]["initContainers"] if "sluice" in c["name"]]) == 3
    assert [a["ip"] for a in after["spec"]["hostAliases"]] == ["10.0.0.9", "127.0.0.32"]


def test_guaranteed_application_stays_guaranteed(pod, estate, settings, apply_patch):
    exact = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}}
    for container in [*pod["spec"]["containers"], *pod["spec"]["initContainers"]]:
        container["resources"] = copy.deepcopy(exact)
    after = apply_patch(inject(pod, SUPPORT, estate, settings).patch, pod)
    for container in after["spec"]["initContainers"][:3]:
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
    _, opa, proxy = after["spec"]["initContainers"][:3]
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


def set_at(path: str, value: Any):
    def change(pod: dict[str, Any]) -> None:
        *way, last = path.split(".")
        node: Any = pod
        for step in way:
            node = node[int(step)] if isinstance(node, list) else node.setdefault(step, {})
        node[last] = value

    return change


def add_to(path: str, value: Any):
    def change(pod: dict[str, Any]) -> None:
        node: Any = pod
        for step in path.split("."):
            if isinstance(node, list):
                node = node[int(step)]
            else:
                node = node.setdefault(step, [] if path.endswith(step) else {})
        node.append(value)

    return change


APP = "spec.containers.0"
REFUSED = {
    "host network": (set_at("spec.hostNetwork", True), "spec.hostNetwork is true"),
    "host pid": (set_at("spec.hostPID", True), "spec.hostPID is true"),
    "shared processes": (
        set_at("spec.shareProcessNamespace", True),
        "spec.shareProcessNamespace is true",
    ),
    "privileged": (set_at(f"{APP}.securityContext.privileged", True), "desk is privileged"),
    "privileged init": (
        set_at("spec.initContainers.0.securityContext.privileged", True),
        "migrate of initContainers is privileged",
    ),
    "sys admin": (
        set_at(f"{APP}.securityContext.capabilities.add", ["CAP_SYS_ADMIN"]),
        "adds the capability SYS_ADMIN",
    ),
    "our uid": (set_at(f"{APP}.securityContext.runAsUser", 16021), "runAsUser 16021"),
    "our uid by the pod": (set_at("spec.securityContext.runAsUser", 16021), "runAsUser 16021"),
    "our group": (
        set_at("spec.securityContext.supplementalGroups", [1, 16021]),
        "supplementalGroups 16021",
    ),
    "reserved container": (
        add_to("spec.containers", {"name": "sluice-helper"}),
        "container sluice-helper has a name",
    ),
    "reserved volume": (
        add_to("spec.volumes", {"name": "sluice-mine", "emptyDir": {}}),
        "the volume sluice-mine has a name",
    ),
    "mount of our volume": (
        add_to(f"{APP}.volumeMounts", {"name": "sluice-run", "mountPath": "/x"}),
        "mounts sluice-run",
    ),
    "alias of a database": (
        add_to("spec.hostAliases", {"ip": "10.1.1.1", "hostnames": ["shop-pg.shop"]}),
        "spec.hostAliases leads shop-pg.shop to 10.1.1.1",
    ),
    "reserved address": (
        add_to("spec.hostAliases", {"ip": "127.0.0.77", "hostnames": ["other"]}),
        "not what Sluice writes (spec.initContainers)",
    ),
    "kubelet's folder": (
        add_to("spec.volumes", {"name": "k", "hostPath": {"path": "/var/lib/kubelet/pods"}}),
        "the node's /var/lib/kubelet/pods",
    ),
    "the node's root": (
        add_to("spec.volumes", {"name": "k", "hostPath": {"path": "//"}}),
        "by which /var/lib/kubelet is reached",
    ),
    "runtime's socket": (
        add_to("spec.volumes", {"name": "k", "hostPath": {"path": "/run/containerd/c.sock"}}),
        "the node's /run/containerd/c.sock",
    ),
    "our token": (
        add_to(
            "spec.volumes",
            {
                "name": "t",
                "projected": {"sources": [{"serviceAccountToken": {"audience": "sluice"}}]},
            },
        ),
        "a token for the audience sluice",
    ),
    "our port": (
        set_at(f"{APP}.ports", [{"containerPort": 15281}]),
        "desk has the containerPort 15281",
    ),
    "windows": (set_at("spec.os", {"name": "windows"}), "Windows pod"),
    "windows nodes": (
        set_at("spec.nodeSelector", {"kubernetes.io/os": "windows"}),
        "Windows pod",
    ),
    "virtual node": (
        set_at("spec.tolerations", [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]),
        "virtual node",
    ),
    "unknown label": (
        lambda pod: pod["metadata"]["labels"].update({"sluice.dev/tier": "gold"}),
        "the label sluice.dev/tier means nothing",
    ),
    "mistyped label": (
        lambda pod: pod["metadata"]["labels"].update({"sluice.dev/inject": "yes"}),
        'neither "true" nor "false"',
    ),
    "forged annotations": (
        lambda pod: pod["metadata"]["annotations"].update({"sluice.dev/identity": "{}"}),
        "not what Sluice writes",
    ),
    "fake proxy": (
        add_to("spec.initContainers", {"name": "sluice-proxy", "image": "evil"}),
        "not what Sluice writes",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_pod_that_cannot_be_governed_is_refused_with_the_reason(pod, estate, settings, case):
    change, why = REFUSED[case]
    change(pod)
    result = inject(pod, SUPPORT, estate, settings)
    assert isinstance(result, Refusal)
    assert why in result.message


def test_more_databases_than_a_variable_can_name_are_refused(
    pod, estate_of, classification, settings
):
    many = [classification(f"d{n}", "shop", ["pg"]) for n in range(900)]
    result = inject(pod, SUPPORT, estate_of(*many), settings)
    assert "classify fewer" in result.message


def test_all_reasons_are_told_at_once(pod, estate, settings):
    pod["spec"] |= {"hostNetwork": True, "hostPID": True}
    message = inject(pod, SUPPORT, estate, settings).message
    assert "(1) spec.hostNetwork" in message
    assert "(2) spec.hostPID" in message


def test_unlabelled_pod_of_a_governed_namespace_is_refused(pod, estate, settings):
    del pod["metadata"]["labels"]["sluice.dev/inject"]
    namespace = Namespace("support", {"sluice.dev/govern": "required"})
    result = inject(pod, namespace, estate, settings)
    assert isinstance(result, Refusal)
    assert "sluice.dev/govern: required" in result.message
    assert 'sluice.dev/inject: "true"' in result.message


def test_letting_other_databases_pass_is_not_supported_yet(pod, estate, settings):
    namespace = Namespace("support", {}, {"sluice.dev/ungoverned-databases": "allow"})
    result = inject(pod, namespace, estate, settings)
    assert "not supported yet" in result.message


@pytest.mark.parametrize(
    "tamper",
    [
        set_at("spec.initContainers.2.image", "evil"),
        set_at("spec.initContainers.2.env", []),
        set_at("spec.initContainers.1.args", ["run", "--server"]),
        set_at("spec.initContainers.2.command", ["sleep"]),
        set_at("spec.initContainers.0.securityContext.runAsUser", 0),
        set_at("spec.initContainers.2.lifecycle", {"preStop": {"exec": {"command": ["x"]}}}),
        set_at("spec.volumes.1.emptyDir", {}),
        add_to("spec.initContainers.2.volumeMounts", {"name": "data", "mountPath": "/etc"}),
        lambda pod: pod["spec"]["hostAliases"].pop(),
        lambda pod: pod["spec"]["initContainers"].pop(1),
        lambda pod: pod["metadata"]["annotations"].pop("sluice.dev/digest"),
    ],
)
def test_part_that_somebody_changed_is_refused(injected, estate, settings, tamper):
    tamper(injected)
    result = inject(injected, SUPPORT, estate, settings)
    assert isinstance(result, Refusal)
    assert "not what Sluice writes" in result.message
