"""A labelled pod that cannot be governed is refused with the reason, never let through without its sidecar."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sluice_dev.kubectl import DeniedError, until
from sluice_dev.story import Document, Story, container


@pytest.fixture(scope="module")
def story(blank: Story) -> Story:
    """PodSecurity off, so that it is Sluice that refuses."""
    blank.open(restricted=False)
    return blank


def _host_network(pod: Document) -> None:
    pod["spec"]["hostNetwork"] = True


def _host_pid(pod: Document) -> None:
    pod["spec"]["hostPID"] = True


def _shared_processes(pod: Document) -> None:
    pod["spec"]["shareProcessNamespace"] = True


def _privileged(pod: Document) -> None:
    pod["spec"]["containers"][0]["securityContext"] = {"privileged": True}


def _our_uid(pod: Document) -> None:
    pod["spec"]["securityContext"]["runAsUser"] = 16021


def _fake_proxy(pod: Document) -> None:
    pod["spec"]["initContainers"] = [
        {**pod["spec"]["containers"][0], "name": "sluice-proxy", "restartPolicy": "Always"}
    ]


def _our_volume(pod: Document) -> None:
    pod["spec"]["containers"][0]["volumeMounts"] = [
        {"name": "sluice-run", "mountPath": "/run/sluice"}
    ]


def _mistyped_label(pod: Document) -> None:
    pod["metadata"]["labels"]["sluice.dev/inject"] = "yes"


CASES: list[tuple[Callable[[Document], None], str]] = [
    (_host_network, "hostNetwork"),
    (_host_pid, "hostPID"),
    (_shared_processes, "shareProcessNamespace"),
    (_privileged, "privileged"),
    (_our_uid, "16021"),
    (_fake_proxy, "sluice-"),
    (_our_volume, "sluice-"),
    (_mistyped_label, "sluice.dev/inject"),
]


@pytest.mark.parametrize(
    ("change", "reason"), CASES, ids=[change.__name__[1:] for change, _ in CASES]
)
def test_pod_is_refused_with_the_reason(
    story: Story, change: Callable[[Document], None], reason: str
):
    pod = story.pod("hostile")
    change(pod)
    refusal = story.kubectl.refusal(pod)
    assert reason in refusal, refusal or "it was taken"


def test_the_refusal_reaches_whoever_deploys(story: Story):
    story.kubectl.apply(story.deployment("stuck", 1, hostNetwork=True))

    def events() -> list[str]:
        items = story.kubectl.get("-n", story.namespace, "events")["items"]
        return [
            e["message"]
            for e in items
            if e["reason"] == "FailedCreate" and "hostNetwork" in e["message"]
        ]

    assert until(events, within_s=30)
    story.kubectl("-n", story.namespace, "delete", "deployment", "stuck")


def test_required_namespace_takes_governed_pods_only(story: Story):
    """The label belongs to the governed: where it is required, nobody comes without it."""
    story.kubectl("label", "namespace", story.namespace, "sluice.dev/govern=required")
    try:
        refusal = story.kubectl.refusal(story.pod("free", governed=False))
        assert "sluice.dev/govern=required" in refusal, refusal or "it was taken"
        story.start(story.pod("governed"))
    finally:
        story.kubectl("label", "namespace", story.namespace, "sluice.dev/govern-")


def _patched(story: Story, patch: str, *more: str) -> str:
    done = story.kubectl.run("-n", story.namespace, "patch", "pod", "governed", *more, "-p", patch)
    return done.stderr if done.returncode else ""


def test_live_pod_cannot_be_changed_round_its_sidecar(story: Story):
    """Image, labels, identity, ephemeral containers, exec and attach."""
    image = '{"spec":{"initContainers":[{"name":"sluice-proxy","image":"evil:1"}]}}'
    assert "sluice" in _patched(story, image).lower()
    assert "sluice.dev/" in _patched(story, '{"metadata":{"labels":{"sluice.dev/inject":null}}}')
    assert "sluice.dev/" in _patched(
        story, '{"metadata":{"annotations":{"sluice.dev/identity":"{}"}}}'
    )
    assert not _patched(story, '{"metadata":{"labels":{"note":"harmless"}}}')
    debugger = container(story.images, "debug", targetContainerName="sluice-proxy")
    debugger.pop("resources")  # An ephemeral container has none.
    ephemeral = {"spec": {"ephemeralContainers": [debugger]}}
    assert "sluice" in _patched(story, json.dumps(ephemeral), "--subresource=ephemeralcontainers")
    for target in ("sluice-proxy", "sluice-opa"):
        done = story.kubectl.run(
            "-n", story.namespace, "exec", "governed", "-c", target, "--", "ls"
        )
        assert done.returncode
        assert "sluice-*" in done.stderr, done.stderr


def test_unlabelled_pod_cannot_claim_an_identity(story: Story):
    pod = story.pod("claimer", governed=False)
    pod["metadata"]["annotations"] = {"sluice.dev/identity": "{}", "sluice.dev/profile": "a/b/c"}
    assert "sluice.dev/inject" in story.kubectl.refusal(pod)


def test_database_of_a_pod_in_a_foreign_namespace_is_captured_and_refused(story: Story):
    """Capture maps every classified host; a namespace that was not admitted gets a refusal, not a way through."""
    story.kubectl.apply(story.classification(allowedNamespaces=["elsewhere"]))
    story.ready("dcl", story.name)
    client = story.start(story.pod("stranger"))
    with pytest.raises(DeniedError):
        client.execute("SELECT 1")
