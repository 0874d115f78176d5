"""Any sequence of messages: an open session gets PostgreSQL's own bytes, a governed one never hangs."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_proxy._native import ErrorFields, Scrub

EXAMPLES = int(os.environ.get("SLUICE_SEQUENCES", "25"))
TEXTS = [
    "",
    ";",
    "SELEC",
    "SELECT 1",
    "SELECT 1; SELECT 2",
    "SELECT 1; SELEC",
    "SELECT 1; SELECT 1/0; SELECT 2",
    "SELECT generate_series(1, 3)",
    "SELECT 1/(g-2) FROM generate_series(1, 3) g",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "BEGIN; SET LOCAL application_name = 'a'; COMMIT",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "CREATE TEMP TABLE IF NOT EXISTS t (n int)",
    "INSERT INTO t VALUES (1)",
    "SELECT n + 0 FROM t",  # A column itself would bring the OID of its table.
    "COPY t FROM STDIN",
    "COPY t FROM STDIN; SELECT 1",
    "COPY (SELECT generate_series(1, 2)) TO STDOUT",
    "SET application_name = 'x'",
    "RESET ALL",
    "SET search_path = pg_catalog",
    "DISCARD ALL",
    "PREPARE p AS SELECT 2",
    "EXECUTE p",
    "DEALLOCATE p",
    "DEALLOCATE ALL",
    "DECLARE c CURSOR FOR SELECT generate_series(1, 5)",
    "FETCH 2 FROM c",
    "CLOSE c",
]
texts = st.sampled_from(TEXTS)
statements = st.sampled_from(["", "s", "p"])
portals = st.sampled_from(["", "q", "c"])


def message(tag: str, body: bytes = b"") -> bytes:
    return tag.encode() + struct.pack("!I", len(body) + 4) + body


def text(*values: str) -> bytes:
    return b"".join(value.encode() + b"\0" for value in values)


messages = st.one_of(
    texts.map(lambda sql: message("Q", text(sql))),
    st.builds(lambda name, sql: message("P", text(name, sql) + bytes(2)), statements, texts),
    st.builds(
        lambda portal, name: message("B", text(portal, name) + bytes(6)), portals, statements
    ),
    portals.map(lambda name: message("D", b"P" + text(name))),
    statements.map(lambda name: message("D", b"S" + text(name))),
    st.builds(
        lambda name, rows: message("E", text(name) + struct.pack("!i", rows)),
        portals,
        st.sampled_from([0, 0, 1, 2]),
    ),
    portals.map(lambda name: message("C", b"P" + text(name))),
    statements.map(lambda name: message("C", b"S" + text(name))),
    st.sampled_from([message("S")] * 3 + [message("H")]),
    st.sampled_from(
        [message("d", b"7\n"), message("d", b"x\n"), message("c"), message("f", text("no"))]
    ),
)
# A COPY may be open at the end, and messages that are no data end it one by one.
LAST = message("f", text("end")) + message("S") * 2 + message("X")
sequences = st.lists(messages, min_size=1, max_size=14)


def conversation(client, sequence: list[bytes], batches: list[int]) -> bytes:
    """Send a sequence in some writes and return everything that comes back."""
    sent = [*sequence, LAST]
    for count in batches:
        client.send(b"".join(sent[:count]))
        sent = sent[count:]
    client.send(b"".join(sent))
    received = client.buffer
    client.socket.settimeout(8)
    try:
        while data := client.socket.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    except TimeoutError:
        pytest.fail(f"no end after {received!r}")
    finally:
        client.close()
    return received


def tags(stream: bytes) -> str:
    found = ""
    while len(stream) >= 5:
        found += chr(stream[0])
        stream = stream[1 + struct.unpack("!I", stream[1:5])[0] :]
    return found


fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
batches = st.lists(st.integers(min_value=1, max_value=4), max_size=4)


def test_open_session_gets_the_servers_own_bytes(start_stack: Callable, open_wire: Callable):
    stack = start_stack(brain={"level": 0, "probe": None})

    @fuzzed
    @given(sequences, batches)
    def compare(sequence: list[bytes], parts: list[int]) -> None:
        direct = conversation(open_wire(stack.server.host, stack.server.port), sequence, parts)
        assert conversation(open_wire(stack.host, stack.port), sequence, parts) == direct

    compare()


@pytest.mark.parametrize("observe", [False, True])
def test_governed_session_answers_as_often_as_the_server(
    start_stack: Callable, open_wire: Callable, observe: bool
):
    """Every ReadyForQuery comes, whatever is denied, probed or looked at in between."""
    stack = start_stack(
        brain={
            "level": 2,
            "observe": observe,
            "statement": {"catalog_check": "answer"},
            "scrub": Scrub(enabled=True),
        }
    )

    @fuzzed
    @given(sequences, batches, st.sampled_from(["", "SELECT 1", "INSERT", "COPY t", "DECLARE"]))
    def run(sequence: list[bytes], parts: list[int], denied: str) -> None:
        error = ErrorFields(sqlstate="42501", message="denied")
        stack.brain.deny = lambda sql: error if denied and denied in sql else None
        received = conversation(open_wire(stack.host, stack.port), sequence, parts)
        if not denied or observe:
            direct = conversation(open_wire(stack.server.host, stack.server.port), sequence, parts)
            assert tags(received).count("Z") == tags(direct).count("Z")

    run()
