"""Startup: requests before the first packet, authentication, transparency, what goes wrong on the way."""

from __future__ import annotations

import socket
import struct

import psycopg
import pytest

from sluice_dev.postgres import Server


def raw(stack, data: bytes, count: int = 4096) -> bytes:
    with socket.create_connection((stack.host, stack.port), timeout=5) as client:
        client.sendall(data)
        return client.recv(count)


SSL, GSS = struct.pack("!II", 8, 80877103), struct.pack("!II", 8, 80877104)


def test_tls_and_gss_are_declined_and_plaintext_goes_on(stack, open_wire, clear_role):
    client = open_wire(stack.host, stack.port, login=False)
    for request in (SSL, GSS):
        client.send(request)
        assert client.socket.recv(1) == b"N"
    assert client.login(*clear_role, "postgres")[-1][0] == "Z"


def test_second_ssl_request_is_an_unknown_version(stack):
    assert raw(stack, SSL + SSL, 1) == b"N"
    with socket.create_connection((stack.host, stack.port), timeout=5) as client:
        client.sendall(SSL + SSL)
        data = b""
        while chunk := client.recv(4096):
            data += chunk
    assert b"unsupported frontend protocol 1234.5679" in data


@pytest.mark.parametrize("length", [0, 3, 7, 10_001, 2**32 - 1])
def test_broken_startup_length_closes_the_connection(stack, length):
    assert raw(stack, struct.pack("!I", length)) == b""


def test_direct_tls_is_refused(stack):
    assert raw(stack, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") == b""


@pytest.mark.parametrize(
    ("version", "words"), [(2 << 16, b"unsupported frontend protocol 2.0"), (0, b"protocol 0.0")]
)
def test_unknown_protocol_version_is_told(stack, version, words):
    assert words in raw(stack, struct.pack("!II", 9, version) + b"\0")


def test_startup_without_a_user_is_told(stack):
    body = b"database\0x\0\0"
    assert b"C28000\0" in raw(stack, struct.pack("!II", len(body) + 8, 196608) + body)


def test_newer_minor_version_is_negotiated_by_the_server(stack, open_wire, clear_role):
    client = open_wire(stack.host, stack.port, login=False)
    client.startup(196608 + 2, user=clear_role[0], database="postgres")
    first = client.frame()
    if first[0] == "v":
        first = client.frame()
    assert first[0] == "R"


def test_message_in_place_of_a_password_is_refused(stack, open_wire, wire, clear_role):
    client = open_wire(stack.host, stack.port, login=False)
    client.startup(user=clear_role[0], database="postgres")
    assert client.frame()[0] == "R"
    client.send(wire.query("SELECT 1"))
    tag, body = client.frame()
    assert tag == "E"
    assert b"expected password response" in body


@pytest.mark.parametrize("method", ["md5", "password", "scram-sha-256", "trust"])
def test_authentication_is_relayed(start_stack, method):
    with Server(
        settings={"password_encryption": "md5" if method == "md5" else "scram-sha-256"},
        hba=[f"host all someone 127.0.0.1/32 {method}"],
    ) as server:
        with psycopg.connect(server.admin_dsn, autocommit=True) as admin:
            admin.execute("CREATE ROLE someone LOGIN PASSWORD 'pw'")
        stack = start_stack()
        stack.brain.upstream = f"{server.host}:{server.port}"
        dsn = f"host={stack.host} port={stack.port} user=someone dbname=postgres"
        with psycopg.connect(f"{dsn} password=pw") as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("someone",)
        if method != "trust":
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(f"{dsn} password=wrong")


def test_unreachable_server_is_told_in_libpqs_words(stack):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        stack.brain.upstream = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(psycopg.OperationalError) as caught:
            stack.connect()
    assert "failed: Connection refused" in str(caught.value)
    assert 'upstream "shop"' in str(caught.value)


def test_unix_sockets_on_both_sides(stack, postgres, short_directory):
    stack.brain.upstream = f"unix:{postgres.directory}/.s.PGSQL.{postgres.port}"
    stack.plane.listen("shop", f"unix:{short_directory}/.s.PGSQL.5432")
    dsn = postgres.dsn()
    with psycopg.connect(dsn, host=str(short_directory), port=5432) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_address_in_use_is_an_error(stack):
    with pytest.raises(OSError, match="in use"):
        stack.plane.listen("again", stack.address)


def test_client_gets_a_cancel_key_that_is_not_the_servers(stack, open_wire, clear_role):
    client = open_wire(stack.host, stack.port, login=False)
    frames = client.login(*clear_role, "postgres")
    (key,) = [body for tag, body in frames if tag == "K"]
    with psycopg.connect(stack.server.admin_dsn) as admin:
        pids = [row[0] for row in admin.execute("SELECT pid FROM pg_stat_activity")]
    assert struct.unpack("!I", key[:4])[0] not in pids


CONVERSATION = (
    "SELECT 1; SELECT 'two' AS b; SELECT 1/0",
    "BEGIN",
    "CREATE TABLE transparent (n int PRIMARY KEY)",
    "INSERT INTO transparent SELECT generate_series(1, 500)",
    "DO $$ BEGIN RAISE NOTICE 'hello'; END $$",
    "INSERT INTO transparent VALUES (1)",
    "ROLLBACK",
    "SET application_name = 'x'",
    "",
    "syntax error here",
    "COPY (SELECT generate_series(1, 300)) TO STDOUT",
)


def test_open_session_gets_the_bytes_of_a_direct_connection(
    start_stack, postgres, open_wire, wire, clear_role
):
    stack = start_stack(brain={"level": 0, "probe": None})
    talks = []
    for host, port in ((stack.host, stack.port), (postgres.host, postgres.port)):
        client = open_wire(host, port, login=False)
        frames = [frame for frame in client.login(*clear_role, "postgres") if frame[0] != "K"]
        for text in CONVERSATION:
            client.send(wire.query(text))
            frames += client.until("Z")
        client.send(
            wire.parse("SELECT $1::int + generate_series(1, 9)", "s")
            + wire.message("D", b"Ss\0")
            + wire.message("B", b"\0s\0\0\0\0\1\0\0\0\x011\0\0")
            + wire.execute(rows=4) + wire.execute() + wire.message("C", b"Ss\0")
            + wire.bind("s") + wire.execute() + wire.sync()
        )  # fmt: skip
        frames += client.until("Z")
        client.send(wire.message("F", b"\0\0\7\x1a\0\0\0\0\0\0"))
        frames += client.until("Z")
        talks.append(frames)
    assert talks[0] == talks[1]


def test_one_clients_garbage_leaves_the_others_alone(stack):
    with stack.connect() as connection:
        for length in (0, 5, 4096):
            raw(stack, struct.pack("!II", 8 + length, 196608) + b"\xff" * length)
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert stack.plane.metrics()["panics_total"] == 0
