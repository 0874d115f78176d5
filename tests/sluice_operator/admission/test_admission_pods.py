"""The validating side: the seven hostile pods, and what stays allowed."""

import copy

import pytest

from sluice_operator.admission.injection import inject
from sluice_operator.admission.model import Injection, Namespace, Refusal
from sluice_operator.admission.pods import judge_created, judge_updated

SUPPORT = Namespace("support")


@pytest.fixture
def stored(pod, estate, settings, apply_patch):
    return apply_patch(inject(pod, SUPPORT, estate, settings).patch, pod)


@pytest.fixture
def judge(estate, settings):
    return lambda pod, namespace=SUPPORT: judge_created(pod, namespace, estate, settings)


def test_injected_pod_passes(stored, judge):
    assert judge(stored) == Injection()


def test_what_the_api_server_adds_passes(stored, judge):
    """A LimitRange's defaults, defaulted fields."""
    for container in stored["spec"]["initContainers"]:
        limits = container.setdefault("resources", {}).setdefault("limits", {})
        limits.setdefault("cpu", "2")
        container["resizePolicy"] = [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]
    assert judge(stored) == Injection()


def test_defaults_of_a_later_kubernetes_pass(stored, judge):
    """What it fills in after us, in fields that are not there today."""
    for container in stored["spec"]["initContainers"]:
        container["checkpointPolicy"] = "Never"
        container.setdefault("securityContext", {})["userMapping"] = "Default"
    assert judge(stored) == Injection()


def test_pod_that_is_for_once_not_governed_may_keep_its_tuning(pod, judge):
    pod["metadata"]["labels"]["sluice.dev/inject"] = "false"
    pod["metadata"]["annotations"]["sluice.dev/log-level"] = "debug"
    assert judge(pod) == Injection()


def test_labelled_pod_without_sidecar_is_refused(pod, judge):
    assert "has no sidecar" in judge(pod).message


@pytest.mark.parametrize(
    ("field", "value"), [("env", []), ("image", "evil"), ("args", ["sleep"]), ("livenessProbe", {})]
)
def test_later_mutator_that_changes_our_container_is_refused(stored, judge, field, value):
    stored["spec"]["initContainers"][1][field] = value
    message = judge(stored).message
    assert "another webhook changed Sluice's part" in message
    assert "container sluice-proxy: " + field in message


def test_variable_given_twice_is_refused(stored, judge):
    env = stored["spec"]["initContainers"][1]["env"]
    env.insert(0, copy.deepcopy(env[0]))
    assert "twice" in judge(stored).message


def test_starved_sidecar_is_refused(stored, judge):
    stored["spec"]["initContainers"][1]["resources"]["requests"]["memory"] = "1Mi"
    assert "resources.requests.memory" in judge(stored).message


def test_init_container_in_front_of_ours_is_refused(stored, judge):
    containers = stored["spec"]["initContainers"]
    containers.insert(0, containers.pop())
    assert "order of spec.initContainers" in judge(stored).message


def test_pod_derived_from_older_classifications_may_pass_in_a_moment(
    stored, estate_of, classification, settings
):
    """Another replica knew other classifications: the caller waits, then tells to try again."""
    newer = estate_of(classification("crm", "crm", ["crm-pg"]))
    result = judge_created(stored, SUPPORT, newer, settings)
    assert isinstance(result, Refusal)
    assert result.passing
    assert "create it again" in result.message


def test_ungoverned_pod_must_not_look_governed(stored, judge):
    del stored["metadata"]["labels"]["sluice.dev/inject"]
    assert "has a part of Sluice's" in judge(stored).message


def test_plain_pod_passes_but_not_where_governing_is_required(pod, judge):
    del pod["metadata"]["labels"]["sluice.dev/inject"]
    assert judge(pod) == Injection()
    required = Namespace("support", {"sluice.dev/govern": "required"})
    assert isinstance(judge(pod, required), Refusal)


def update(stored, change):
    new = copy.deepcopy(stored)
    change(new)
    return judge_updated(stored, new)


def test_application_may_change(stored):
    def change(new):
        new["spec"]["containers"][0]["image"] = "desk:2"
        new["metadata"]["labels"]["tier"] = "gold"
        new["metadata"]["annotations"]["note"] = "x"
        new["metadata"]["finalizers"] = []

    assert update(stored, change) == Injection()


def test_image_of_the_live_sidecar_stays(stored):
    result = update(stored, lambda new: new["spec"]["initContainers"][1].update(image="evil"))
    assert "the container sluice-proxy must not change (image)" in result.message


def test_pod_of_an_earlier_version_stays_as_it_was_made(stored):
    """Its third container prepared what OPA reads today from its arguments."""
    stored["spec"]["initContainers"].insert(0, {"name": "sluice-init", "image": "proxy:0"})
    assert (
        update(stored, lambda new: new["metadata"]["annotations"].update(note="x")) == Injection()
    )
    result = update(stored, lambda new: new["spec"]["initContainers"][0].update(image="evil"))
    assert "the container sluice-init must not change (image)" in result.message


def test_resize_of_the_live_sidecar_is_refused(stored):
    def change(new):
        new["spec"]["initContainers"][0]["resources"]["limits"] = {"cpu": "1m"}

    assert "the container sluice-opa must not change (resources)" in update(stored, change).message


@pytest.mark.parametrize("where", ["labels", "annotations"])
def test_our_labels_and_annotations_are_frozen(stored, where):
    def change(new):
        fields = new["metadata"][where]
        key = next(key for key in fields if key.startswith("sluice.dev/"))
        fields[key] = "other"

    assert "is decided when a pod is created" in update(stored, change).message


def test_label_after_creation_is_refused(pod):
    del pod["metadata"]["labels"]["sluice.dev/inject"]
    result = update(
        pod, lambda new: new["metadata"]["labels"].update({"sluice.dev/inject": "true"})
    )
    assert "the label sluice.dev/inject is decided when a pod is created" in result.message


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"targetContainerName": "sluice-proxy"}, "targets sluice-proxy"),
        ({"securityContext": {"runAsUser": 16021}}, "runAsUser 16021"),
        ({"securityContext": {"privileged": True}}, "is privileged"),
        ({"volumeMounts": [{"name": "sluice-run", "mountPath": "/x"}]}, "mounts sluice-run"),
        ({"name": "sluice-debug"}, "begins with sluice-"),
    ],
)
def test_hostile_ephemeral_container_is_refused(stored, fields, why):
    def change(new):
        new["spec"]["ephemeralContainers"] = [{"name": "debugger", "image": "busybox", **fields}]

    assert why in update(stored, change).message


def test_ephemeral_container_beside_the_application_passes(stored):
    def change(new):
        new["spec"]["ephemeralContainers"] = [{"name": "debugger", "targetContainerName": "desk"}]

    assert update(stored, change) == Injection()
