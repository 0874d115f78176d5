"""What the bundle client takes and what it refuses (docs/threat-model: rollback, replay, signatures)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_proxy.bundles import BundleClient, BundleRefusedError, BundleServer, verify_bundle
from sluice_proxy.bundles.server import CONTENT_TYPE, parse_go_time
from sluice_proxy.loopback import LoopbackFiles, listen


class NoSource:
    async def next(self, after_sequence: int | None) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError(after_sequence)


def client_of(making, directory: Path) -> BundleClient:
    return BundleClient(
        directory=directory, profile=making.profile, keys=making.signer.keys, source=NoSource()
    )


def check(making, raw: bytes, reason: str) -> None:
    with pytest.raises(BundleRefusedError, match=reason):
        verify_bundle(raw, keys=making.signer.keys, profile=making.profile)


def test_signed_bundle_is_taken(making):
    bundle = verify_bundle(making.signer.bundle(7), keys=making.signer.keys, profile=making.profile)
    assert bundle.sequence == 7
    assert bundle.max_policy_age_s == 86400


def test_next_key_is_taken_while_keys_are_rotated(making):
    following = making.Signer(key_id="k2")
    both = making.signer.keys | following.keys
    assert verify_bundle(following.bundle(1), keys=both, profile=making.profile).sequence == 1


def test_unsigned_bundle_is_refused(making):
    check(making, making.archive(making.signer.contents(1)), "not signed")


def test_wrong_key_is_refused(making):
    check(making, making.Signer().bundle(1), "does not hold")


def test_unknown_key_id_is_refused(making):
    check(making, making.Signer(key_id="other").bundle(1), "not trusted")


def test_hs256_with_the_public_key_as_secret_is_refused(making):
    contents = making.signer.contents(1)
    listed = [
        {"name": name, "algorithm": "SHA-256", "hash": hashlib.sha256(body).hexdigest()}
        for name, body in contents.items()
    ]
    head = {"alg": "HS256", "kid": making.signer.key_id}
    # PyJWT itself refuses to sign so; an attacker does not.
    signing = ".".join(
        jwt.utils.base64url_encode(json.dumps(part).encode()).decode()
        for part in (head, {"files": listed})
    )
    mac = hmac.new(making.signer.public_pem.encode(), signing.encode(), hashlib.sha256).digest()
    token = f"{signing}.{jwt.utils.base64url_encode(mac).decode()}"
    check(making, making.archive(contents | making.signatures(token)), "does not hold")


def test_alg_none_is_refused(making):
    contents = making.signer.contents(1)
    token = jwt.encode({"files": []}, None, algorithm="none", headers={"kid": "k1"})
    check(making, making.archive(contents | making.signatures(token)), "does not hold")


def test_file_that_the_signature_does_not_cover_is_refused(making):
    contents = making.signer.contents(1)
    token = making.signer.token(contents)
    extra = {"sluice/extra.rego": b"package sluice.extra\n"}
    check(making, making.archive(contents | extra | making.signatures(token)), "does not cover")


def test_manifest_that_the_signature_does_not_cover_is_refused(making):
    contents = making.signer.contents(1)
    token = making.signer.token({k: v for k, v in contents.items() if k != ".manifest"})
    check(making, making.archive(contents | making.signatures(token)), "does not cover .manifest")


def test_missing_manifest_is_refused(making):
    contents = making.signer.contents(1)
    del contents[".manifest"]
    token = making.signer.token(contents)
    check(making, making.archive(contents | making.signatures(token)), "no .manifest")


def test_missing_signed_file_is_refused(making):
    contents = making.signer.contents(1)
    token = making.signer.token(contents)
    del contents["sluice/statement.rego"]
    check(making, making.archive(contents | making.signatures(token)), "lacks sluice/statement")


@pytest.mark.parametrize("name", ["data.json", "sluice/session.rego", ".manifest"])
def test_changed_file_is_refused(making, name):
    contents = making.signer.contents(1)
    token = making.signer.token(contents)
    contents[name] = contents[name].replace(b"sluice", b"slUice", 1)
    check(making, making.archive(contents | making.signatures(token)), "is not what was signed")


def test_delta_bundle_is_refused(making):
    raw = making.archive({"patch.json": b'{"data": []}', ".manifest": b"{}"})
    check(making, raw, "delta")


def test_foreign_profile_is_refused(making):
    check(making, making.signer.bundle(1, metadata={"profile": "other"}), "profile 'other'")


def test_other_contract_is_refused(making):
    check(making, making.signer.bundle(1, metadata={"contract": 2}), "contract 2")


@pytest.mark.parametrize("roots", [[""], ["sluice"], ["sluice", "sluice_data", "system"]])
def test_other_roots_are_refused(making, roots):
    check(making, making.signer.bundle(1, manifest={"roots": roots}), "roots")


def test_two_signatures_are_refused(making):
    contents = making.signer.contents(1)
    token = making.signer.token(contents)
    check(making, making.archive(contents | making.signatures(token, token)), "exactly one")


def test_archive_bomb_is_refused(making):
    raw = making.archive({"data.json": b"0" * (257 << 20)})
    check(making, raw, "unpacks to more")


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_any_bytes_are_refused_cleanly(raw):
    with pytest.raises(BundleRefusedError):
        verify_bundle(raw, keys={}, profile="p")


def test_archive_that_breaks_off_inside_is_refused(making):
    raw = making.signer.bundle(1)
    half = raw[: len(raw) // 2]
    for broken in (half, half + raw, raw[:20] + bytes(64) + raw[84:]):
        check(making, broken, "no gzip archive")


def test_lower_sequence_is_refused_and_last_good_stays(making, tmp_path):
    client = client_of(making, tmp_path)
    client.accept(making.signer.bundle(5))
    for sequence in (5, 4):
        with pytest.raises(BundleRefusedError, match="not above"):
            client.accept(making.signer.bundle(sequence))
    assert client.offered is not None
    assert client.offered.sequence == 5
    assert client.counts.refused == 2
    assert client.refusal is not None


def test_sequence_is_remembered_over_a_restart(making, tmp_path):
    client_of(making, tmp_path).accept(making.signer.bundle(5))
    again = client_of(making, tmp_path)
    again.load()
    assert again.offered is not None
    assert again.offered.sequence == 5
    with pytest.raises(BundleRefusedError, match="not above"):
        again.accept(making.signer.bundle(4))


def test_older_bundle_put_in_place_of_the_stored_one_is_passed_over(making, tmp_path):
    client_of(making, tmp_path).accept(making.signer.bundle(5))
    (tmp_path / "last-good.tar.gz").write_bytes(making.signer.bundle(4))
    again = client_of(making, tmp_path)
    again.load()
    assert again.offered is None
    assert again.sequence_seen == 5


def test_bundle_past_its_age_is_refused(making, tmp_path):
    issued = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    raw = making.signer.bundle(1, metadata={"issued_at": issued, "max_policy_age_s": 3600})
    with pytest.raises(BundleRefusedError, match="longer ago"):
        client_of(making, tmp_path).accept(raw)


def test_bundle_is_in_force_only_when_opa_reports_it(making, tmp_path):
    client = client_of(making, tmp_path)
    seen = []
    client.on_activated(seen.append)
    bundle = client.accept(making.signer.bundle(1))
    assert client.in_force is None
    client.reported(bundle.revision, datetime.now(UTC) - timedelta(minutes=1))
    client.reported("another", datetime.now(UTC))
    assert client.in_force is None
    client.reported(bundle.revision, datetime.now(UTC))
    assert client.in_force is bundle
    assert seen == [bundle]


async def test_server_wants_its_token_and_answers_long_polls(making, tmp_path):
    client = client_of(making, tmp_path)
    server = BundleServer(client, tmp_path)
    await server.start()
    context = ssl.create_default_context(cafile=str(server.ca_path))
    token = {"Authorization": f"Bearer {server.token_path.read_text()}"}
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
            url = f"{server.url}/v1/bundle"
            async with http.get(url) as answer:
                assert answer.status == 401
            first = client.accept(making.signer.bundle(1))
            async with http.get(url, headers=token) as answer:
                assert answer.headers["Content-Type"] == CONTENT_TYPE
                assert answer.headers["ETag"] == first.etag
                assert await answer.read() == first.raw
            waiting = token | {"If-None-Match": first.etag, "Prefer": "modes=snapshot,delta;wait=1"}
            async with http.get(url, headers=waiting) as answer:
                assert answer.status == 304
            polled = asyncio.create_task(http.get(url, headers=waiting))
            await asyncio.sleep(0.05)
            second = client.accept(making.signer.bundle(2))
            async with await polled as answer:
                assert await answer.read() == second.raw
    finally:
        await server.stop()


async def test_poll_from_before_the_start_is_answered_by_the_first_bundle(making, tmp_path):
    LoopbackFiles(tmp_path).make()
    listener = listen(0)
    assert not listener.get_inheritable()
    port = listener.getsockname()[1]
    with pytest.raises(OSError, match=f"while attempting to bind on address .*{port}"):
        listen(port)
    client = client_of(making, tmp_path)
    server = BundleServer(client, tmp_path, port=port, listener=listener)
    context = ssl.create_default_context(cafile=str(server.ca_path))
    headers = {
        "Authorization": f"Bearer {server.token_path.read_text()}",
        "Prefer": "modes=snapshot,delta;wait=30",
    }
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
        polled = asyncio.create_task(
            http.get(f"https://127.0.0.1:{port}/v1/bundle", headers=headers)
        )
        await asyncio.sleep(0.1)
        await server.start()
        try:
            await asyncio.sleep(0.1)
            assert not polled.done()
            bundle = client.accept(making.signer.bundle(1))
            async with asyncio.timeout(1), await polled as answer:
                assert await answer.read() == bundle.raw
        finally:
            await server.stop()
    assert listener.fileno() == -1


def test_go_times_are_read():
    moment = parse_go_time("2026-01-02T03:04:05.123456789Z")
    assert moment == datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)
    assert parse_go_time("2026-01-02T03:04:05Z").microsecond == 0
    assert parse_go_time("2026-01-02T03:04:05.5+01:00").hour == 3
