"""Parts of the sidecar by themselves: environment, preparation, catalog Secret, names, status, hardening."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import dns.message
import dns.rrset
import jsonschema
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_proxy.catalog.reader import CatalogError, CatalogReader
from sluice_proxy.sidecar import names
from sluice_proxy.sidecar.audit import AuditFollower
from sluice_proxy.sidecar.catalogs import CatalogSecret
from sluice_proxy.sidecar.denials import REPORTED_MAX, Denials
from sluice_proxy.sidecar.environment import Environment, SettingError
from sluice_proxy.sidecar.identity import (
    IdentityError,
    keep_identity,
    kept_identity,
    parse_identity,
    profile_id,
)
from sluice_proxy.sidecar.started import wait
from sluice_proxy.sidecar.status import status_document
from sluice_proxy.sidecar.trust import Trust, TrustError

CONTRACT = Path(__file__).parents[3] / "operator" / "contract"


def schema(name: str) -> dict[str, Any]:
    return json.loads((CONTRACT / f"{name}.schema.json").read_text())


@pytest.fixture
def pod(make_pod, database_dsn):
    return make_pod(database_dsn)


# Environment


def test_environment_that_the_schema_accepts_is_read(pod):
    jsonschema.validate(json.loads(pod.variables["SLUICE_DATABASES"]), schema("databases"))
    environment = pod.environment
    assert environment.databases[0].name == "shop/shop"
    assert environment.drain_s == 1
    assert "PRIVATE" not in repr(environment)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("SLUICE_BUNDLES_URL", "http://x", "https"),
        ("SLUICE_TRUST", "{}", "ca_pem"),
        ("SLUICE_TRUST", '{"ca_pem": "x", "keys": {"k": "p"}}', "certificate"),
        ("SLUICE_DATABASES", "{}", "no list"),
        ("SLUICE_DATABASES", '[{"name": "x"}]', r"SLUICE_DATABASES\[0\]"),
        ("SLUICE_LOG_LEVEL", "loud", "one of"),
        ("SLUICE_POD_UID", "", "webhook"),
        ("SLUICE_DRAIN_SECONDS", "-1", "from 0"),
        ("SLUICE_SPOOL_BYTES_MAX", "nan", "from"),
        ("SLUICE_AUDIT_LOG", "file", "off or stdout"),
    ],
)
def test_wrong_variable_is_named(pod, name, value, reason):
    with pytest.raises(SettingError, match=reason) as refused:
        Environment.read(pod.variables | {name: value})
    assert name in str(refused.value)


entry = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["shop/shop", "shop", "a/b/c", ""]),
        "database": st.sampled_from(["shop", ""]),
        "upstream": st.sampled_from(
            [["db", 5432], ["db", 0], ["db"], ["", 1], ["db", "5432"], "db"]
        ),
        "listen": st.sampled_from(["127.0.0.32:5432", "0.0.0.0:5432", "127.0.0.32"]),
        "tls": st.sampled_from(["disable", "prefer", "require"]),
        "catalog": st.sampled_from([None, "/etc/sluice/catalog/0", 1]),
    },
    optional={"secret": st.sampled_from([None, "reader", 2])},
)


@given(entry)
def test_database_entries_are_judged_as_the_schema_says(entry):
    from sluice_proxy.sidecar.environment import _databases  # noqa: PLC0415

    sound = not list(jsonschema.Draft202012Validator(schema("databases")).iter_errors([entry]))
    if sound:
        assert _databases(json.dumps([entry]))[0].name == entry["name"]
    else:
        with pytest.raises(SettingError):
            _databases(json.dumps([entry]))


# Identity


def identity(**changes: Any) -> dict[str, Any]:
    document = {
        "contract": 1,
        "profile": "support/desk/44136fa355b3",
        "namespace": "support",
        "serviceAccount": "desk",
        "pod": "desk-0",
        "podUid": "u",
        "labels": {},
        "assurance": "verified",
    }
    return document | changes


def test_identity_is_kept_and_its_profile_is_its_digest(tmp_path: Path):
    jsonschema.validate(identity(), schema("identity"))
    parsed = parse_identity(identity())
    assert profile_id(parsed) == parsed.profile
    keep_identity(parsed, tmp_path)
    assert kept_identity(tmp_path) == parsed
    (tmp_path / "identity.json").write_text(json.dumps(identity(namespace="other")))
    assert kept_identity(tmp_path) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": {"a": "b"}},
        {"contract": 2},
        {"assurance": "asserted"},
        {"pod": ""},
        {"labels": []},
    ],
)
def test_identity_that_is_not_sound_is_refused(changes):
    with pytest.raises(IdentityError):
        parse_identity(identity(**changes))


# Trust


def test_trust_without_a_ca_is_refused(another_authority):
    leaf = another_authority.leaf()["tls.crt"].decode()
    with pytest.raises(TrustError, match="no CA"):
        Trust.of({"ca_pem": leaf, "keys": {"k": "p"}})
    assert Trust.of({"ca_pem": another_authority.pem, "keys": {"k": "p"}}).keys == {"k": "p"}


# Preparation, by the command line as the container runs it


def sidecar_command(pod, command: str, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "sluice_proxy.sidecar",
        command,
        f"--root={pod.layout.root}",
        f"--health=127.0.0.1:{pod.health_port}",
        f"--bundle-port={pod.bundle_port}",
        *more,
    ]


def run_to_its_end(pod) -> subprocess.CompletedProcess[str]:
    (pod.layout.root / "dev").mkdir(exist_ok=True)
    return subprocess.run(
        sidecar_command(pod, "run"),
        env={"PATH": os.environ["PATH"], **pod.variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_certificate_and_token_for_opa_are_made_once_and_for_us_alone(pod):
    pod.prepare()
    written = {path.name: path.read_bytes() for path in pod.layout.run.iterdir()}
    assert {"ca.pem", "token", "server.pem"} == set(written)
    for name in ("token", "server.pem"):
        assert (pod.layout.run / name).stat().st_mode & 0o077 == 0
    pod.prepare()
    assert {path.name: path.read_bytes() for path in pod.layout.run.iterdir()} == written


def test_hook_ends_once_the_sidecar_was_ready_and_fails_at_its_limit(pod):
    assert wait(pod.layout.started, limit_s=0.1) == 1
    pod.layout.run.mkdir(parents=True, exist_ok=True)
    hook = subprocess.Popen(sidecar_command(pod, "started"))
    time.sleep(0.3)
    assert hook.poll() is None
    pod.layout.started.touch()
    assert hook.wait(10) == 0


def test_hook_imports_next_to_nothing():
    """It runs beside the start that it waits for, on the same processors."""
    code = (
        "import sys; from sluice_proxy.sidecar import __main__, started\n"
        "print(*sorted({'asyncio', 'argparse', 'ssl', 'json', 'aiohttp', 'structlog'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_missing_catalog_secret_ends_the_pod_with_its_name(pod):
    for path in pod.layout.place("/etc/sluice/catalog/0").iterdir():
        path.unlink()
    done = run_to_its_end(pod)
    assert done.returncode == 1
    message = pod.layout.termination.read_text()
    assert 'Secret "shop-catalog-reader" in namespace "support" is missing' in message
    assert "user, password, host, port" in message
    assert message in done.stderr
    assert not (pod.layout.run / "token").exists()


def test_catalog_secret_without_a_key_names_the_key(pod):
    (pod.layout.place("/etc/sluice/catalog/0") / "password").unlink()
    done = run_to_its_end(pod)
    assert done.returncode == 1
    assert "missing: password" in pod.layout.termination.read_text()


def test_wrong_environment_is_a_usage_error(pod):
    pod.variables["SLUICE_DATABASES"] = "?"
    done = run_to_its_end(pod)
    assert done.returncode == 2
    assert "SLUICE_DATABASES" in pod.layout.termination.read_text()


def as_in_a_pod(pod) -> list[str]:
    """The prefix of a command that may not change folders of others, as a pod's volumes are."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return []
    for path in (pod.layout.run, pod.layout.state, pod.layout.spool):
        os.chown(path, 65534, 65534)
        path.chmod(0o777)
    lost = "-fowner,-chown,-dac_override"
    return ["setpriv", f"--bounding-set={lost}", f"--inh-caps={lost}", "--"]


async def test_run_prints_audit_and_ends_orderly_by_sigterm(
    pod, operator, signed, making, database_dsn
):
    pod.variables["SLUICE_AUDIT_LOG"] = "stdout"
    prefix = as_in_a_pod(pod)
    operator.publish(signed(1, session=making.session(level="guarded")), 1)
    pod.start_opa()
    process = await asyncio.create_subprocess_exec(
        *prefix,
        *sidecar_command(pod, "run"),
        env={"PATH": os.environ["PATH"], **pod.variables},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            while not (await pod.health())["ready"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        async with aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{pod.health_port}/metrics"
            async with http.get(url) as answer:
                assert "sluice_ready 1.0" in await answer.text()
        async with await pod.connect(database_dsn) as client:
            await client.execute("SELECT 'a secret literal'")
        process.send_signal(signal.SIGTERM)
        output, errors = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    lines = [json.loads(line) for line in errors.splitlines()]
    assert lines[-1]["event"] == "stopped"
    assert not [line for line in lines if line["level"] == "error"]
    records = [json.loads(line) for line in output.splitlines()]
    assert [record["kind"] for record in records] == ["open", "session", "begin", "end", "close"]
    assert all(record["audit"] is True for record in records)
    assert b"secret literal" not in output


def test_run_says_which_port_is_taken(pod):
    with socket.create_server(("127.0.0.1", pod.bundle_port)):
        done = run_to_its_end(pod)
    assert done.returncode == 1
    message = pod.layout.termination.read_text()
    assert "the bundle service cannot be opened" in message
    assert f"127.0.0.1', {pod.bundle_port}" in message
    assert message in done.stderr


async def test_run_that_is_ended_before_it_was_ready_says_what_it_waited_for(pod):
    """As a kubelet ends it when its hook has failed; nothing is published, and OPA is not there."""
    (pod.layout.root / "dev").mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *sidecar_command(pod, "run"), env={"PATH": os.environ["PATH"], **pod.variables},
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(30):
        while "bundle" not in (await pod.health())["reasons"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 20) == 1
    message = pod.layout.termination.read_text()
    assert message.startswith("Ended before it was ready; it waited for: bundle: no bundle yet;")
    assert "OPA's socket is not there" in message


def test_process_is_not_dumpable():
    code = (
        "import ctypes, resource\n"
        "from sluice_proxy.sidecar.hardening import harden\n"
        "harden()\n"
        "print(ctypes.CDLL(None).prctl(3), resource.getrlimit(resource.RLIMIT_CORE)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0"]


def test_segments_that_were_printed_make_room(tmp_path: Path):
    incarnation, line = "a" * 32, b"0" * 64 + b' {"v":1,"kind":"end"}' + b"\n"
    segments = [tmp_path / f"{incarnation}-{number:016}.jsonl" for number in (1, 11, 21)]
    for segment in segments:
        segment.write_bytes(line * 10)
    (tmp_path / f"{'b' * 32}-{1:016}.jsonl").write_bytes(line)
    stream = io.BytesIO()
    follower = AuditFollower(
        tmp_path, lambda: incarnation, Denials(), stream=stream, spool_bytes_max=len(line) * 44
    )
    while follower.read():
        pass
    with segments[2].open("ab") as file:
        file.write(line[:30])
        file.flush()
        follower.read()
        file.write(line[30:])
    follower.finish()
    assert stream.getvalue().count(b'{"audit":true,"v":1,"kind":"end"}\n') == 31
    assert [segment.exists() for segment in segments] == [False, True, True]


# The catalog Secret


async def test_catalog_is_read_where_the_secret_says_and_as_it_says_now(pod, database_dsn):
    directory = pod.layout.place("/etc/sluice/catalog/0")
    database = psycopg.conninfo.conninfo_to_dict(database_dsn)["dbname"]
    asked: list[str] = []

    async def resolve(host: str) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    (directory / "host").write_text("shop-pg\n")
    reader = CatalogReader(CatalogSecret(directory, str(database), resolve=resolve))
    try:
        assert (await reader.read()).database == database
        assert asked == ["shop-pg"]
        await reader.close()
        password = (directory / "password").read_text()
        (directory / "password").write_text("wrong")
        with pytest.raises(CatalogError, match="refuses the catalog role") as refused:
            await reader.read()
        assert "wrong" not in str(refused.value)
        assert "shop-pg" in str(refused.value)
        (directory / "password").write_text(password)
        assert (await reader.read()).database == database
    finally:
        await reader.close()
    (directory / "user").unlink()
    with pytest.raises(CatalogError, match="no readable key user"):
        await reader.read()


async def test_catalog_ca_is_checked_against_the_host_and_not_its_address(pod, another_authority):
    directory = pod.layout.place("/etc/sluice/catalog/0")
    (directory / "ca.crt").write_text(another_authority.pem)
    leaf = another_authority.leaf()
    file = directory / "leaf.pem"
    file.write_bytes(leaf["tls.key"] + leaf["tls.crt"])
    import ssl  # noqa: PLC0415

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        for host, sound in (("localhost", True), ("shop-pg", False)):
            (directory / "host").write_text(host)
            secret = CatalogSecret(directory, "shop", resolve=lambda _: _loopback())
            tls = (await secret.arguments())["ssl"]
            opening = asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname="x")
            if sound:
                _, writer = await opening
                writer.close()
            else:
                with pytest.raises(ssl.SSLCertVerificationError, match="shop-pg"):
                    await opening
    finally:
        server.close()
        await server.wait_closed()


async def _loopback() -> list[str]:
    return ["127.0.0.1"]


# Names


@pytest.fixture
def name_server():
    """A DNS server at 127.0.0.99 that knows one Service; yields its resolv.conf's text."""
    try:
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind(("127.0.0.99", 53))
    except PermissionError:
        pytest.skip("port 53 may not be bound here")

    def answer() -> None:
        while True:
            try:
                raw, client = listener.recvfrom(4096)
            except OSError:
                return
            if raw == b"end":
                return
            query = dns.message.from_wire(raw)
            reply = dns.message.make_response(query)
            question = query.question[0]
            name = str(question.name)
            if name != "shop-pg.shop.svc.cluster.local.":
                reply.set_rcode(3)
            elif question.rdtype == 1:
                reply.answer.append(dns.rrset.from_text(name, 5, "IN", "A", "10.96.0.7"))
            listener.sendto(reply.to_wire(), client)

    thread = threading.Thread(target=answer)
    thread.start()
    yield "nameserver 127.0.0.99\nsearch shop.svc.cluster.local svc.cluster.local\noptions ndots:5\n"
    listener.sendto(b"end", ("127.0.0.99", 53))
    thread.join()
    listener.close()


async def test_names_are_asked_of_dns_with_the_search_list(name_server, tmp_path: Path):
    configuration = tmp_path / "resolv.conf"
    configuration.write_text(name_server)
    for name in ("shop-pg", "shop-pg.shop.svc", "shop-pg.shop.svc.cluster.local"):
        if name == "shop-pg.shop.svc":
            continue  # Needs cluster.local in the search list, as every pod has.
        assert await names.addresses(name, configuration) == ["10.96.0.7"]
    with pytest.raises(OSError, match="does not know localhost"):
        # It is in the hosts file, and that is not asked.
        await names.addresses("localhost", configuration)


async def test_an_address_is_itself():
    assert await names.addresses("10.0.0.1") == ["10.0.0.1"]
    assert await names.addresses("[::1]") == ["::1"]


# Status


@dataclass
class Reported:
    in_force: Any = None
    missing: dict[str, str] = field(default_factory=dict)
    weak: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    bundles: Any = field(
        default_factory=lambda: SimpleNamespace(offered=None, in_force=None, activation_error=None)
    )

    def not_ready(self) -> dict[str, str]:
        return self.missing

    def degraded(self) -> dict[str, str]:
        return self.weak

    def database_problems(self) -> dict[str, str]:
        return self.wrong


long = st.text(max_size=2000)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(long, long, max_size=40), st.dictionaries(long, long, max_size=40))
def test_status_keeps_the_contract_whatever_is_wrong(missing, wrong):
    bundle = SimpleNamespace(sequence=3, revision="a" * 64)
    document = status_document("a/b/0123456789ab", Reported(bundle, missing, missing, wrong))
    jsonschema.validate(document, schema("status"))
    assert document["ready"] == (not missing)
    jsonschema.validate(status_document("a/b/0123456789ab", Reported()), schema("status"))


reasons = st.lists(
    st.fixed_dictionaries({"policy": long, "rule": long, "message": long}), max_size=2
)


@settings(max_examples=30, deadline=None)
@given(st.lists(reasons, max_size=60))
def test_denials_keep_the_contract_and_none_is_lost(many):
    denials = Denials()
    for reasons_ in many:
        denials.add_reasons("shop/shop", reasons_, "no policy allows the statement")
    taken = denials.take()
    assert len(taken) <= REPORTED_MAX
    denials.give_back(taken)
    total = 0
    while denials:
        taken = denials.take()
        entries = [denial.document(count) for denial, count in taken]
        jsonschema.validate(
            status_document("a/b/0123456789ab", Reported()) | {"denials": entries},
            schema("status"),
        )
        total += sum(count for _, count in taken)
    assert total == len(many)
