"""An OPA that somebody else starts: the kubelet, in a container of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Final

import structlog

from sluice_proxy import log_keys as keys

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
AWAY_LOOK_S: Final = 0.25
"""While it is away: its next start waits for the removal of the socket that it left behind."""
FIRST_LOOK_S: Final = 0.05
"""Before it was first seen: the application's start waits for it."""
CONNECT_S: Final = 1.0
_CLOSED_TO_ALL: Final = b"GET /v1/policies HTTP/1.1\r\nHost: opa\r\nConnection: close\r\n\r\n"


OPEN: Final = (
    "OPA answers what its authorization policy must refuse: it is not the one that Sluice wrote"
)


class OutsideOpa:
    """Looks after an OPA without starting it; in the place of ``OpaProcess``."""

    def __init__(self, socket: Path) -> None:
        """Make one.

        Args:
            socket: Where it listens.
        """
        self._socket = socket
        self._refused: int | None = None
        self._guarded: tuple[int, int] | None = None
        self._listened = False
        self.restarts = 0
        self.problem: str | None = "OPA does not listen yet"
        """Why it cannot be asked; None when it can."""

    @property
    def pid(self) -> int | None:
        """Process id; never known."""
        return None

    def prepare(self) -> None:
        """Do nothing: what it reads was written before it was started."""

    async def run(self) -> None:
        """Look until cancelled whether it listens."""
        while True:
            problem = await self._look()
            if problem != self.problem:
                if problem is None:
                    self._listened = True
                    log.info("OPA listens", **{keys.PATH: str(self._socket)})
                elif problem == OPEN:
                    log.error("OPA is not used", **{keys.REASON: problem})
                elif not self._listened:
                    # It is started beside us, a moment before.
                    log.info("waiting for OPA", **{keys.REASON: problem})
                else:
                    self.restarts += 1
                    log.error("OPA does not listen", **{keys.REASON: problem})
                self.problem = problem
            if self.problem is None:
                await asyncio.sleep(LOOK_S)
            else:
                await asyncio.sleep(AWAY_LOOK_S if self._listened else FIRST_LOOK_S)

    async def _look(self) -> str | None:
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_unix_connection(self._socket)
                with contextlib.closing(writer):
                    problem = await self._try_door(reader, writer)
        except FileNotFoundError:
            self._refused = None
            return "OPA's socket is not there"
        except ConnectionRefusedError:
            self._remove_left_behind()
            return "OPA is not running"
        except (OSError, TimeoutError) as error:
            return f"OPA's socket cannot be used: {error or type(error).__name__}"
        self._refused = None
        return problem

    async def _try_door(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> str | None:
        """Ask a newly started OPA for what its authorization policy must refuse; return what is wrong with it.

        The policy comes to it through the pod's metadata, which is not as firm as the rest of the pod.
        """
        status = os.stat(self._socket)  # noqa: PTH116
        started = status.st_ino, status.st_ctime_ns
        if started == self._guarded:
            return None
        writer.write(_CLOSED_TO_ALL)
        await writer.drain()
        answer = await reader.readline()
        if not answer:
            return "OPA closed the connection"
        if not answer.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 403 ")):
            return OPEN
        self._guarded = started
        return None

    def _remove_left_behind(self) -> None:
        """Remove the socket of an OPA that was killed: the next one could not bind it.

        Only at the second look at the same file, for between bind and listen a new one refuses as well.
        """
        with contextlib.suppress(OSError):
            inode = os.stat(self._socket).st_ino  # noqa: PTH116
            if self._refused == inode:
                self._socket.unlink()
                inode = 0
            self._refused = inode or None
