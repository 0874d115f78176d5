"""Who gets a policy from the bundle service: a governed pod with its own live token, nobody else."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest

from sluice_dev.installation import is_local, service_account_key
from sluice_dev.kubectl import until
from sluice_dev.story import Story

ASK = """
import json, ssl, sys, urllib.request, urllib.error
url, trust, token = sys.argv[1:4]
context = ssl.create_default_context(cadata=trust)
request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
try:
    with urllib.request.urlopen(request, timeout=20, context=context) as answer:
        body = answer.read()
        kind = answer.headers["Content-Type"]
        text = body.decode() if kind.startswith("application/json") else ""
        print(json.dumps({"status": answer.status, "type": kind,
                          "etag": answer.headers["ETag"], "body": json.loads(text) if text else None}))
except urllib.error.HTTPError as error:
    print(json.dumps({"status": error.code, "body": json.loads(error.read() or b"{}")}))
"""


@pytest.fixture(scope="module")
def story(story: Story) -> Story:
    story.kubectl.apply(story.pod("one"), story.pod("two"), story.pod("free", governed=False))
    for name in ("one", "two", "free"):
        story.wait_ready(name)
    return story


def _token(story: Story, pod: str | None, *, audience: str = "sluice") -> str:
    bound = ["--bound-object-kind=Pod", f"--bound-object-name={pod}"] if pod else []
    return story.kubectl(
        "-n",
        story.namespace,
        "create",
        "token",
        "desk",
        f"--audience={audience}",
        "--duration=10m",
        *bound,
    ).strip()


def _ask(story: Story, system: str, path: str, token: str) -> dict[str, object]:
    trust = story.kubectl.get("-n", system, "configmap", "sluice-trust")["data"]["ca.pem"]
    url = f"https://sluice-bundles.{system}.svc{path}"
    out = story.kubectl(
        "-n",
        story.namespace,
        "exec",
        "free",
        "-c",
        "app",
        "--",
        "python",
        "-c",
        ASK,
        url,
        trust,
        token,
    )
    return json.loads(out)


def test_governed_pod_gets_its_identity_and_bundle(story: Story, system: str):
    token = _token(story, "one")
    identity = _ask(story, system, "/v1/identity", token)
    assert identity["status"] == 200
    body = identity["body"]
    assert isinstance(body, dict)
    assert (body["namespace"], body["serviceAccount"], body["pod"]) == (
        story.namespace,
        "desk",
        "one",
    )
    bundle = _ask(story, system, "/v1/bundle", token)
    assert (bundle["status"], bundle["type"]) == (200, "application/vnd.openpolicyagent.bundles")
    assert bundle["etag"]


def test_token_speaks_for_its_own_pod_only(story: Story, system: str):
    body = _ask(story, system, "/v1/identity", _token(story, "two"))["body"]
    assert isinstance(body, dict)
    assert body["pod"] == "two"


def test_no_token_other_audience_and_forged_token_get_nothing(story: Story, system: str):
    token = _token(story, "one")
    head, claims, signature = token.split(".")
    forged = f"{head}.{claims}.{'A' * len(signature)}"
    for bad in (
        "",
        "nonsense",
        forged,
        _token(story, "one", audience="https://kubernetes.default.svc"),
    ):
        for path in ("/v1/identity", "/v1/bundle"):
            answer = _ask(story, system, path, bad)
            assert answer["status"] == 401, answer
            assert isinstance(answer["body"], dict)
            assert answer["body"]["reason"] == "TokenInvalid"


def test_token_without_pod_or_of_an_ungoverned_pod_gets_nothing(story: Story, system: str):
    assert _ask(story, system, "/v1/bundle", _token(story, None))["status"] in {401, 403}
    answer = _ask(story, system, "/v1/bundle", _token(story, "free"))
    assert answer["status"] == 403, answer
    assert isinstance(answer["body"], dict)
    assert answer["body"]["reason"] == "NotGoverned"


def _short_lived(genuine: str, seconds: float) -> str:
    """The API server's own token, by its own key, for a shorter time than it grants to anybody (10 minutes)."""
    head = jwt.get_unverified_header(genuine)
    claims: dict[str, Any] = jwt.decode(genuine, options={"verify_signature": False})
    now = time.time()
    claims |= {"iat": int(now) - 1, "nbf": int(now) - 1, "exp": int(now + seconds)}
    key = service_account_key().read_text()
    return jwt.encode(claims, key, algorithm=head["alg"], headers={"kid": head["kid"]})


@pytest.mark.timeout(900)
def test_expired_token_gets_nothing(story: Story, system: str):
    """One that the service has answered before, and one that it sees for the first time when it is over."""
    genuine = _token(story, "one")
    if is_local():
        known, unseen, wait_s = _short_lived(genuine, 20), _short_lived(genuine, 10), 20.0
    else:  # Nobody else's key is ours to use: the shortest token that there is.
        known, unseen, wait_s = genuine, _token(story, "one"), 601.0
    ends = time.monotonic() + wait_s
    assert _ask(story, system, "/v1/bundle", known)["status"] == 200
    assert time.monotonic() < ends, "the machine is too slow for this"
    time.sleep(max(0.0, ends + 1 - time.monotonic()))
    for token in (known, unseen):
        for path in ("/v1/identity", "/v1/bundle"):
            answer = _ask(story, system, path, token)
            assert answer["status"] == 401, answer
            assert isinstance(answer["body"], dict)
            assert answer["body"]["reason"] == "TokenInvalid"
            assert "expired" in answer["body"]["error"]


def test_token_of_a_deleted_pod_gets_nothing(story: Story, system: str):
    token = _token(story, "two")
    assert _ask(story, system, "/v1/bundle", token)["status"] == 200
    story.kubectl("-n", story.namespace, "delete", "pod", "two", "--grace-period=0", "--force")
    until(lambda: _ask(story, system, "/v1/bundle", token)["status"] == 401, within_s=30)
