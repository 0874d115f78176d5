"""TLS to clients."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import ssl
from pathlib import Path

import psycopg
import pytest

from sluice_proxy.settings import Listener
from sluice_proxy.tls import ServerTls, TlsPair


@pytest.fixture
def shown(tmp_path: Path, new_authority) -> tuple:
    """A listener with a certificate for clients."""
    own = new_authority("the sidecar's authority")
    folder = own.pair(tmp_path / "shown", "localhost")
    return (
        Listener(name="", address="127.0.0.1:0", certificate=TlsPair(folder, "shop-sidecar-tls")),
        own.pem(tmp_path / "sidecar-ca.crt"),
        own,
    )


async def test_clients_that_verify_are_shown_the_certificate(start, making, postgres, shown):
    listener, ca, _ = shown
    first = making.signer.bundle(1, session=making.session(level="open"))
    running = await start(postgres.dsn(), first, catalog=None, listeners=(listener,))
    async with await running.connect(
        host="localhost", hostaddr="127.0.0.1", sslmode="verify-full", sslrootcert=str(ca)
    ) as connection:
        assert connection.pgconn.ssl_in_use
        cursor = await connection.execute("SELECT repeat('x', 2000000)")
        row = await cursor.fetchone()
        assert row is not None
        assert len(row[0]) == 2_000_000
        sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(connection.cancel)
        with pytest.raises(psycopg.errors.QueryCanceled):
            await asyncio.wait_for(sleeping, 10)
    async with await running.connect() as connection:
        assert not connection.pgconn.ssl_in_use


async def test_clients_without_a_certificate_to_show_go_on_in_the_clear(start, making, postgres):
    first = making.signer.bundle(1, session=making.session(level="open"))
    running = await start(postgres.dsn(), first, catalog=None)
    async with await running.connect(sslmode="prefer") as connection:
        assert not connection.pgconn.ssl_in_use
    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        await running.connect(sslmode="require")


async def test_unix_sockets_are_never_offered_tls(start, making, postgres, shown, tmp_path):
    path = tmp_path / "s"
    listener = dataclasses.replace(shown[0], address=f"unix:{path}")
    first = making.signer.bundle(1, session=making.session(level="open"))
    await start(postgres.dsn(), first, catalog=None, listeners=(listener,))

    def ask() -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(path))
            client.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
            return client.recv(1)

    assert await asyncio.to_thread(ask) == b"N"


async def test_bytes_before_the_handshake_end_the_connection(start, making, postgres, shown):
    first = making.signer.bundle(1, session=making.session(level="open"))
    running = await start(postgres.dsn(), first, catalog=None, listeners=(shown[0],))
    host, _, port = running.sidecar.addresses[0].rpartition(":")

    def inject() -> bytes:
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f" + b"\0\0\0\x08\x04\xd2\x16\x2f")
            received = b""
            while block := client.recv(100):
                received += block
            return received

    assert await asyncio.to_thread(inject) == b"S"


async def test_direct_tls_is_understood_under_its_protocol_name_alone(
    start, making, postgres, shown
):
    listener, ca, _ = shown
    first = making.signer.bundle(1, session=making.session(level="open"))
    running = await start(postgres.dsn(), first, catalog=None, listeners=(listener,))
    host, _, port = running.sidecar.addresses[0].rpartition(":")
    startup = b"user\0postgres\0database\0postgres\0\0"
    packet = (8 + len(startup)).to_bytes(4, "big") + b"\0\x03\0\0" + startup

    def begin(protocols: list[str]) -> bytes:
        context = ssl.create_default_context(cafile=str(ca))
        if protocols:
            context.set_alpn_protocols(protocols)
        with (
            socket.create_connection((host, int(port)), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as client,
        ):
            client.sendall(packet)
            return client.recv(1)

    assert await asyncio.to_thread(begin, ["postgresql"]) in (b"R", b"E")
    with contextlib.suppress(OSError):
        assert await asyncio.to_thread(begin, []) == b""
    with pytest.raises(OSError):  # noqa: PT011  How a client names the alert differs.
        await asyncio.to_thread(begin, ["http/1.1"])


async def test_channel_binding_over_two_connections_is_refused_with_the_way_out(
    start, making, secured, shown, seen_by_server
):
    listener, _, _ = shown
    first = making.signer.bundle(1, session=making.session(level="open"))
    running = await start(
        secured.dsn(user="app", password="pw"),
        first,
        catalog=None,
        listeners=(listener,),
        tls=ServerTls(mode="require", names=("db",)),
    )
    with pytest.raises(psycopg.OperationalError) as refused:
        await running.connect(sslmode="require")
    assert "channel_binding=disable" in str(refused.value)
    async with await running.connect(sslmode="require", channel_binding="disable") as connection:
        assert connection.pgconn.ssl_in_use
        assert (await seen_by_server(connection))[0] is True


async def test_replaced_certificate_is_shown_and_a_broken_one_is_not(
    start, making, postgres, shown, monkeypatch
):
    monkeypatch.setattr("sluice_proxy.tls.LOOK_S", 0.05)
    listener, ca, own = shown
    first = making.signer.bundle(1, session=making.session(level="open"))
    running = await start(postgres.dsn(), first, catalog=None, listeners=(listener,))
    verified = {
        "host": "localhost", "hostaddr": "127.0.0.1", "sslmode": "verify-full", "sslrootcert": str(ca)
    }  # fmt: skip
    folder = listener.certificate.folder
    (folder / "tls.crt").write_text("broken")
    async with asyncio.timeout(10):
        while not running.sidecar.degraded():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert 'the Secret "shop-sidecar-tls"' in str(running.sidecar.degraded())
    await (await running.connect(**verified)).close()
    own.pair(folder, "elsewhere")
    async with asyncio.timeout(10):
        while running.sidecar.degraded():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    with pytest.raises(psycopg.OperationalError, match="localhost"):
        await running.connect(**verified)
