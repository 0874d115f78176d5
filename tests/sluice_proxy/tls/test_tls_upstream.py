"""TLS to servers: real ones, with certificates."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sluice_dev.postgres import Server
from sluice_proxy.tls import ServerTls, TlsFile, TlsPair


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-ca", "verify-full"])
async def test_hop_to_the_server_is_encrypted(mode, reach, authority, tmp_path, seen_by_server):
    verified = TlsFile(authority.pem(tmp_path / "ca.crt")) if mode.startswith("verify") else None
    tls = ServerTls(mode=mode, names=("shop-pg.shop.svc.",), authorities=verified)
    connection = await reach(tls)
    encrypted, version, _ = await seen_by_server(connection)
    assert (encrypted, version) == (True, "TLSv1.3")


async def test_large_results_and_copies_pass_through_tls(reach):
    connection = await reach(ServerTls(mode="require", names=("db",)))
    text = "x" * 3_000_000
    cursor = await connection.execute("SELECT %s::text, repeat('y', 5000000)", [text])
    assert await cursor.fetchone() == (text, "y" * 5_000_000)
    await connection.execute("CREATE TEMP TABLE t (v text)")
    async with connection.cursor().copy("COPY t FROM STDIN") as copy:
        for _ in range(50):
            await copy.write("z" * 100_000 + "\n")
    async with connection.cursor().copy("COPY t TO STDOUT") as copy:
        size = sum([len(block) async for block in copy])
    assert size == 50 * 100_001


async def test_prefer_goes_on_in_the_clear_where_the_server_has_no_tls(
    start, making, postgres, seen_by_server
):
    first = making.signer.bundle(1, session=making.session(level="open"))
    running = await start(
        postgres.dsn(), first, catalog=None, tls=ServerTls(mode="prefer", names=("db",))
    )
    async with await running.connect() as connection:
        assert (await seen_by_server(connection))[0] is False


async def test_required_tls_is_never_given_up(start, making, postgres):
    first = making.signer.bundle(1, session=making.session(level="open"))
    running = await start(
        postgres.dsn(), first, catalog=None, tls=ServerTls(mode="require", names=("db",))
    )
    with pytest.raises(
        psycopg.OperationalError, match="does not support SSL, but SSL was required"
    ) as refused:
        await running.connect()
    assert "TLS mode require: the server must use TLS." in str(refused.value)


async def test_certificate_of_another_authority_is_refused(reach, tmp_path, new_authority):
    ca = TlsFile(new_authority("another authority").pem(tmp_path / "ca.crt"), "shop-pg-ca")
    for mode in ("verify-ca", "verify-full", "require"):
        with pytest.raises(
            psycopg.OperationalError, match="none of the authorities given signed"
        ) as refused:
            await reach(ServerTls(mode=mode, names=("shop-pg.shop.svc",), authorities=ca))
        hint = str(refused.value).partition("HINT:")[2]
        assert f"TLS mode {mode}: the server's certificate must be signed by one of" in hint
        assert 'the authorities in key ca.crt of the Secret "shop-pg-ca"' in hint
        assert ("have one of the names shop-pg.shop.svc." in hint) == (mode == "verify-full")


async def test_other_name_is_refused_by_verify_full_alone(reach, authority, tmp_path):
    ca = TlsFile(authority.pem(tmp_path / "ca.crt"))
    with pytest.raises(psycopg.OperationalError, match=r"not valid for name.*other-pg\.shop\.svc"):
        await reach(ServerTls(mode="verify-full", names=("other-pg.shop.svc",), authorities=ca))
    await reach(ServerTls(mode="verify-ca", names=("other-pg.shop.svc",), authorities=ca))
    # A Service goes by several names, and one of them is enough.
    names = ("other-pg.shop.svc.cluster.local.", "other", "shop-pg.shop.svc")
    await reach(ServerTls(mode="verify-full", names=names, authorities=ca))


async def test_expired_certificate_is_refused(reach, authority, secured: Server, tmp_path: Path):
    folder = authority.pair(tmp_path / "old", "shop-pg.shop.svc", days=-1)
    ca = TlsFile(authority.pem(tmp_path / "ca.crt"))
    with _shown(secured, folder), pytest.raises(psycopg.OperationalError, match="has expired"):
        await reach(ServerTls(mode="verify-full", names=("shop-pg.shop.svc",), authorities=ca))


@contextlib.contextmanager
def _shown(server: Server, folder: Path) -> Iterator[None]:
    """Have the server show another certificate for a while."""
    kept = {}
    for source, name in (("tls.crt", "server.crt"), ("tls.key", "server.key")):
        kept[name] = (server.directory / name).read_bytes()
        (server.directory / name).write_bytes((folder / source).read_bytes())
    _reload(server)
    try:
        yield
    finally:
        for name, content in kept.items():
            (server.directory / name).write_bytes(content)
        _reload(server)


def _reload(server: Server) -> None:
    """Reload, and wait until new processes have it: they are forks of the one that was told."""
    with psycopg.connect(server.admin_dsn, autocommit=True) as admin:
        before = admin.execute("SELECT pg_conf_load_time()").fetchone()
        admin.execute("SELECT pg_reload_conf()")
    while True:
        with psycopg.connect(server.admin_dsn, autocommit=True) as admin:
            if admin.execute("SELECT pg_conf_load_time()").fetchone() != before:
                return


async def test_certificate_is_shown_to_a_server_that_asks(
    reach, authority, tmp_path, seen_by_server
):
    own = TlsPair(authority.pair(tmp_path / "own", "certified"))
    tls = ServerTls(mode="require", names=("db",), certificate=own)
    connection = await reach(tls, user="certified", password="")
    assert (await seen_by_server(connection))[2] == "/CN=certified"
    with pytest.raises(psycopg.OperationalError, match="valid client certificate"):
        await reach(ServerTls(mode="require", names=("db",)), user="certified", password="")


async def test_missing_authorities_refuse_the_session_and_name_the_secret(reach, tmp_path):
    missing = TlsFile(tmp_path / "ca.crt", "shop-pg-ca")
    with pytest.raises(psycopg.OperationalError) as refused:
        await reach(ServerTls(mode="verify-full", names=("db",), authorities=missing))
    text = str(refused.value)
    assert 'key ca.crt of the Secret "shop-pg-ca" cannot be read' in text.replace("Key", "key")
    assert "the pod's namespace has no such Secret, or it lacks the key" in text
    assert "HINT:" in text
    (tmp_path / "ca.crt").write_text("no certificate")
    with pytest.raises(psycopg.OperationalError, match="authorities' certificates"):
        await reach(ServerTls(mode="verify-full", names=("db",), authorities=missing))
    with pytest.raises(psycopg.OperationalError, match="needs certificates of authorities"):
        await reach(ServerTls(mode="verify-full", names=("db",)))


async def test_replaced_authorities_hold_for_the_next_session(
    reach, authority, tmp_path, seen_by_server, new_authority
):
    path = new_authority("the authority of yesterday").pem(tmp_path / "ca.crt")
    tls = ServerTls(mode="verify-full", names=("shop-pg.shop.svc",), authorities=TlsFile(path))
    with pytest.raises(psycopg.OperationalError):
        await reach(tls)
    authority.pem(path)
    assert (await seen_by_server(await reach(tls)))[0] is True


async def test_cancel_request_goes_the_encrypted_way(reach):
    connection = await reach(ServerTls(mode="require", names=("db",)))
    sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.3)
    await asyncio.to_thread(connection.cancel)
    with pytest.raises(psycopg.errors.QueryCanceled):
        await asyncio.wait_for(sleeping, 10)


def test_libpq_agrees_with_the_tests_of_the_hop(secured: Server):
    """The hazard without Sluice: such a server takes no plain connection."""
    info = psycopg.conninfo.conninfo_to_dict(secured.dsn(user="app", password="pw"))
    with pytest.raises(psycopg.OperationalError, match="reject"):
        psycopg.connect(**(info | {"sslmode": "disable"}))
