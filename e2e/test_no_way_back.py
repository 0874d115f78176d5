"""Older, foreign, altered, wrongly signed bundles never come into force; the last good one stays."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Generator
from dataclasses import dataclass

import pytest

from sluice_dev import forging
from sluice_dev.forging import Files
from sluice_dev.kubectl import DeniedError, PodClient, until
from sluice_dev.story import Document, Story
from sluice_policy import SigningKey

QUERY = "SELECT email FROM users WHERE id = 1"


def _stored(story: Story, system: str, app: str) -> Document:
    """The bundle of one pod's profile as the bundle service reads it."""
    pod = story.kubectl.get("-n", story.namespace, "pod", app)
    profile = pod["metadata"]["annotations"]["sluice.dev/profile"]
    items = story.kubectl.get("-n", system, "configmap", "-l", "sluice.dev/kind=bundle")["items"]
    mine = [i for i in items if i["metadata"]["annotations"]["sluice.dev/profile"] == profile]
    assert len(mine) == 1, profile
    return mine[0]


def _files(stored: Document) -> Files:
    return forging.unpacked(base64.b64decode(stored["binaryData"]["bundle.tar.gz"]))


def _log(story: Story, *containing: str) -> list[str]:
    log = story.kubectl("-n", story.namespace, "logs", "desk", "-c", "sluice-proxy")
    return [line for line in log.splitlines() if all(part in line for part in containing)]


@dataclass
class History:
    """The bundle before and after a change that shows less, and that of another workload."""

    old: Document
    new: Document
    foreign: Document
    client: PodClient
    offers: int = 0

    def offer(self, story: Story, files: Files, *, sequence: int | None = None) -> int:
        """Put a bundle in the place of the newest, under the next number; return the number."""
        self.offers += 1
        document = copy.deepcopy(self.new)
        document["metadata"] = {
            key: document["metadata"][key] for key in ("name", "namespace", "labels", "annotations")
        }
        notes = document["metadata"]["annotations"]
        number = sequence or int(notes["sluice.dev/sequence"]) + self.offers
        notes["sluice.dev/sequence"] = str(number)
        notes["sluice.dev/revision"] = f"{self.offers:x}" * 64
        content = base64.b64encode(forging.packed(files)).decode()
        document["binaryData"]["bundle.tar.gz"] = content
        story.kubectl("replace", "-f", "-", stdin=json.dumps(document))
        return number


@pytest.fixture(scope="module")
def history(story: Story, system: str) -> Generator[History]:
    """The controller is stopped, so that nobody mends what is put in the place of bundles."""
    desk = story.pod("desk")
    desk["metadata"]["annotations"] = {"sluice.dev/audit-log": "stdout"}
    story.kubectl.apply(desk, story.pod("other"))
    for name in ("desk", "other"):
        story.wait_ready(name)
    client = story.client("desk")
    until(lambda: "@" in client.execute(QUERY)[0][0], within_s=20)
    old = _stored(story, system, "desk")
    story.kubectl.apply(story.policy(masks=[{"class": "pii", "mask": "redact"}]))
    until(lambda: "@" not in client.execute(QUERY)[0][0], within_s=20)
    new, foreign = _stored(story, system, "desk"), _stored(story, system, "other")
    assert _number(new) > _number(old)
    story.kubectl("-n", system, "scale", "deployment/sluice-controller", "--replicas=0")
    selector = "app.kubernetes.io/component=controller"
    until(lambda: not story.kubectl.get("-n", system, "pods", "-l", selector)["items"], within_s=60)
    yield History(old, new, foreign, client)
    story.kubectl("-n", system, "scale", "deployment/sluice-controller", "--replicas=2")
    story.kubectl.rollout(system, "deployment/sluice-controller")


def _number(stored: Document) -> int:
    return int(stored["metadata"]["annotations"]["sluice.dev/sequence"])


def _policy_stays(story: Story, client: PodClient) -> None:
    """The newest good policy answers: old connections, new ones, and statements that nobody has asked before."""
    truth = story.server.psql(QUERY)[0][0]
    for number in range(5):
        shown = client.execute(QUERY.replace("email", f"email AS shape{number}"))[0][0]
        assert shown != truth
        assert "@" not in shown, "the older policy came back"
        with pytest.raises(DeniedError):
            client.execute("SELECT pan FROM cards WHERE id = 1")
        client.disconnect()


def _real_key(story: Story, system: str) -> SigningKey:
    data = story.kubectl.get("-n", system, "secret", "sluice-signing")["data"]
    return SigningKey.load(base64.b64decode(data["present.pem"]))


def _wrong_key(files: Files, real: SigningKey) -> Files:
    del real
    return forging.signed(forging.altered(files), SigningKey.generate())


def _wrong_key_under_the_right_name(files: Files, real: SigningKey) -> Files:
    return forging.signed(forging.altered(files), SigningKey.generate(), key_id=real.key_id)


def _by_the_public_key(files: Files, real: SigningKey) -> Files:
    return forging.signed_by_public_key(forging.altered(files), real.key_id, real.public_pem)


def _unsigned(files: Files, _: SigningKey) -> Files:
    return {k: v for k, v in forging.altered(files).items() if k != forging.SIGNATURES}


def _altered(files: Files, _: SigningKey) -> Files:
    return forging.altered(files)


def _without_manifest(files: Files, real: SigningKey) -> Files:
    return forging.signed({k: v for k, v in files.items() if k != forging.MANIFEST}, real)


def _delta(files: Files, real: SigningKey) -> Files:
    return forging.signed({**files, "patch.json": b'{"data": []}'}, real)


FORGERIES: list[tuple[Callable[[Files, SigningKey], Files], str]] = [
    (_altered, "is not what was signed"),
    (_unsigned, "is not signed"),
    (_wrong_key, "is not trusted here"),
    (_wrong_key_under_the_right_name, "signature does not hold"),
    (_by_the_public_key, "signature does not hold"),
    (_without_manifest, "no .manifest"),
    (_delta, "delta bundles are not taken"),
]


@pytest.mark.parametrize(
    ("forge", "reason"), FORGERIES, ids=[forge.__name__[1:] for forge, _ in FORGERIES]
)
def test_forged_bundle_is_refused_and_the_last_good_one_stays(
    story: Story,
    system: str,
    history: History,
    forge: Callable[[Files, SigningKey], Files],
    reason: str,
):
    before = len(_log(story, "bundle refused"))
    history.offer(story, forge(_files(history.new), _real_key(story, system)))
    refused = until(lambda: _log(story, "bundle refused")[before:], within_s=30)
    assert reason in refused[0]
    _policy_stays(story, history.client)


@pytest.mark.parametrize("which", ["old", "foreign"])
def test_older_and_foreign_signed_bundles_are_refused_under_a_higher_number(
    story: Story, history: History, which: str
):
    """Both are signed by the right key: what tells them is inside the signature."""
    reason = {"old": "is not above the highest", "foreign": "is for the profile"}[which]
    stored = {"old": history.old, "foreign": history.foreign}[which]
    before = len(_log(story, "bundle refused"))
    history.offer(story, _files(stored))
    refused = until(lambda: _log(story, "bundle refused")[before:], within_s=30)
    assert reason in refused[0]
    _policy_stays(story, history.client)


def test_replicas_that_forgot_cannot_serve_an_older_bundle(
    story: Story, system: str, history: History
):
    """All replicas are new and find the older bundle alone, under its own number; the sidecar knows better."""
    history.offer(story, _files(history.old), sequence=_number(history.old))
    story.kubectl("-n", system, "rollout", "restart", "deployment/sluice-bundles")
    story.kubectl.rollout(system, "deployment/sluice-bundles")
    until(lambda: _log(story, "older bundle passed over"), within_s=60)
    _policy_stays(story, history.client)
    assert story.restarts("desk") == 0


def test_next_bundle_of_the_controller_is_taken(story: Story, system: str, history: History):
    story.kubectl("-n", system, "scale", "deployment/sluice-controller", "--replicas=2")
    story.kubectl.rollout(system, "deployment/sluice-controller")
    story.kubectl.apply(story.policy())
    client = history.client
    truth = story.server.psql(QUERY)[0][0]
    shown = until(lambda: [row for row in client.execute(QUERY) if "@" in row[0]], within_s=60)
    assert shown[0][0] != truth
    # Numbers grow, also over what was put in the place of the newest.
    assert _number(_stored(story, system, "desk")) > _number(history.new)


def test_no_event_names_an_older_policy_after_a_newer_one(story: Story):
    events = [json.loads(line) for line in _log(story, '"audit"', '"begin"')]
    numbers = [event["statement"]["sequence"] for event in events if event["kind"] == "begin"]
    assert len(set(numbers)) >= 3
    assert numbers == sorted(numbers)
