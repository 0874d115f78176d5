"""A whole sidecar in this process: scripted bundles, a real OPA, a real PostgreSQL, the real data plane."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import psycopg
import pytest

from sluice_proxy import judge
from sluice_proxy.databases import Database

SCHEMA = """\
CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL, born date);
INSERT INTO users VALUES (1, 'ann@example.com', '2000-01-02');
"""
COLUMNS = [
    {"table": "public.users", "column": "email", "class": "pii.email"},
    {"table": "public.users", "column": "*", "class": "public"},
]
EMAIL = "SELECT email FROM users WHERE id = 1"
RAW, REDACTED = "ann@example.com", "***"


async def value(connection: psycopg.AsyncConnection, sql: str = EMAIL):
    cursor = await connection.execute(sql)
    row = await cursor.fetchone()
    assert row is not None
    return row[0]


def restricted(making, mask: str = "redact", **changes):
    return making.session(
        level="restricted",
        classification={"columns": COLUMNS, "unreviewed": "mask"},
        masks={"pii.email": {"kind": mask}, "unreviewed": {"kind": "redact"}},
        **changes,
    )


@pytest.fixture
def database(new_database) -> str:
    return new_database(SCHEMA)


async def test_restricted_session_is_masked_and_a_new_mask_holds_at_once(making, start, database):
    running = await start(database, making.signer.bundle(1, session=restricted(making)))
    async with await running.connect() as client:
        assert await value(client) == REDACTED
        mask = restricted(making, "email")
        await running.publish(making.signer.bundle(2, session=mask))
        assert await value(client) == "a***@example.com"


async def test_prepared_statement_follows_the_policy(making, start, database):
    running = await start(database, making.signer.bundle(1, session=restricted(making, "email")))
    async with await running.connect(prepare_threshold=0) as client:
        assert await value(client) == "a***@example.com"
        await running.publish(making.signer.bundle(2, session=restricted(making)))
        assert await value(client) == REDACTED


async def test_open_session_is_unchanged_and_closed_when_it_becomes_restricted(
    making, start, database
):
    running = await start(database, making.signer.bundle(1))
    async with await running.connect() as client:
        assert await value(client) == RAW
        # Nobody can parse this, and the session is open: PostgreSQL answers it.
        with pytest.raises(psycopg.errors.SyntaxError):
            await client.execute("SELEC 1")
        await running.publish(making.signer.bundle(2, session=restricted(making)))
        with pytest.raises(psycopg.errors.AdminShutdown, match="opened again"):
            await value(client)


async def test_bundle_of_a_lower_sequence_changes_nothing(making, start, database):
    running = await start(database, making.signer.bundle(5, session=restricted(making)))
    async with await running.connect() as client:
        assert await value(client) == REDACTED
        running.queue.bundles.put_nowait(making.signer.bundle(4))
        async with asyncio.timeout(5):
            while running.sidecar.bundles.counts.refused == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await value(client) == REDACTED
        assert "not above" in running.sidecar.degraded()["newest bundle"]
        await running.publish(making.signer.bundle(6, session=restricted(making, "email")))
        assert await value(client) == "a***@example.com"


async def test_policy_past_its_age_refuses_governed_statements_until_confirmed(
    making, start, database
):
    age = {"max_policy_age_s": 2}
    first = making.signer.bundle(1, session=restricted(making), metadata=age)
    running = await start(database, first)
    async with await running.connect() as client:
        assert await value(client) == REDACTED
        await asyncio.sleep(2.1)
        with pytest.raises(psycopg.errors.CannotConnectNow, match="too old"):
            await value(client)
        assert "maximum age" in running.sidecar.not_ready()["bundle"]
        await running.publish(making.signer.bundle(2, session=restricted(making)))
        assert await value(client) == REDACTED


async def test_decision_that_time_ends_is_asked_for_again(making, start, database):
    ends = time.time_ns() + 1_500_000_000
    rego = f"""\
package sluice.session

decision := object.union(document, {{
    "contract": 1,
    "revision": data.system.bundles.sluice.manifest.revision,
    "sequence": data.system.bundles.sluice.manifest.metadata.sequence,
}})

document := object.union(data.sluice_data.session, {{"valid_until": {ends}}}) if input.clock.now_ns < {ends}
else := object.union(data.sluice_data.session, {{"allow": false, "reasons": [
    {{"policy": "shop/support", "rule": "night", "effect": "deny", "message": "It is night."}}]}})
"""
    raw = making.signer.bundle(
        1, session=restricted(making), files={"sluice/session.rego": rego.encode()}
    )
    running = await start(database, raw)
    async with await running.connect() as client:
        assert await value(client) == REDACTED
        await asyncio.sleep(max(0.0, (ends - time.time_ns()) / 1e9) + 0.2)
        with pytest.raises(psycopg.errors.AdminShutdown, match="does not admit") as refused:
            await value(client)
        assert refused.value.diag.message_detail == "It is night."
    with pytest.raises(psycopg.OperationalError, match="may not connect"):
        await running.connect()


async def test_statement_that_policy_denies_names_it_and_the_session_goes_on(
    making, start, database
):
    reason = {
        "policy": "shop/support",
        "rule": "read",
        "effect": "deny",
        "message": "Denied by rule read of policy shop/support.",
    }
    denied = making.statement(allow=False, reasons=[reason])
    raw = making.signer.bundle(1, session=restricted(making), statement=denied)
    running = await start(database, raw)
    async with await running.connect() as client:
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
            await value(client)
        assert "shop/support" in (refused.value.diag.message_detail or "")
        await running.publish(making.signer.bundle(2, session=restricted(making)))
        assert await value(client) == REDACTED


async def test_error_in_judging_refuses_that_statement_alone(
    making, start, database, monkeypatch, capfd
):
    running = await start(database, making.signer.bundle(1, session=restricted(making)))
    reading = judge.read_facts

    def broken(text: bytes, context, **more):
        if b"secret-literal" in text:
            raise RuntimeError(f"cannot read {text!r}")
        return reading(text, context, **more)

    monkeypatch.setattr(judge, "read_facts", broken)
    async with await running.connect() as client:
        with pytest.raises(psycopg.errors.InternalError_, match="could not be judged"):
            await client.execute("SELECT 'secret-literal'")
        assert await value(client) == REDACTED
    written = capfd.readouterr()
    assert "secret-literal" not in written.out + written.err


async def test_restricted_session_without_a_catalog_is_refused(making, start, database):
    raw = making.signer.bundle(1, session=restricted(making))
    running = await start(database, raw, catalog="host=127.0.0.1 port=1 dbname=x user=c")
    with pytest.raises(psycopg.OperationalError, match="cannot be governed now"):
        await running.connect()
    assert running.sidecar.not_ready() == {}
    assert "catalog shop/shop" in running.sidecar.degraded()
    await running.publish(making.signer.bundle(2))
    async with await running.connect() as client:
        assert await value(client) == RAW


async def test_policy_that_does_not_fit_the_catalog_is_named(making, start, database):
    columns = [{"table": "public.users", "column": "born", "class": "pii.born"}, *COLUMNS]
    session = making.session(
        level="restricted",
        classification={"columns": columns, "unreviewed": "mask"},
        masks={
            "pii.born": {"kind": "email"},
            "pii.email": {"kind": "redact"},
            "unreviewed": {"kind": "redact"},
        },
    )
    running = await start(database, making.signer.bundle(1, session=session))
    with pytest.raises(psycopg.OperationalError, match=r"does not fit(.|\n)*born"):
        await running.connect()
    # The same table a moment later: no refusal rests on what the catalog was half a second ago.
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("ALTER TABLE users ALTER born TYPE text")
    async with await running.connect() as client:
        assert await value(client) == REDACTED
    assert running.sidecar.database_problems() == {}


async def test_session_with_temporary_tables_ends_when_masks_change(making, start, database):
    running = await start(database, making.signer.bundle(1, session=restricted(making, "email")))
    async with await running.connect() as client:
        await client.execute("CREATE TEMP TABLE kept (id int)")
        await running.publish(making.signer.bundle(2, session=restricted(making)))
        with pytest.raises(psycopg.errors.AdminShutdown, match="opened again"):
            await value(client)


async def test_session_with_temporary_views_ends_when_the_catalog_changes(making, start, database):
    running = await start(database, making.signer.bundle(1, session=restricted(making)))
    async with await running.connect() as client, await running.connect() as other:
        await client.execute("CREATE TEMP VIEW kept AS SELECT * FROM users")
        assert RAW not in str(await (await client.execute("SELECT * FROM kept")).fetchall())
        with psycopg.connect(database, autocommit=True) as owner:
            owner.execute("ALTER TABLE public.users ADD COLUMN added text")

        async def keep_reading() -> None:
            for _ in range(50):
                await client.execute("SELECT * FROM kept")
                await asyncio.sleep(0.1)

        with pytest.raises(psycopg.OperationalError, match=r"opened again|closed the connection"):
            await keep_reading()
        assert await value(other) == REDACTED


async def test_role_that_acts_for_another_is_refused(making, start, database):
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("DROP ROLE IF EXISTS acting")
        owner.execute("CREATE ROLE acting LOGIN PASSWORD 'acting-pw' IN ROLE pg_read_all_data")
        owner.execute("ALTER ROLE acting SET role = pg_read_all_data")
    running = await start(database, making.signer.bundle(1, session=restricted(making)))
    try:
        with pytest.raises(psycopg.OperationalError, match="another role"):
            await running.connect(user="acting", password="acting-pw")
    finally:
        with psycopg.connect(database, autocommit=True) as owner:
            owner.execute("DROP ROLE acting")


async def test_new_table_is_known_to_the_next_statement(making, start, database):
    raw = making.signer.bundle(1, session=restricted(making))
    running = await start(database, raw)
    async with await running.connect() as client:
        assert await value(client) == REDACTED
        with psycopg.connect(database, autocommit=True) as owner:
            owner.execute("CREATE TABLE later AS SELECT 7 AS secret")
        # Nobody reviewed its column: it is masked, by the constant of its type.
        assert await value(client, "SELECT secret FROM later") == 0


async def test_unix_socket_of_one_database_serves_it(making, start, database, short_directory):
    await start(database, making.signer.bundle(1, session=restricted(making)))
    info = psycopg.conninfo.conninfo_to_dict(database)
    info |= {"host": str(short_directory), "port": "5432"}
    async with await psycopg.AsyncConnection.connect(**info) as client:
        assert await value(client) == REDACTED


async def test_database_that_is_down_is_told_in_its_own_words(making, start, database):
    running = await start(database, making.signer.bundle(1))
    one = next(iter(running.databases))
    running.databases.replace(
        [Database(name=one.name, database_name=one.database_name, upstream="127.0.0.1:1")]
    )
    with pytest.raises(psycopg.OperationalError, match=r"127\.0\.0\.1:1"):
        await running.connect()


async def test_last_good_bundle_is_in_force_after_a_restart(making, start, database):
    raw = making.signer.bundle(3, session=restricted(making))
    running = await start(database, raw)
    await running.sidecar.stop()
    older = making.signer.bundle(2, metadata={"issued_at": datetime.now(UTC).isoformat()})
    again = await start(database, older)
    assert again.sidecar.bundles.in_force.sequence == 3
    async with await again.connect() as client:
        assert await value(client) == REDACTED


async def again_and_again(client: psycopg.AsyncConnection) -> None:
    for _ in range(1000):
        await value(client)


async def test_full_spool_refuses_governed_statements_and_is_told(
    making, start, database, caplog, capfd
):
    raw = making.signer.bundle(1, session=restricted(making))
    running = await start(database, raw, spool_bytes_max=64 << 10)
    async with await running.connect() as client:
        with pytest.raises(psycopg.errors.CannotConnectNow, match="audit"):
            await again_and_again(client)
        assert running.sidecar.not_ready()["spool"]
        await asyncio.sleep(0.6)
    assert "audit spool takes no records" in capfd.readouterr().out + caplog.text


async def test_view_replaced_while_a_statement_waits_for_it_shows_nothing(
    making, start, new_database
):
    dsn = new_database(
        SCHEMA + "CREATE TABLE plain (id int, name text); INSERT INTO plain VALUES (1, 'plain');"
        "CREATE VIEW shown AS SELECT id, name FROM plain;"
    )
    columns = [
        *COLUMNS,
        {"table": "public.plain", "column": "*", "class": "public"},
        {"table": "public.shown", "column": "*", "class": "public"},
    ]
    decision = restricted(making) | {
        "classification": {"columns": columns, "unreviewed": "mask"},
    }
    running = await start(dsn, making.signer.bundle(1, session=decision))
    sql = "SELECT name FROM shown"
    async with (
        await running.connect() as client,
        await psycopg.AsyncConnection.connect(dsn) as owner,
    ):
        assert await value(client, sql) == "plain"
        await owner.execute("CREATE OR REPLACE VIEW shown AS SELECT id, email AS name FROM users")
        asked = asyncio.create_task(value(client, sql))
        await asyncio.sleep(0.7)
        assert not asked.done()
        await owner.commit()
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="catalog changed"):
            await asked
        assert await value(client, sql) == REDACTED


async def test_unrelated_change_of_the_catalog_fails_no_statement(making, start, new_database):
    dsn = new_database(SCHEMA + "CREATE VIEW shown AS SELECT id, email FROM users;")
    running = await start(dsn, making.signer.bundle(1, session=restricted(making)))
    async with (
        await running.connect() as client,
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as owner,
    ):
        for number in range(8):
            assert await value(client, "SELECT email FROM shown") == REDACTED
            await owner.execute(f"CREATE TABLE part{number} (n int)")
