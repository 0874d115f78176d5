"""The two worlds: a server and a `sluice run` each, asked the same things at the same time.

A third, the *shuffled* one, holds what the first holds in another physical order and plans otherwise: a statement whose
rows differ between these two leaves them open by itself.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from sluice_dev.postgres import Installation, Server, find
from sluice_dev.stack import Sluice, create_catalog_role
from sluice_dev.worlds.statement import Statement
from sluice_dev.worlds.wire import Connection, Message, SilentError

_SETTINGS: Mapping[str, str] = {
    # Nothing happens by itself: what differs later must have come from a statement.
    "autovacuum": "off",
    "max_connections": "20",
    "jit": "off",
}
_SESSIONS = 12
"""More than there are at once: the session itself, Sluice's, the administrator's, and what has not ended yet."""
_SHUFFLED: Mapping[str, str] = {
    "enable_hashagg": "off",
    "enable_hashjoin": "off",
    "enable_indexscan": "off",
    "enable_bitmapscan": "off",
}
_SHUFFLE = """
DO $do$
DECLARE r record;
BEGIN
  SET LOCAL session_replication_role = replica;
  FOR r IN SELECT c.oid::regclass AS rel, (SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
               AND a.attidentity <> 'a' ORDER BY a.attnum LIMIT 1) AS col
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  LOOP
    EXECUTE format('UPDATE %s t SET %s = %s WHERE pg_catalog.hashtext(t::text) %% 2 = 0', r.rel, r.col, r.col);
  END LOOP;
END
$do$
"""
RECONNECT_AFTER = 60
"""Statements after which a session is opened anew."""


@dataclass(frozen=True, slots=True)
class Fixture:
    """A database to be fuzzed."""

    schema: Path
    """SQL; defines ``seed.reset(world text)``."""
    policies: Path
    """Folder with ``classification.yaml``."""
    dbname: str
    namespace: str
    role: str
    after_create: str = ""
    """SQL for a new database, beside its schema."""
    after_reset: str = ""
    """SQL that makes equal what ``seed.reset`` leaves different and no policy hides, sequences for one."""
    unread: tuple[str, ...] = ()
    """Relations that the grammar leaves alone."""
    without: tuple[str, ...] = ()
    """Lines of the policies that name one of these are left out: what a policy exempts differs by its own will."""


class World:
    """One server, with Sluice before it, and a session of the restricted identity."""

    def __init__(
        self,
        fixture: Fixture,
        world: str,
        stack: contextlib.ExitStack,
        *,
        installation: Installation | None = None,
        shuffled: bool = False,
        direct: bool = False,
    ) -> None:
        """Start it; ``direct``: without Sluice."""
        self.fixture, self.world, self.shuffled = fixture, world, shuffled
        self.server = stack.enter_context(
            Server(
                installation or find(contrib=True),
                settings={**_SETTINGS, **(_SHUFFLED if shuffled else {})},
                hba=[f"host all {fixture.role} 127.0.0.1/32 trust"],
            )
        )
        self.server.create_database(fixture.dbname, fixture.schema)
        self.admin = psycopg.connect(self.server.dsn(dbname=fixture.dbname), autocommit=True)
        stack.callback(self.admin.close)
        if fixture.after_create:
            self._admin(fixture.after_create)
        self._admin(f"ALTER ROLE {fixture.role} SET statement_timeout = '3s'")
        create_catalog_role(
            self.server.admin_dsn
        )  # Also where there is no Sluice: it shows in pg_roles.
        self._make_temporary_schemas()
        self.sluice: Sluice | None = None
        if not direct:
            self.sluice = stack.enter_context(
                Sluice(
                    self.server,
                    dbname=fixture.dbname,
                    policies=_policies(fixture, stack),
                    namespace=fixture.namespace,
                )
            )
        self._connection: Connection | None = None
        self._used = 0
        stack.callback(self.disconnect)
        self.reset()

    def _make_temporary_schemas(self) -> None:
        """Have the schema of every session that there may be: pg_namespace shows which were ever used."""
        dsn = self.server.dsn(dbname=self.fixture.dbname)
        with contextlib.ExitStack() as held:
            for _ in range(_SESSIONS):
                connection = psycopg.connect(dsn, autocommit=True)
                held.callback(connection.close)
                connection.execute("CREATE TEMP TABLE held ()")

    def reset(self) -> None:
        """Bring the data back to what this world starts with; ends the session."""
        self.disconnect()
        self._admin(f"CALL seed.reset('{self.world}')")
        if self.fixture.after_reset:
            self._admin(self.fixture.after_reset)
        if self.shuffled:
            self._admin(_SHUFFLE)

    def _admin(self, sql: str) -> None:
        self.admin.execute(sql.encode())

    def connection(self) -> Connection:
        """Return the session, opened anew now and then."""
        if self._connection is None or self._connection.closed or self._used >= RECONNECT_AFTER:
            self.disconnect()
            here = self.sluice or self.server
            self._connection = Connection(
                here.host, here.port, user=self.fixture.role, dbname=self.fixture.dbname
            )
            self._used = 0
        self._used += 1
        return self._connection

    def without_port(self, messages: list[Message]) -> list[Message]:
        """Return the messages with the server's port, which is ours to choose, taken out; all are of five digits."""
        port = re.compile(rb"(?<!\d)%d(?!\d)" % self.server.port)
        return [
            (kind, port.sub(b"#port", body) if kind in "Dd" else body) for kind, body in messages
        ]

    def disconnect(self) -> None:
        """End the session."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _policies(fixture: Fixture, stack: contextlib.ExitStack) -> Path:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-worlds-")))
    for path in fixture.policies.glob("*.yaml"):
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not any(word in line for word in fixture.without)]
        (folder / path.name).write_text("".join(kept))
    return folder


def ask(worlds: list[World], statement: Statement) -> list[list[list[Message]]]:
    """Send a statement to each world and return, for each, the messages of each step.

    Raises:
        SilentError: One of them said nothing for 20 seconds; all sessions are ended.
    """
    answers: list[list[list[Message]]] = [[] for _ in worlds]
    sessions = [world.connection() for world in worlds]
    steps = statement.steps
    try:
        if not statement.bare and not statement.own:
            for session in sessions:
                session.ask("BEGIN")
        for step in steps:
            for session in sessions:
                session.send(step.data)
            for world, session, answer in zip(worlds, sessions, answers, strict=True):
                messages = session.receive(step.ready, step.copy_in, sync=step.data[:1] != b"Q")
                answer.append(world.without_port(messages))
        if not statement.bare:
            after = ("ROLLBACK", "DISCARD ALL") if statement.own else ("ROLLBACK",)
            for session, answer in zip(sessions, answers, strict=True):
                answer.append([] if session.closed else session.ask(*after))
    except SilentError:
        for world in worlds:
            world.disconnect()
        raise
    return answers
