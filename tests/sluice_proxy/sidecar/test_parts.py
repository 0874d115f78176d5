"""Parts of the sidecar by themselves: environment, preparation, catalog Secret, names, status, hardening."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
