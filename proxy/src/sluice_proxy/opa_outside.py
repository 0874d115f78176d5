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
CONNECT_S: Final = 1.0


class OutsideOpa:
    """Looks after an OPA without starting it; in the place of ``OpaProcess``."""

    def __init__(self, socket: Path) -> None:
        """Make one.

        Args:
            socket: Where it listens.
        """
        self._socket = socket
        self._refused: int | None = None
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
                elif not self._listened:
                    # It is started beside us, a moment before.
                    log.info("waiting for OPA", **{keys.REASON: problem})
                else:
                    self.restarts += 1
                    log.error("OPA does not listen", **{keys.REASON: problem})
                self.problem = problem
            await asyncio.sleep(LOOK_S if self.problem is None else AWAY_LOOK_S)

    async def _look(self) -> str | None:
        try:
            async with asyncio.timeout(CONNECT_S):
                _, writer = await asyncio.open_unix_connection(self._socket)
        except FileNotFoundError:
            self._refused = None
            return "OPA's socket is not there"
        except ConnectionRefusedError:
            self._remove_left_behind()
            return "OPA is not running"
        except (OSError, TimeoutError) as error:
            return f"OPA's socket cannot be used: {error or type(error).__name__}"
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self._refused = None
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
