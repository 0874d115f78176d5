"""Pods that injection refuses, each with its reason."""

from typing import Any

import pytest

from sluice_operator.admission.injection import inject
from sluice_operator.admission.model import Namespace, Refusal

SUPPORT = Namespace("support")


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
        set_at("spec.initContainers.1.image", "evil"),
        set_at("spec.initContainers.1.env", []),
        set_at("spec.initContainers.0.args", ["run", "--server"]),
        set_at("spec.initContainers.1.command", ["sleep"]),
        set_at("spec.initContainers.0.securityContext.runAsUser", 0),
        set_at("spec.initContainers.1.lifecycle", {"preStop": {"exec": {"command": ["x"]}}}),
        set_at("spec.volumes.1.emptyDir", {}),
        add_to("spec.initContainers.1.volumeMounts", {"name": "data", "mountPath": "/etc"}),
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
