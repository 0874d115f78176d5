"""Reading the audit spool behind the data plane: counts what was denied, and prints records where logs are shipped.

The data plane answers cached statements without asking the brain, denied ones too; what it did is in the spool alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import structlog

from sluice_proxy import log_keys as keys
from sluice_proxy.sidecar.denials import Denials

log = structlog.get_logger(__name__)

STEP_S: Final = 0.25
SEGMENT_STEP_S: Final = 2.0
"""Between looks for the next segment at the end of the present one."""
CHUNK_BYTES: Final = 1 << 20
LINE_BYTES_MAX: Final = 64 << 20
"""A record names every table and class of its statement; what is longer is passed over."""
HASH_BYTES: Final = 65
"""Of the chain's hash and the blank that stand before each record."""
_DENIED: Final = b'"verdict":"deny"'


class AuditFollower:
    """Follows the spool of one run."""

    def __init__(
        self,
        directory: Path,
        incarnation: Callable[[], str | None],
        denials: Denials,
        *,
        stream: BinaryIO | None = None,
        spool_bytes_max: int = 1 << 30,
    ) -> None:
        """Make one.

        Args:
            directory: The spool.
            incarnation: Returns the name of this run; None while the spool is not open.
            denials: Counts what was denied.
            stream: Every record is written there as a line of JSON with ``"audit": true``; None: nowhere.
            spool_bytes_max: With a stream, segments of this run that were written there are removed when the
                spool is half full.
        """
        self._directory = directory
        self._incarnation = incarnation
        self._denials = denials
        self._stream = stream
        self._spool_bytes_max = spool_bytes_max
        self._lock = threading.Lock()
        self._look_at = 0.0
        self._file: BinaryIO | None = None
        self._segment = ""
        self._rest = b""

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                # Most looks find nothing: a thread is only asked when there is something to read.
                more = self._has_more() and await asyncio.to_thread(self.read)
            except OSError as error:
                log.error("audit spool cannot be read", **{keys.ERROR: str(error)})  # noqa: TRY400
                more = False
            if not more:
                await asyncio.sleep(STEP_S)

    def _has_more(self) -> bool:
        file = self._file
        if file is not None and os.fstat(file.fileno()).st_size > file.tell():
            return True
        now = time.monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + SEGMENT_STEP_S
        return True

    def read(self) -> bool:
        """Take what was written since; return whether there may be more.

        Raises:
            OSError: The spool cannot be read, or the stream is closed.
        """
        with self._lock:
            return self._read()

    def finish(self) -> None:
        """Take all that is left, and close the segment.

        Raises:
            OSError: As ``read``.
        """
        with self._lock:  # A read that was given up may still run in its thread.
            while self._read():
                pass
            if self._file is not None:
                self._file.close()
                self._file = None

    def _read(self) -> bool:
        if self._file is None and not self._next_segment():
            return False
        file = cast("BinaryIO", self._file)
        chunk = file.read(CHUNK_BYTES)
        if chunk:
            self._take(chunk)
            return True
        return self._next_segment()

    def _take(self, chunk: bytes) -> None:
        whole, newline, rest = (self._rest + chunk).rpartition(b"\n")
        self._rest = rest if len(rest) <= LINE_BYTES_MAX else b""
        if not newline:
            return
        if self._stream is not None:
            lines = (b'{"audit":true,' + line[HASH_BYTES + 1 :] for line in whole.split(b"\n"))
            self._stream.write(b"\n".join(lines) + b"\n")
            self._stream.flush()
        for line in _lines_with(whole, _DENIED):
            self._count(line[HASH_BYTES:])

    def _count(self, text: bytes) -> None:
        try:
            record = cast("dict[str, Any]", json.loads(text))
            statement, session = record["statement"], record["identity"]
            reasons = cast("list[dict[str, Any]]", statement.get("reasons") or [])
            database = str(session["database"])
        except (ValueError, KeyError, TypeError, AttributeError):
            log.warning("audit record is not understood")
            return
        if reasons:  # Without any, it could not be judged at that moment: no policy denied it.
            self._denials.add_reasons(database, reasons, "denied")

    def _next_segment(self) -> bool:
        """Go on to the next segment of this run; return whether there is one."""
        incarnation = self._incarnation()
        if incarnation is None:
            return False
        names = sorted(path.name for path in self._directory.glob(f"{incarnation}-*.jsonl"))
        later = [name for name in names if name > self._segment]
        if not later:
            return False
        if self._file is not None:
            # What was written between the last look and the next segment's beginning.
            while chunk := self._file.read(CHUNK_BYTES):
                self._take(chunk)
            self._file.close()
        self._segment, self._rest = later[0], b""
        self._file = (self._directory / self._segment).open("rb")
        self._make_room([name for name in names if name < self._segment])
        return True

    def _make_room(self, read: list[str]) -> None:
        """Remove segments that were written to the stream, oldest first, once half of the spool is used."""
        if self._stream is None:
            return
        sizes = {path: path.stat().st_size for path in self._directory.glob("*.jsonl")}
        used = sum(sizes.values())
        for name in read:
            path = self._directory / name
            if used <= self._spool_bytes_max // 2:
                return
            used -= sizes.get(path, 0)
            path.unlink(missing_ok=True)


def _lines_with(text: bytes, part: bytes) -> Iterator[bytes]:
    """Yield the lines that hold a part, without looking at the others one by one."""
    at = text.find(part)
    while at >= 0:
        begin = text.rfind(b"\n", 0, at) + 1
        end = text.find(b"\n", at)
        end = len(text) if end < 0 else end
        yield text[begin:end]
        at = text.find(part, end)
