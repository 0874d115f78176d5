"""A data plane with a scripted brain: real sockets, a real PostgreSQL, answers that each test chooses."""

from __future__ import annotations

import json
import select
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sluice_dev.postgres import Server
from sluice_proxy import _native as native
from sluice_proxy._native import (
    CatalogChecked,
    CatalogCheckRequest,
    DataPlane,
    Edit,
    Effects,
    ErrorFields,
    Plan,
    PlannedStatement,
    PlanRequest,
    Scrub,
    SessionAdmission,
    SessionClosed,
    SessionOpenRequest,
    SessionState,
    SessionStateRequest,
)

PROBE = (
    "SELECT pg_catalog.current_setting('search_path'), "
    "pg_catalog.current_setting('application_name')"
)


def split(text: bytes) -> list[tuple[int, int]]:
    """Token ranges of the statements of a text."""
    ranges, start = [], 0
    tokens = native.tokens(text)
    for position, token in enumerate(tokens):
        if text[token.start : token.end] == b";":
            if position > start:
                ranges.append((start, position))
            start = position + 1
    if start < len(tokens):
        ranges.append((start, len(tokens)))
    return ranges


def effects_of(words: list[str]) -> Effects | None:
    """What the few statements that the tests use do to a session."""
    match words:
        case ["prepare", name, *_]:
            return Effects(prepare=name)
        case ["execute", name, *_]:
            return Effects(execute=name)
        case ["deallocate", "all"]:
            return Effects(deallocate_all=True)
        case ["deallocate", name]:
            return Effects(deallocate=name)
        case ["declare", name, *_]:
            return Effects(declare=name)
        case ["fetch", *_, name]:
            return Effects(fetch=name)
        case ["set" | "reset" | "discard", *_]:
            return Effects(refresh=True)
        case _:
            return None


@dataclass
class Brain:
    """Answers the data plane from a thread of its own. Tests change its fields at any time."""

    plane: DataPlane
    upstream: str
    level: int = 1
    probe: str | None = PROBE
    revision: str = "r1"
    close: ErrorFields | None = None
    close_after_s: float = 30.0
    observe: bool = False
    scrub: Scrub = field(default_factory=lambda: Scrub(enabled=False))
    cache: str = "template"
    deny: Callable[[str], ErrorFields | None] = lambda _text: None
    edits: Callable[[bytes], list[Edit]] = lambda _text: []
    settled: bool = False
    statement: dict[str, Any] = field(default_factory=dict)
    """More arguments for every PlannedStatement."""
    same_catalog: Callable[[], bool] = lambda: True
    answer: Callable[[Any], Any] | None = None
    """Answers in place of the script when it returns something."""
    seen: list[Any] = field(default_factory=list)
    contexts: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def plans(self) -> list[bytes]:
        return [bytes(one.text) for one in self.seen if isinstance(one, PlanRequest)]

    def states(self) -> list[SessionStateRequest]:
        return [one for one in self.seen if isinstance(one, SessionStateRequest)]

    def reply(self, request: Any) -> Any:
        if self.answer is not None and (answer := self.answer(request)) is not None:
            return answer
        match request:
            case SessionOpenRequest():
                return SessionAdmission(
                    upstream=self.upstream,
                    probe=self.probe,
                    parameters=request.parameters,
                    audit=json.dumps({"role": request.user}).encode(),
                    upstream_name="shop",
                )
            case SessionStateRequest():
                return self.state(request)
            case CatalogCheckRequest():
                return CatalogChecked(same=self.same_catalog())
            case _:
                return self.plan(request)

    def state(self, request: SessionStateRequest) -> SessionState:
        key = (self.revision, self.level, request.probe_row)
        return SessionState(
            context=self.contexts.setdefault(key, len(self.contexts) + 1),
            level=self.level,
            revision=self.revision,
            sequence=1,
            scrub=self.scrub,
            close=self.close,
            close_after_s=self.close_after_s,
            observe=self.observe,
        )

    def plan(self, request: PlanRequest) -> Plan:
        text = bytes(request.text)
        tokens = native.tokens(text)
        edits = self.edits(text)
        statements = []
        for start, end in split(text):
            words = [
                text[token.start : token.end].decode(errors="replace")
                for token in tokens[start:end]
            ]
            error = self.deny(
                text[tokens[start].start : tokens[end - 1].end].decode(errors="replace")
            )
            statements.append(
                PlannedStatement(
                    tokens=(start, end),
                    audit=json.dumps({"kind": words[0].lower()}).encode(),
                    edits=[edit for edit in edits if start <= edit.start <= end],
                    denial=native.Denial(error) if error else None,
                    effects=effects_of([word.lower() for word in words]),
                    **self.statement,
                )
            )
        return Plan(
            statements=statements,
            cache=self.cache,
            revision=self.revision,
            settled=self.settled and len(statements) > 1,
        )

    def by_name(self, held: dict[str, Any], running: dict[str, Any]) -> None:
        """Give what PREPARE and DECLARE hold other arguments than what runs it by its name."""

        def answer(request: Any) -> Any:
            if not isinstance(request, PlanRequest):
                return None
            holds = bytes(request.text).split()[0] in (b"PREPARE", b"DECLARE")
            self.statement = held if holds else running
            return self.plan(request)

        self.answer = answer

    def serve(self, stop: threading.Event) -> None:
        while not stop.is_set():
            select.select([self.plane.event_fd()], [], [], 0.05)
            for request in self.plane.requests():
                self.seen.append(request)
                if not isinstance(request, SessionClosed):
                    self.plane.complete(request.id, self.reply(request))


@dataclass
class Stack:
    """A running data plane, its brain, the server behind it."""

    plane: DataPlane
    brain: Brain
    server: Server
    address: str
    spool: Path

    @property
    def host(self) -> str:
        return self.address.rsplit(":", 1)[0]

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    def dsn(self, **more: str) -> str:
        return psycopg.conninfo.make_conninfo(
            self.server.dsn(**more), host=self.host, port=self.port, sslmode="prefer"
        )

    def connect(self, **more: Any) -> psycopg.Connection[Any]:
        more.setdefault("autocommit", True)
        return psycopg.connect(self.dsn(), **more)

    def records(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The audit's records so far."""
        found = []
        for path in sorted(self.spool.glob("*.jsonl")):
            for line in path.read_bytes().splitlines():
                record = json.loads(line[65:])
                if kind is None or record["kind"] == kind:
                    found.append(record)
        return found


@pytest.fixture
def start_stack(postgres: Server, tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """A function that starts a stack; its arguments are the data plane's, and the brain's fields."""
    stops: list[tuple[DataPlane, threading.Event, threading.Thread]] = []

    def start(*, brain: dict[str, Any] | None = None, **bounds: Any) -> Stack:
        spool = tmp_path / f"spool{len(stops)}"
        plane = DataPlane(spool_directory=str(spool), **bounds)
        scripted = Brain(plane, f"{postgres.host}:{postgres.port}", **(brain or {}))
        stop = threading.Event()
        thread = threading.Thread(target=scripted.serve, args=(stop,), daemon=True)
        thread.start()
        stops.append((plane, stop, thread))
        address = plane.listen("shop", "127.0.0.1:0")
        return Stack(plane, scripted, postgres, address, spool)

    yield start
    for plane, stop, thread in stops:
        plane.stop()
        stop.set()
        thread.join()


@pytest.fixture
def stack(start_stack: Callable[..., Stack]) -> Stack:
    """A guarded session's data plane."""
    return start_stack()


class Wire:
    """A client of raw bytes."""

    def __init__(self, host: str, port: int) -> None:
        import socket  # noqa: PLC0415 - the one user.

        self.socket = socket.create_connection((host, port), timeout=10)
        self.buffer = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def startup(self, version: int = 196608, **parameters: str) -> None:
        body = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items()) + b"\0"
        self.send(struct.pack("!II", len(body) + 8, version) + body)

    def frame(self) -> tuple[str, bytes]:
        """The next frame; ("", b"") at the end of the stream."""
        while len(self.buffer) < 5 or len(self.buffer) < self._length():
            data = self.socket.recv(65536)
            if not data:
                return "", b""
            self.buffer += data
        length = self._length()
        frame, self.buffer = self.buffer[:length], self.buffer[length:]
        return chr(frame[0]), frame[5:]

    def _length(self) -> int:
        return 1 + struct.unpack("!I", self.buffer[1:5])[0]

    def until(self, tag: str) -> list[tuple[str, bytes]]:
        """Frames up to one of this tag, or to the end of the stream."""
        frames = []
        while True:
            frame = self.frame()
            if frame[0]:
                frames.append(frame)
            if frame[0] in (tag, ""):
                return frames

    def login(self, user: str, password: str, dbname: str, **more: str) -> list[tuple[str, bytes]]:
        """Log in with a clear-text password; every frame up to the first ReadyForQuery."""
        self.startup(user=user, database=dbname, **more)
        first = self.frame()
        assert first == ("R", struct.pack("!I", 3)), first
        self.send(message("p", password.encode() + b"\0"))
        return self.until("Z")

    def close(self) -> None:
        self.socket.close()


def message(tag: str, body: bytes = b"") -> bytes:
    return tag.encode() + struct.pack("!I", len(body) + 4) + body


class Messages:
    """Builders of the protocol's messages."""

    message = staticmethod(message)

    @staticmethod
    def query(text: str) -> bytes:
        return message("Q", text.encode() + b"\0")

    @staticmethod
    def parse(text: str, name: str = "") -> bytes:
        return message("P", name.encode() + b"\0" + text.encode() + b"\0\0\0")

    @staticmethod
    def bind(statement: str = "", portal: str = "") -> bytes:
        return message("B", portal.encode() + b"\0" + statement.encode() + b"\0" + bytes(6))

    @staticmethod
    def execute(portal: str = "", rows: int = 0) -> bytes:
        return message("E", portal.encode() + b"\0" + struct.pack("!i", rows))

    sync = staticmethod(lambda: message("S"))
    flush = staticmethod(lambda: message("H"))


@pytest.fixture
def wire() -> type[Messages]:
    """Builders of messages."""
    return Messages


@pytest.fixture(scope="session")
def clear_role(postgres: Server) -> tuple[str, str]:
    """A role and its password; raw clients use `open_wire`, which needs no SCRAM."""
    with psycopg.connect(postgres.admin_dsn, autocommit=True) as admin:
        rules = postgres.directory / "data" / "pg_hba.conf"
        rules.write_text("host all wire_role 127.0.0.1/32 password\n" + rules.read_text())
        admin.execute("CREATE ROLE wire_role LOGIN SUPERUSER PASSWORD 'wire-pw'")
        admin.execute("SELECT pg_reload_conf()")
    return "wire_role", "wire-pw"


@pytest.fixture
def open_wire(clear_role: tuple[str, str]) -> Iterator[Callable[..., Wire]]:
    """A function that opens a raw connection; logged in unless told otherwise."""
    opened: list[Wire] = []

    def open_(host: str, port: int, *, login: bool = True) -> Wire:
        one = Wire(host, port)
        opened.append(one)
        if login:
            frames = one.login(*clear_role, "postgres")
            assert frames[-1][0] == "Z", frames
        return one

    yield open_
    for one in opened:
        one.close()
