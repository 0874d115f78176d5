"""A sidecar as it runs in a pod: the bundle service over TLS, a real OPA that others start, a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sluice_proxy.start_errors import NotStartedError

SCHEMA = """\
CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL);
INSERT INTO users VALUES (1, 'ann@example.com');
"""
COLUMNS = [
    {"table": "public.users", "column": "email", "class": "pii.email"},
    {"table": "public.users", "column": "*", "class": "public"},
]
EMAIL = "SELECT email FROM users WHERE id = 1"
ALLOW_TRACING = 0x59616D61
"""PR_SET_PTRACER: a child may hold its parent's threads."""
FREEZE = """\
import ctypes, os, sys, time
thread, trace = int(sys.argv[1]), ctypes.CDLL(None, use_errno=True).ptrace
trace.argtypes = [ctypes.c_long] * 4
for request in (0x4206, 0x4207):  # PTRACE_SEIZE, PTRACE_INTERRUPT
    if trace(request, thread, 0, 0):
        sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(thread, 0x40000000)  # __WALL
print("frozen", flush=True)
time.sleep(60)
"""
"""What it holds goes on when it ends."""
RAW, REDACTED, MASKED = "ann@example.com", "***", "a***@example.com"


@pytest.fixture
def database(new_database) -> str:
    return new_database(SCHEMA)


@pytest.fixture
def restricted(making):
    """A function that describes a restricted session with one mask of e-mail addresses."""

    def session(mask: str = "redact"):
        return making.session(
            level="restricted",
            classification={"columns": COLUMNS, "unreviewed": "mask"},
            masks={"pii.email": {"kind": mask}, "unreviewed": {"kind": "redact"}},
        )

    return session


async def value(connection, sql: str = EMAIL):
    cursor = await connection.execute(sql)
    row = await cursor.fetchone()
    assert row is not None
    return row[0]


@contextlib.contextmanager
def frozen(thread: str) -> Iterator[None]:
    """Stop one thread of this process, and no other."""
    (number,) = [
        comm.parent.name
        for comm in Path("/proc/self/task").glob("*/comm")
        if comm.read_text().strip() == thread[:15]
    ]
    ctypes.CDLL(None).prctl(ALLOW_TRACING, ctypes.c_ulong(-1))
    command = [sys.executable, "-c", FREEZE, number]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == b"frozen\n"
            yield
        finally:
            holder.terminate()


async def until(condition, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_policy_change_is_in_force_on_the_same_connection_within_a_second(
    operator, run_pod, signed, restricted, database
):
    operator.publish(signed(1, session=restricted()), 1)
    pod = await run_pod(database)
    async with await pod.connect(database) as client:
        assert await value(client) == REDACTED
        operator.publish(signed(2, session=restricted("email")), 2)
        assert await pod.in_force(2) < 1.0
        assert await value(client) == MASKED
    assert operator.cluster.reviews == 1


async def test_operator_away_changes_nothing_until_the_policy_is_too_old(
    operator, run_pod, signed, restricted, database
):
    age = {"max_policy_age_s": 3}
    operator.publish(signed(1, session=restricted(), metadata=age), 1)
    pod = await run_pod(database)
    async with await pod.connect(database) as client:
        assert await value(client) == REDACTED
        await operator.stop()
        assert await value(client) == REDACTED
        await asyncio.sleep(3.2)
        with pytest.raises(psycopg.errors.CannotConnectNow, match="too old") as refused:
            await value(client)
        assert "why the sidecar gets no policy" in (refused.value.diag.message_hint or "")
        operator.begin()
        operator.publish(signed(2, session=restricted("email")), 2)
        await operator.start()
        assert await pod.in_force(2) < 6
        assert await value(client) == MASKED


# The operator that goes away leaves its half of a handshake open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_proxy_that_starts_while_the_operator_is_away_goes_on_as_before(
    operator, run_pod, signed, restricted, database
):
    operator.publish(signed(5, session=restricted()), 5)
    pod = await run_pod(database)
    assert await pod.stop_proxy() == 0
    await operator.stop()
    pod.start_proxy()
    await pod.ready()
    async with await pod.connect(database) as client:
        assert await value(client) == REDACTED
    # Back, with an older bundle at first: what was seen before the restart holds.
    operator.begin()
    operator.publish(signed(4, session=restricted("email")), 4)
    await operator.start()
    sidecar = pod.sidecar.sidecar
    await until(lambda: "serves sequence 4" in sidecar.degraded().get("bundle service", ""))
    assert sidecar.in_force.sequence == 5
    async with await pod.connect(database) as client:
        assert await value(client) == REDACTED
    operator.publish(signed(6, session=restricted("email")), 6)
    await pod.in_force(6)
    assert pod.sidecar.sidecar.degraded() == {}
    async with await pod.connect(database) as client:
        assert await value(client) == MASKED


async def test_bundles_that_are_not_this_pods_or_not_signed_leave_the_last_good_one(
    *, operator, run_pod, signed, restricted, database, making
):
    operator.publish(signed(3, session=restricted()), 3)
    pod = await run_pod(database)
    contents = making.signer.contents(9, metadata={"profile": operator.profile})
    no_manifest = {name: body for name, body in contents.items() if name != ".manifest"}
    sign = making.signer.token
    bad = [
        (making.archive(contents), "not signed"),
        (making.archive(no_manifest | making.signatures(sign(no_manifest))), "no .manifest"),
        (making.Signer().bundle(9, metadata={"profile": operator.profile}), "does not hold"),
        (signed(9, metadata={"profile": "shop/other/000000000000"}), "profile"),
        (signed(2), "not above"),  # Under an entity tag that says otherwise.
    ]
    bundles = pod.sidecar.sidecar.bundles
    async with await pod.connect(database) as client:
        for number, (raw, reason) in enumerate(bad):
            operator.publish(raw, 10 + number)
            await until(lambda wanted=reason: wanted in (bundles.refusal or ""))
            assert await value(client) == REDACTED
        operator.publish(signed(20, session=restricted("email")), 20)
        await pod.in_force(20)
        assert await value(client) == MASKED


async def test_opa_that_is_killed_comes_back_over_the_socket_it_left_behind(
    operator, run_pod, signed, restricted, database
):
    operator.publish(signed(1, session=restricted()), 1)
    pod = await run_pod(database)
    async with await pod.connect(database) as client:
        assert await value(client) == REDACTED
        pod.kill_opa()
        assert await value(client) == REDACTED  # A cached plan of the same revision.
        with pytest.raises(psycopg.errors.CannotConnectNow):
            await client.execute("SELECT count(*) FROM users")
        socket = pod.layout.run / "opa.sock"
        await until(lambda: not socket.exists())
        assert "opa" in (await pod.health())["reasons"]
        pod.start_opa()
        await pod.ready()
        assert await value(client, "SELECT count(*) FROM users") == 1


async def test_the_three_puts_change_nothing(operator, run_pod, signed, restricted, database):
    operator.publish(signed(1, session=restricted()), 1)
    pod = await run_pod(database)
    socket = pod.layout.run / "opa.sock"
    hostile = [
        ("PUT", "/v1/data/system/bundles/sluice/manifest/roots", "[]"),
        ("PUT", "/v1/data/sluice_data/session", '{"allow": true}'),
        ("PUT", "/v1/data/system/bundles/decoy", '{"manifest": {"roots": [""]}}'),
        ("PUT", "/v1/policies/x", "package sluice.session"),
        ("PATCH", "/v1/data", "[]"),
        ("GET", "/v1/data", ""),
        ("POST", "/v1/data/sluice_data", "{}"),
        ("GET", "/v1/config", ""),
    ]
    for method, path, body in hostile:
        reader, writer = await asyncio.open_unix_connection(socket)
        head = f"{method} {path} HTTP/1.1\r\nHost: opa\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n{body}".encode())
        answer = await reader.readline()
        assert b" 401 " in answer or b" 403 " in answer, (method, path, answer)
        writer.close()
    # The one thing of ours that listens on TCP for OPA asks for a token that the application has not.
    async with asyncio.timeout(5):
        import aiohttp  # noqa: PLC0415

        async with aiohttp.ClientSession() as http:
            for path in ("/v1/bundle", "/status"):
                url = f"https://127.0.0.1:{pod.bundle_port}{path}"
                method = "GET" if path == "/v1/bundle" else "POST"
                async with http.request(method, url, ssl=False, data=b"{}") as answer:
                    assert answer.status == 401
    async with await pod.connect(database) as client:
        assert await value(client) == REDACTED


async def test_denials_and_what_is_in_force_arrive_in_the_report(
    *, operator, run_pod, signed, restricted, making, database
):
    reason = {
        "policy": "shop/support",
        "rule": "read",
        "effect": "deny",
        "message": "Denied by rule read of policy shop/support.",
    }
    denied = making.statement(allow=False, reasons=[reason])
    operator.publish(signed(7, session=restricted(), statement=denied), 7)
    pod = await run_pod(database)
    async with await pod.connect(database) as client:
        for _ in range(3):  # The plan of the denied statement is cached: the brain judges it once.
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await value(client)
    report = {}
    async with asyncio.timeout(10):
        while sum(one["count"] for one in report.get("denials", ())) < 3:
            report = operator.reports.document()
            await asyncio.sleep(0.05)
    assert report["profiles"] == {operator.profile: {"7": 1}}
    denial = report["denials"][0]
    assert denial["policy"] == "shop/support"
    assert denial["database"] == "shop/shop"
    assert denial["pod"] == "desk-0"
    assert sum(one["count"] for one in report["denials"]) == 3
    assert denial["message"] == reason["message"]
    assert "SELECT" not in json.dumps(report)


async def test_rotated_authority_is_followed_by_what_bundles_say(
    *, operator, run_pod, signed, restricted, making, database, another_authority
):
    operator.publish(signed(1, session=restricted()), 1)
    pod = await run_pod(database)
    both = operator.authority.pem + another_authority.pem
    trust = {"ca_pem": both, "keys": making.signer.keys}
    operator.publish(signed(2, session=restricted(), metadata={"trust": trust}), 2)
    await pod.in_force(2)
    operator.certificate.take(another_authority.leaf())
    await operator.stop()
    operator.begin()
    operator.publish(signed(3, session=restricted("email")), 3)
    await operator.start()
    await pod.in_force(3)
    # And over a restart: the last good bundle brings the trust along.
    await pod.stop_proxy()
    pod.start_proxy()
    await pod.ready()
    assert pod.sidecar.sidecar.bundles.refusal is None


async def test_service_under_another_authority_is_not_spoken_to(
    operator, make_pod, signed, database, another_authority
):
    operator.publish(signed(1), 1)
    operator.certificate.take(another_authority.leaf())
    pod = make_pod(database)
    pod.prepare()
    pod.start_proxy()
    await asyncio.sleep(1)
    document = await pod.health()
    assert "certificate" in document["reasons"]["identity"].lower()
    assert operator.cluster.reviews == 0
    with pytest.raises(NotStartedError, match=r"waited for: identity: .*certificate"):
        await pod.stop_proxy()


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"uid": "other"}, "uid"), ({"pod": "desk-1"}, "pod")],
    ids=["another uid", "another pod"],
)
async def test_identity_of_another_pod_is_not_taken(
    *, operator, make_pod, signed, database, token, change, reason
):
    operator.publish(signed(1), 1)
    pod = make_pod(database)
    operator.cluster.add_pod(**change)
    pod.layout.token.write_text(operator.cluster.add_token(token(**change), **change))
    pod.prepare()
    pod.start_proxy()
    await asyncio.sleep(1)
    assert f"of the {reason}" in (await pod.health())["reasons"]["identity"]
    assert not list(pod.layout.state.iterdir())
    with pytest.raises(NotStartedError, match=f"of the {reason}"):
        await pod.stop_proxy()


async def test_databases_of_one_server_share_a_listener_and_others_are_refused(
    operator, run_pod, signed, making, new_database
):
    first, second = new_database(SCHEMA), new_database("CREATE TABLE t AS SELECT 2 AS n")
    name = psycopg.conninfo.conninfo_to_dict(second)["dbname"]
    port = int(psycopg.conninfo.conninfo_to_dict(second)["port"])
    extra = {
        "name": "crm/crm",
        "database": name,
        "upstream": ["127.0.0.1", port],
        "tls": "disable",
        "catalog": None,
    }
    operator.publish(signed(1, session=making.session()), 1)
    pod = await run_pod(first, extra=[extra])
    async with await pod.connect(first) as client:
        assert await value(client) == RAW
    async with await pod.connect(second) as client:
        assert await value(client, "SELECT n FROM t") == 2
    with pytest.raises(psycopg.OperationalError, match="not classified"):
        await pod.connect(first, dbname="postgres")


async def test_frozen_data_plane_is_stale_although_opa_has_activated(
    operator, run_pod, signed, restricted, database
):
    operator.publish(signed(1, session=restricted()), 1)
    pod = await run_pod(database)

    def reported() -> dict[str, int]:
        return operator.reports.document()["profiles"].get(operator.profile, {})

    await until(lambda: reported() == {"1": 1})
    async with await pod.connect(database) as client:
        with frozen("sluice-dataplane"):
            operator.publish(signed(2, session=restricted("email")), 2)
            await until(lambda: pod.sidecar.sidecar.bundles.in_force.sequence == 2)
            # The reporter has its say each second.
            await asyncio.sleep(3)
            assert reported() == {"1": 1}
        await until(lambda: reported() == {"2": 1})
        assert await value(client) == MASKED
