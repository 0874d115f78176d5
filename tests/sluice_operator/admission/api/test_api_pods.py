"""Pods before the webhooks of a real API server: injected, left alone, refused with the reason."""

import json

import pytest


def test_pod_of_a_restricted_namespace_is_injected(api):
    """PodSecurity `restricted` takes it, and the validating webhook what the API server made of it."""
    pod = api.stored(
        api.governed(
            "desk", initContainers=[{"name": "migrate", "image": "m", "securityContext": api.SAFE}]
        ),
    )
    found = [c["name"] for c in pod["spec"]["initContainers"]]
    assert found == [*api.OURS, "migrate"]
    aliases = {name for a in pod["spec"]["hostAliases"] for name in a["hostnames"]}
    assert aliases == {"shop-pg.shop", "shop-pg.shop.svc", "shop-pg.shop.svc.cluster.local"}
    assert pod["metadata"]["annotations"]["sluice.dev/profile"].startswith("support/default/")


def test_stored_pod_copied_into_a_new_one_is_injected_afresh(api):
    """`kubectl get -o yaml | kubectl create`, with everything that the API server filled in."""
    pod = api.stored(api.governed("original"))
    copied = {k: pod[k] for k in ("apiVersion", "kind", "spec")}
    metadata = pod["metadata"]
    copied["metadata"] = {k: metadata[k] for k in ("labels", "annotations", "namespace")}
    copied["metadata"]["name"] = "copied"
    again = api.stored(copied)
    assert [c["name"] for c in again["spec"]["initContainers"]] == api.OURS
    assert again["metadata"]["annotations"] == metadata["annotations"]


def test_limit_range_is_no_tampering_and_the_api_token_is_the_applications(api):
    """Built-in plugins change our containers after us."""
    api.create_namespace("limited")
    limits = [{"type": "Container", "default": {"cpu": "1", "ephemeral-storage": "1Gi"}}]
    api.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "LimitRange",
                "metadata": {"name": "l", "namespace": "limited"},
                "spec": {"limits": limits},
            }
        ]
    )
    pod = api.stored(api.governed("desk", "limited"))
    proxy = pod["spec"]["initContainers"][1]
    assert proxy["resources"]["limits"]["cpu"] == "1"
    assert "kube-api-access" in json.dumps(pod["spec"]["containers"])
    assert "kube-api-access" not in json.dumps(pod["spec"]["initContainers"])


def test_plain_pod_is_left_alone(api):
    pod = api.stored(api.plain("plain", "support"))
    assert "initContainers" not in pod["spec"]


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"hostNetwork": True}, "spec.hostNetwork is true"),
        ({"hostPID": True}, "spec.hostPID is true"),
        ({"shareProcessNamespace": True}, "spec.shareProcessNamespace is true"),
        ({"securityContext": {"runAsUser": 16021}}, "runAsUser 16021"),
    ],
)
def test_kubectl_shows_why_a_pod_is_refused(api, spec, why):
    message = api.refused(api.governed("bad", "shop", **spec))
    assert 'admission webhook "pods.sluice.dev" denied the request' in message
    assert why in message


def test_application_of_a_governed_pod_may_change(api):
    api.stored(api.governed("living"))
    image = {"spec": {"containers": [{"name": "app", "image": "desk:2"}]}}
    assert api.patched("living", image) == ""
    assert api.patched("living", {"metadata": {"labels": {"tier": "gold"}}}) == ""
    label = api.patched("living", {"metadata": {"labels": {"sluice.dev/inject": "false"}}})
    assert "sluice.dev/" in label
    profile = {"metadata": {"annotations": {"sluice.dev/profile": "support/other/0"}}}
    assert "sluice.dev/" in api.patched("living", profile)


def test_label_after_creation_is_refused(api):
    api.stored(api.plain("late", "support"))
    message = api.patched("late", {"metadata": {"labels": {"sluice.dev/inject": "true"}}})
    assert "sluice.dev/" in message


def test_unlabelled_pod_where_governing_is_required_is_refused(api):
    message = api.refused(api.plain("free", "strict"))
    assert "sluice.dev/inject" in message
    assert api.accepted(api.governed("bound", "strict"))


@pytest.mark.parametrize("kind", ["Deployment", "Job", "CronJob"])
def test_workload_whose_pods_will_be_refused_is_warned_of(api, kind):
    told = api.warnings(api.workload(kind, api.governed("x", "shop", hostNetwork=True)))
    assert f"Warning: pods of this {kind} will be refused: " in told
    assert "spec.hostNetwork is true" in told
    assert "Sluice" not in api.warnings(
        api.workload(kind, api.plain("x", "shop", hostNetwork=True))
    )
    assert "refused" not in api.warnings(api.workload(kind, api.governed("x", "shop")))


def test_label_in_the_wrong_place_is_warned_of(api):
    value = api.workload("Deployment", api.plain("x", "shop"))
    value["metadata"]["labels"] = {"sluice.dev/inject": "true"}
    assert "is on the Deployment and not on its pod template" in api.warnings(value)
