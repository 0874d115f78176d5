"""A PostgreSQL client that keeps every message it receives, so that two conversations can be compared."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Message = tuple[str, bytes]
"""A message's type letter and its body; ``("!", b"closed")`` stands for the end of the connection."""

_PROTOCOL = 196608
_TIMEOUT_S = 20.0


class SilentError(Exception):
    """The server said nothing for too long."""


@dataclass(frozen=True, slots=True)
class Step:
    """Bytes sent at once, and how many ReadyForQuery answer them."""

    data: bytes
    ready: int = 1
    copy_in: tuple[bytes, ...] = ()
    """What is sent when the server asks for COPY data."""


def frame(kind: str, body: bytes) -> bytes:
    """Return one message."""
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def text(value: str) -> bytes:
    """Return a NUL-terminated string; lone surrogates stand for bytes that are no UTF-8."""
    return value.encode("utf-8", "surrogateescape") + b"\0"


def query(sql: str) -> bytes:
    """Return a Query message."""
    return frame("Q", text(sql))


def extended(
    sql: str,
    parameters: Sequence[bytes | None] = (),
    *,
    types: Sequence[int] = (),
    binary: bool = False,
    result_format: int = 0,
    rows: int = 0,
    name: str = "",
    sync: bool = True,
) -> bytes:
    """Return Parse, Bind, Describe, Execute and Sync of one statement.

    Args:
        sql: The statement.
        parameters: None is NULL.
        types: OIDs that Parse declares.
        binary: The format of the parameters.
        result_format: 0 text, 1 binary.
        rows: Execute's row limit, 0: none.
        name: Of the prepared statement.
        sync: False leaves Sync to what follows.
    """
    oids = struct.pack(f"!H{len(types)}I", len(types), *types)
    parse = frame("P", text(name) + text(sql) + oids)
    return parse + bound(
        name, parameters, binary=binary, result_format=result_format, rows=rows, sync=sync
    )


def bound(
    name: str,
    parameters: Sequence[bytes | None] = (),
    *,
    binary: bool = False,
    result_format: int = 0,
    rows: int = 0,
    sync: bool = True,
) -> bytes:
    """Return Bind, Describe, Execute and Sync of a statement that was parsed before; arguments as of `extended`."""
    bind = text("") + text(name) + struct.pack("!HHH", 1, int(binary), len(parameters))
    for value in parameters:
        bind += struct.pack("!i", -1) if value is None else struct.pack("!I", len(value)) + value
    bind += struct.pack("!HH", 1, result_format)
    execute = b"\0" + struct.pack("!I", rows)
    parts = [("B", bind), ("D", b"P\0"), ("E", execute), *([("S", b"")] if sync else [])]
    return b"".join(frame(kind, body) for kind, body in parts)


def closed(name: str) -> bytes:
    """Return Close of a prepared statement, and Sync."""
    return frame("C", b"S" + text(name)) + frame("S", b"")


class Connection:
    """One session of a role that needs no password."""

    def __init__(self, host: str, port: int, *, user: str, dbname: str) -> None:
        """Connect and wait for the first ReadyForQuery.

        Raises:
            ConnectionError: The server refused; its words are in the message.
        """
        self._socket = socket.create_connection((host, port), timeout=_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self.closed = False
        body = struct.pack("!I", _PROTOCOL)
        for word in ("user", user, "database", dbname, "application_name", "worlds"):
            body += text(word)
        body += b"\0"
        self._socket.sendall(struct.pack("!I", len(body) + 4) + body)
        messages = self.receive(1)
        if self.closed or messages[-1][0] != "Z":
            self._socket.close()
            raise ConnectionError(f"no session: {messages[-2:]}")

    def send(self, data: bytes) -> None:
        """Send bytes; a closed connection shows at the next `receive`."""
        try:
            self._socket.sendall(data)
        except OSError:
            self.closed = True

    def receive(
        self, ready: int, copy_in: Iterable[bytes] = (), *, sync: bool = False
    ) -> list[Message]:
        """Return all messages up to the given number of ReadyForQuery.

        Args:
            ready: How many.
            copy_in: Sent when the server asks for COPY data.
            sync: The statement came by extended query: the Sync sent with it is lost in the COPY.

        Raises:
            SilentError: Nothing came for 20 seconds.
        """
        got: list[Message] = []
        while ready > 0:
            message = self._next()
            if message is None:
                self.closed = True
                got.append(("!", b"closed"))
                return got
            got.append(message)
            if message[0] == "Z":
                ready -= 1
            elif message[0] == "G":
                self.send(b"".join(frame("d", piece) for piece in copy_in) + frame("c", b""))
                if sync:
                    self.send(frame("S", b""))
        return got

    def receive_until(self, kind: str) -> list[Message]:
        """Return all messages up to one of this kind, or to the end of the connection.

        Raises:
            SilentError: Nothing came for 20 seconds.
        """
        got: list[Message] = []
        while message := self._next():
            got.append(message)
            if message[0] == kind:
                return got
        self.closed = True
        return [*got, ("!", b"closed")]

    def ask(self, *sql: str) -> list[Message]:
        """Send each text as a Query of its own and return what came back."""
        self.send(b"".join(query(one) for one in sql))
        return self.receive(len(sql))

    def close(self) -> None:
        """End the session."""
        if not self.closed:
            self.send(frame("X", b""))
        self._socket.close()

    def _next(self) -> Message | None:
        while len(self._buffer) < 5 or len(self._buffer) < 1 + self._length():
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError as late:
                raise SilentError from late
            except OSError:
                return None
            if not data:
                return None
            self._buffer += data
        end = 1 + self._length()
        message = (chr(self._buffer[0]), bytes(self._buffer[5:end]))
        del self._buffer[:end]
        return message

    def _length(self) -> int:
        return int.from_bytes(self._buffer[1:5], "big")


def error_fields(body: bytes) -> dict[str, str]:
    """Return the fields of an ErrorResponse or NoticeResponse by their letter."""
    return {
        field[:1].decode(): field[1:].decode("utf-8", "replace")
        for field in body.split(b"\0")
        if field
    }
