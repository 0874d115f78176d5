"""The bundle service as sidecars see it, against a real API server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import jsonschema
import pytest

from sluice_operator.bundle_names import bundle_name

CONTRACT = Path(__file__).parents[3] / "operator" / "contract"
REVISION = "a" * 64


def schema(name: str) -> dict[str, object]:
    return json.loads((CONTRACT / f"{name}.schema.json").read_text())


def refusal(answer) -> tuple[int, str]:
    status, _, body = answer
    document = json.loads(body)
    assert set(document) == {"error", "reason"}
    return status, document["reason"]


def status_of(service, **changes) -> dict[str, object]:
    return {
        "contract": 1,
        "profile": service.profile,
        "sequence": 3,
        "revision": REVISION,
        "ready": True,
        "problems": [],
        "denials": [],
    } | changes


async def test_identity_is_what_the_webhook_wrote_and_asks_once_for_each_token(service):
    pod = await service.pod("desk-0")
    token = await service.token(pod)
    answers = await asyncio.gather(*(service.ask("/v1/identity", token) for _ in range(20)))
    assert {status for status, _, _ in answers} == {200}
    identity = json.loads(answers[0][2])
    jsonschema.validate(identity, schema("identity"))
    assert identity["profile"] == service.profile
    assert identity["podUid"] == pod["metadata"]["uid"]
    assert identity["labels"] == {"team": "support"}
    assert service.replica.callers.reviews == 1


async def test_tokens_that_are_not_this_services_get_nothing(service):
    pod = await service.pod("desk-0")
    gone = await service.pod("desk-1")
    late = await service.token(gone)
    await service.delete_pod("desk-1")
    tokens = [
        None,
        "x",
        "a.b.c",
        await service.token(pod, audience="other"),
        await service.token(pod, audience=None),
        await service.token(None),
        late,
    ]
    await service.publish(b"bundle", 1)
    for token in tokens:
        for path in ("/v1/identity", "/v1/bundle"):
            assert refusal(await service.ask(path, token)) == (401, "TokenInvalid")
    reviews = service.replica.callers.reviews
    for token in tokens:  # Refused ones are not asked for again at once.
        assert refusal(await service.ask("/v1/identity", token)) == (401, "TokenInvalid")
    assert service.replica.callers.reviews == reviews


async def test_pod_that_was_not_injected_or_whose_annotations_do_not_fit_is_refused(service):
    other = json.dumps({"serviceAccount": "other", "labels": {"team": "support"}})
    labels = json.dumps({"serviceAccount": "desk", "labels": {"team": "payments"}})
    for number, changes in enumerate(
        [
            {"injected": None},
            {"profile": f"{service.tenant}/desk/000000000000"},
            {"identity": other},
            {"identity": labels},
            {"identity": "{"},
            {"identity": None},
        ]
    ):
        pod = await service.pod(f"desk-{number}", **changes)
        token = await service.token(pod)
        assert refusal(await service.ask("/v1/bundle", token)) == (403, "NotGoverned"), changes


async def test_deleted_pod_and_expired_token_end_at_once_even_in_a_poll(service, eventually):
    await service.publish(b"one", 1)
    pod = await service.pod("desk-0")
    token = await service.token(pod)
    _, headers, _ = await service.poll(token)
    waiting = asyncio.create_task(service.poll(token, headers["ETag"]))
    await eventually(lambda: service.replica.shelf.polls == 1)
    await service.delete_pod("desk-0")
    await eventually(lambda: len(service.replica.callers) == 0)
    await service.publish(b"two", 2)
    assert refusal(await waiting) == (401, "TokenInvalid")
    assert refusal(await service.poll(token)) == (401, "TokenInvalid")

    again = await service.pod("desk-0")
    fresh = await service.token(again, seconds=600)
    assert (await service.poll(fresh))[0] == 200
    service.clock_ahead_s = 700
    assert refusal(await service.poll(fresh)) == (401, "TokenInvalid")


async def test_poll_waits_for_the_first_bundle_and_for_the_next(service, eventually):
    token = await service.token(await service.pod("desk-0"))
    first = asyncio.create_task(service.poll(token))
    await eventually(lambda: service.replica.shelf.polls == 1)
    await service.publish(b"one", 7)
    status, headers, body = await first
    assert (status, body) == (200, b"one")
    assert headers["Content-Type"] == "application/vnd.openpolicyagent.bundles"
    etag = headers["ETag"]
    assert etag.startswith('"7-')
    status, headers, body = await service.poll(token, etag, seconds=1)
    assert (status, body, headers["ETag"]) == (304, b"", etag)
    second = asyncio.create_task(service.poll(token, etag))
    await eventually(lambda: service.replica.shelf.polls == 1)
    large = bytes(range(256)) * 3000
    await service.publish(large, 8)
    status, headers, body = await second
    assert (status, body) == (200, large)
    assert headers["ETag"].startswith('"8-')


async def test_older_bundle_is_never_served(service, eventually):
    token = await service.token(await service.pod("desk-0"))
    await service.publish(b"nine", 9)
    _, headers, _ = await service.poll(token)
    await service.publish(b"eight", 8)
    assert (await service.poll(token, headers["ETag"], seconds=1))[0] == 304
    assert (await service.poll(token))[2] == b"nine"
    # Nor when the ConfigMap was lost in between.
    before = service.replica.shelf.profiles
    path = f"/api/v1/namespaces/{service.namespace}/configmaps/{bundle_name(service.profile)}"
    await service.kube.delete(path)
    await eventually(lambda: service.replica.shelf.profiles == before - 1)
    await service.publish(b"eight", 8)
    assert (await service.poll(token, seconds=1))[0] == 304
    await service.publish(b"ten", 10)
    assert (await service.poll(token))[2] == b"ten"


async def test_only_its_own_profile_is_served(service):
    token = await service.token(await service.pod("desk-0"))
    await service.publish(b"theirs", 50, profile="other/other/0123456789ab")
    assert (await service.poll(token, seconds=1))[0] == 304
    await service.publish(b"ours", 1)
    assert (await service.poll(token))[2] == b"ours"


DENIAL = {
    "database": "shop/shop",
    "policy": "shop/support",
    "rule": "read",
    "message": "Denied by rule read.",
    "count": 4,
}
PROBLEM = {"database": "shop/shop", "message": "its catalog could not be read"}
NEWEST = {"sequence": 4, "revision": "b" * 64, "message": "no such function"}
COLUMNS = {"classified": 1, "unreviewed": 2}
GOOD = {"name": "shop/shop", "reachable": True, "columns": COLUMNS, "drift": []}
AWAY = {"name": "shop/shop", "reachable": False, "message": "no route"}
BEHIND = {
    "database": "",
    "message": "newest bundle: signed by the key 'k3', which is not trusted",
}


async def test_status_reaches_the_controllers_report(service, eventually):
    pods = [await service.pod(f"desk-{number}") for number in range(4)]
    tokens = [await service.token(pod) for pod in pods]
    documents = [
        status_of(service, sequence=3, failed=NEWEST, databases=[GOOD]),
        status_of(service, sequence=3, denials=[DENIAL], failed=NEWEST),
        status_of(service, sequence=2, problems=[PROBLEM], databases=[AWAY]),
        status_of(service, sequence=3, problems=[BEHIND]),
    ]
    for token, document in zip(tokens, documents, strict=True):
        jsonschema.validate(document, schema("status"))
        answer = await service.ask("/v1/status", token, "POST", json=document)
        assert answer[0] == 204

    async def complete():
        report = await service.report()
        return (
            report
            if sum(report.get("profiles", {}).get(service.profile, {}).values()) == 4
            else None
        )

    report = await eventually(complete)
    assert report["contract"] == 1
    assert report["profiles"] == {service.profile: {"3": 2, "2": 1, "0": 1}}
    assert [one["pod"] for one in report["problems"] if not one["database"]] == ["desk-3"]
    assert [one for one in report["problems"] if one["database"]] == [
        {
            "profile": service.profile,
            "namespace": service.tenant,
            "pod": "desk-2",
            "policies": [],
            **PROBLEM,
        }
    ]
    (failed,) = report["failed"]
    assert (failed["sequence"], failed["count"], failed["message"]) == (4, 2, "no such function")
    (found,) = report["databases"]
    assert (found["reachable"], found["unreachable"], found["message"]) == (1, 1, "no route")
    assert found["columns"] == COLUMNS
    [told] = report["denials"]
    assert told.pop("n") > 0
    assert told == {"namespace": service.tenant, "pod": "desk-1", **DENIAL}
    await service.delete_pod("desk-0")

    async def less():
        return (await service.report())["profiles"] == {service.profile: {"3": 1, "2": 1, "0": 1}}

    await eventually(less)


async def test_status_that_does_not_keep_the_contract_is_refused_by_field(service):
    token = await service.token(await service.pod("desk-0"))
    for changes, status, reason in [
        ({"sequence": 0}, 422, "BadRequest"),
        ({"statement": "SELECT 1"}, 422, "BadRequest"),
        ({"profile": "other/other/0123456789ab"}, 403, "NotGoverned"),
        ({"problems": [{"database": "", "message": "x" * 300_000}]}, 413, "TooLarge"),
    ]:
        document = status_of(service, **changes)
        answer = await service.ask("/v1/status", token, "POST", json=document)
        assert refusal(answer) == (status, reason)
    good = status_of(service)
    answers = [await service.ask("/v1/status", token, "POST", json=good) for _ in range(2)]
    assert answers[0][0] == 204
    assert refusal(answers[1]) == (429, "TooManyRequests")
    assert answers[1][1]["Retry-After"] == "1"


async def test_new_certificate_is_shown_without_a_restart(service, new_certificate, eventually):
    token = await service.token(await service.pod("desk-0"))
    waiting = asyncio.create_task(service.poll(token, seconds=20))
    await eventually(lambda: service.replica.shelf.polls == 1)
    fresh = new_certificate()
    await service.put_certificate({"tls.crt": b"broken", "tls.key": b"broken"})
    await eventually(lambda: service.replica.certificate.problem)
    assert service.replica.not_ready() is None
    await service.put_certificate(fresh)
    await eventually(lambda: service.replica.certificate.problem is None)
    async with service.trusting(fresh) as http, http.get(f"{service.url}/v1/identity") as answer:
        assert answer.status == 401
    await service.publish(b"over the old connection", 1)
    assert (await waiting)[2] == b"over the old connection"


async def test_api_server_away_known_tokens_go_on_and_unknown_ones_are_told_to_wait(
    service, api_server
):
    await service.publish(b"one", 1)
    pod = await service.pod("desk-0")
    known, unknown = await service.token(pod), await service.token(pod)
    _, headers, _ = await service.poll(known)
    api_server.halt()
    try:
        assert (await service.poll(known))[2] == b"one"
        answer = await service.ask("/v1/bundle", unknown)
        assert refusal(answer) == (503, "Unavailable")
        assert answer[1]["Retry-After"] == "1"
    finally:
        api_server.resume()  # In this thread: with its parent's end the program would end too.
    waiting = asyncio.create_task(service.poll(known, headers["ETag"], seconds=30))
    await service.publish(b"two", 2)
    assert (await waiting)[2] == b"two"


async def test_end_answers_polls_at_once_and_takes_its_report_along(service, eventually):
    token = await service.token(await service.pod("desk-0"))
    await service.ask("/v1/status", token, "POST", json=status_of(service))
    await eventually(service.report)
    waiting = asyncio.create_task(service.poll(token, seconds=60))
    await eventually(lambda: service.replica.shelf.polls == 1)
    async with asyncio.timeout(5):
        await service.replica.stop()
        status, headers, _ = await waiting
    assert (status, headers["Connection"]) == (304, "close")
    assert await service.report() == {}


async def test_health_and_metrics_are_plain_http_on_their_own_port(service):
    base = f"http://127.0.0.1:{service.replica.health_port}"
    async with aiohttp.ClientSession() as http:
        for path in ("/healthz", "/readyz"):
            async with http.get(f"{base}{path}") as answer:
                assert answer.status == 200
        async with http.get(f"{base}/metrics") as answer:
            assert "sluice_bundles_token_reviews_total 0.0" in await answer.text()


async def test_plain_http_is_not_spoken(service):
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientError):
            await http.get(f"http://127.0.0.1:{service.replica.port}/v1/identity")
