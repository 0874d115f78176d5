"""A policy that changes while something of the session is under way: what the old one allowed is not shown later."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice_dev.postgres import Server
from sluice_dev.restricted import Restriction
from sluice_dev.stack import Sluice
from sluice_dev.worlds.wire import Connection, Message, error_fields, extended, frame, query

ROLE = "reader"
SCHEMA = f"""
CREATE TABLE public.users (id int PRIMARY KEY, email text);
INSERT INTO public.users VALUES (1, 'canary@one.example'), (2, 'canary@two.example');
CREATE ROLE {ROLE} LOGIN;
GRANT SELECT ON public.users TO {ROLE};
"""
LOOSE, STRICT = "email", "redact"
"""Kinds of masks; the first shows where an address is."""


def _restriction(mask: str) -> Restriction:
    return Restriction(
        name="changing",
        role=ROLE,
        unreviewed="allow",
        columns=[{"table": "public.users", "column": "email", "class": "pii.email"}],
        masks=[{"class": "pii.email", "mask": mask}],
        actions=["select", "session"],
    )


class Stand:
    """Sluice before a server, and a folder whose policies change."""

    def __init__(self, sluice: Sluice, policies: Path) -> None:
        self.sluice, self.policies = sluice, policies

    def session(self) -> Connection:
        return Connection(self.sluice.host, self.sluice.port, user=ROLE, dbname="changing")

    def put(self, mask: str) -> None:
        """Bring a mask into force, and wait until new sessions have it."""
        write(self.policies, mask)
        deadline = time.monotonic() + 20
        while not shown(session := self.session(), mask):
            session.close()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        session.close()
        time.sleep(0.3)  # Sessions that are idle hear of it by themselves.


def write(policies: Path, mask: str) -> None:
    for name, document in _restriction(mask).resources().items():
        made = policies / f".{name}.new"
        made.write_text(json.dumps(document))
        made.replace(policies / name)


def shown(session: Connection, mask: str) -> bool:
    found = session.ask("SELECT email FROM users")
    return loose(found) == (mask == LOOSE)


def loose(messages: list[Message]) -> bool:
    return any(b".example" in body for kind, body in messages if kind == "D")


def codes(messages: list[Message]) -> list[str]:
    return [error_fields(body)["C"] for kind, body in messages if kind == "E"]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    folder = tmp_path_factory.mktemp("policies")
    write(folder, LOOSE)
    with Server(hba=[f"host all {ROLE} 127.0.0.1/32 trust"]) as server:
        server.create_database("changing", SCHEMA)
        with Sluice(server, dbname="changing", policies=folder, namespace="changing") as sluice:
            yield Stand(sluice, folder)


@pytest.fixture
def session(stand: Stand) -> Iterator[Connection]:
    stand.put(LOOSE)
    one = stand.session()
    yield one
    one.close()


MADE = "CREATE TEMP TABLE copied AS SELECT email FROM users"


def test_table_made_in_a_batch_that_is_open_when_the_policy_changes_ends_the_session(
    stand: Stand, session: Connection
) -> None:
    session.send(extended(MADE, sync=False) + frame("H", b""))
    session.receive_until("C")
    stand.put(STRICT)
    session.send(frame("S", b""))
    session.receive(1)
    told = session.ask("TABLE copied")
    assert not loose(told)
    assert codes(told) == ["57P01"]


def test_table_made_by_a_statement_that_runs_when_the_policy_changes_ends_the_session(
    stand: Stand, session: Connection
) -> None:
    session.send(query(f"{MADE}, pg_catalog.generate_series(1, 15000000) g WHERE g = 1"))
    time.sleep(0.3)
    stand.put(STRICT)
    session.receive(1)
    told = session.ask("TABLE copied")
    assert not loose(told)
    assert codes(told) == ["57P01"]


def test_table_made_after_the_policy_changed_stays(stand: Stand, session: Connection) -> None:
    session.ask("SELECT 1")
    stand.put(STRICT)
    assert not codes(session.ask(MADE))
    told = session.ask("TABLE copied")
    assert not codes(told)
    assert not loose(told)


@pytest.mark.parametrize("hold", ["", " WITH HOLD"])
def test_cursor_of_the_policy_before_is_not_read(
    stand: Stand, session: Connection, hold: str
) -> None:
    session.ask("BEGIN", f"DECLARE k CURSOR{hold} FOR SELECT email FROM users")
    if hold:
        session.ask("COMMIT")
    stand.put(STRICT)
    told = session.ask("FETCH ALL FROM k")
    assert not loose(told)
    assert codes(told)[0] in ("55000", "57P01")


def test_statement_of_the_policy_before_is_not_run_by_a_batch_that_was_skipped(
    stand: Stand, session: Connection
) -> None:
    """The first batch fails, so that nothing in it is done; the second uses what the first was to make anew."""
    text = "SELECT email FROM users"
    session.send(extended(text, name="x"))
    assert loose(session.receive(1))
    stand.put(STRICT)
    session.send(extended("SELEC"))
    session.receive(1)
    parsed = extended(text, name="x")
    failing = frame("P", b"\0SELEC\0\0\0")
    from_x = extended("", name="x")[len(frame("P", b"x\0\0\0\0")) :]
    session.send(failing + from_x + from_x)
    assert not loose(session.receive(2))
    session.send(parsed + from_x)
    told = session.receive(2)
    assert not loose(told)
    assert any(kind == "D" for kind, _ in told)
