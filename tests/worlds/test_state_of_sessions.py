"""What a session does to its own state in odd ways: each hazard is shown on PostgreSQL, and is none through Sluice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sluice_dev.restricted import Restriction
from sluice_dev.worlds.wire import Connection, Message, error_fields, extended, frame, text

ROLE = "wanderer"
CANARY = b"canary@one.example"
SCHEMA = f"""
CREATE TABLE public.users (id int PRIMARY KEY, email text);
INSERT INTO public.users VALUES (1, '{CANARY.decode()}');
CREATE SCHEMA other;
CREATE FUNCTION other.left(varchar, int) RETURNS text LANGUAGE sql SECURITY DEFINER
 AS 'SELECT email FROM public.users';
CREATE ROLE {ROLE} LOGIN;
GRANT USAGE ON SCHEMA other TO {ROLE};
GRANT SELECT ON public.users TO {ROLE};
"""
RESTRICTION = Restriction(
    name="states",
    role=ROLE,
    unreviewed="allow",
    columns=[{"table": "public.users", "column": "email", "class": "pii.email"}],
    masks=[{"class": "pii.email", "mask": "redact"}],
    actions=["select", "session"],
)
CALL = "SELECT left('abc'::varchar, 1)"
PATH = "SELECT set_config('search_path', 'other, public', false)"


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[tuple[str, int], tuple[str, int]]]:
    """Where the server and Sluice listen."""
    with RESTRICTION.running(SCHEMA) as (server, sluice):
        yield (server.host, server.port), (sluice.host, sluice.port)


@pytest.fixture(params=["server", "sluice"])
def session(
    places: tuple[tuple[str, int], tuple[str, int]], request: pytest.FixtureRequest
) -> Iterator[Connection]:
    host, port = places[1] if request.param == "sluice" else places[0]
    one = Connection(host, port, user=ROLE, dbname="states")
    yield one
    one.close()


def judged(request: pytest.FixtureRequest, messages: list[Message]) -> None:
    """The hazard on the server, and no raw value through Sluice."""
    through = request.node.callspec.params["session"] == "sluice"
    assert any(CANARY in body for _, body in messages) is not through


def test_path_set_by_a_suspended_portal_is_known(
    session: Connection, request: pytest.FixtureRequest
) -> None:
    session.send(extended(PATH, rows=1))
    session.receive(1)
    judged(request, session.ask(CALL))


def test_path_set_by_a_portal_that_is_suspended_in_the_same_batch_is_known(
    session: Connection, request: pytest.FixtureRequest
) -> None:
    session.send(extended(PATH, rows=1, sync=False) + extended(CALL))
    judged(request, session.receive(1))


@pytest.mark.parametrize("run", ["EXECUTE n", "FETCH 1 FROM k", "MOVE 1 IN k"])
@pytest.mark.parametrize("apart", [True, False])
def test_path_set_by_name_is_not_set_unseen(
    session: Connection, request: pytest.FixtureRequest, run: str, apart: bool
) -> None:
    session.ask("BEGIN")
    bind = frame("B", text("k") + text("n") + bytes(6))
    session.send(frame("P", text("n") + text(PATH) + b"\0\0") + bind + frame("S", b""))
    session.receive(1)
    told = session.ask(run, CALL) if apart else session.ask(f"{run}; {CALL}")
    judged(request, told)


@pytest.mark.parametrize("skipped", [False, True])
def test_portal_bound_before_the_path_changed_is_not_understood_by_the_new_one(
    session: Connection, request: pytest.FixtureRequest, *, skipped: bool
) -> None:
    """COPY is no query: the server resolves the names in it when the portal is executed."""
    execute = frame("E", text("k") + bytes(4))
    session.ask("BEGIN")
    copy = frame("P", text("n") + text(f"COPY ({CALL}) TO STDOUT") + b"\0\0")
    session.send(copy + frame("B", text("k") + text("n") + bytes(6)) + frame("S", b""))
    session.receive(1)
    if skipped:
        session.ask("SAVEPOINT a")
        session.send(frame("P", b"\0SELEC\0\0\0") + execute + frame("S", b""))
        session.receive(1)
        session.ask("ROLLBACK TO a")
    session.ask("SET search_path = other, public")
    session.send(execute + frame("S", b""))
    judged(request, session.receive(1))


def test_path_that_a_failed_batch_put_back_is_known(
    session: Connection, request: pytest.FixtureRequest
) -> None:
    """The Close stands behind the Sync, so that Sluice cannot ask between the two."""
    assert session.ask("SET search_path = other, public")[-1] == ("Z", b"I")
    session.send(extended("SET search_path = pg_catalog", sync=False) + frame("H", b""))
    session.receive_until("C")
    session.send(extended("SELECT 1", sync=False) + frame("H", b""))
    session.receive_until("C")
    failing = extended("SELECT 1 / n FROM pg_catalog.generate_series(0, 0) n")
    session.send(failing + frame("C", b"Snone\0") + frame("H", b""))
    session.receive(1)
    session.receive_until("3")
    judged(request, session.ask(CALL))


def test_statement_that_has_a_name_of_sluices_stops_nothing(
    session: Connection, request: pytest.FixtureRequest
) -> None:
    told = session.ask('PREPARE "sluice\x01probe" AS SELECT 1', "SET search_path = public")
    told += session.ask("SELECT email FROM users")
    judged(request, told)
    if request.node.callspec.params["session"] == "sluice":
        assert [error_fields(body)["C"] for kind, body in told if kind == "E"] == ["42602"]
        assert told[-1] == ("Z", b"I")
