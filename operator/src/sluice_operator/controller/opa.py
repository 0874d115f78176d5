"""A local OPA: found, started on a unix socket in a private folder, kept alive, asked."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import structlog

from sluice_operator import log_keys as keys

log = structlog.get_logger(__name__)

START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 5.0
ASK_TIMEOUT_S: Final = 30.0
RESTART_DELAY_S: Final = 1.0
LISTEN_POLL_S: Final = 0.02
MESSAGE_BYTES_MAX: Final = 500
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


class OpaError(Exception):
    """OPA cannot be used now. The message says why."""


def find_opa(given: str | None, environment: Mapping[str, str]) -> Path:
    """Return the program: the one given, else ``opa`` of the PATH.

    Raises:
        OpaError: There is none.
    """
    found = shutil.which(given or "opa", path=environment.get("PATH"))
    if found is None:
        raise OpaError(f"{given or 'opa'} is not there or not executable; name OPA with SLUICE_OPA")
    return Path(found)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class LocalOpa:
    """An OPA for ourselves alone. After a crash it is started anew, with the modules and without data."""

    def __init__(self, program: Path, modules: Mapping[str, bytes]) -> None:
        """Make one; ``running`` starts it with ``modules`` (path → Rego)."""
        self._program = program
        self._modules = modules
        self._socket = ""
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Run it for the time of the context.

        Raises:
            OpaError: It does not start.
        """
        with tempfile.TemporaryDirectory(prefix="sluice-opa-") as folder:
            self._socket = f"{folder}/opa.sock"
            _write(Path(folder, "modules"), self._modules)
            connector = aiohttp.UnixConnector(path=self._socket)
            timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
            async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                self._session = session
                first = await self._start(folder)
                keeper = asyncio.create_task(self._keep(first, folder), name="opa")
                try:
                    yield
                finally:
                    keeper.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await keeper
                    self._session = None

    async def _start(self, folder: str) -> asyncio.subprocess.Process:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._socket)  # noqa: PTH108  A blink, in a folder in memory.
        errors = os.open(f"{folder}/errors", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            return await self._started(folder, errors)
        finally:
            os.close(errors)

    async def _started(self, folder: str, errors: int) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            str(self._program),
            "run",
            "--server",
            f"--addr=unix://{self._socket}",
            "--log-level=error",
            "--skip-version-check",
            f"{folder}/modules",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=errors,
            cwd=folder,
            env={"PATH": os.environ.get("PATH", ""), "HOME": folder},
            preexec_fn=_die_with_parent,
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await self._healthy():
                    if process.returncode is not None:
                        said = os.pread(errors, 500, 0).decode(errors="replace").strip()
                        raise OpaError(f"{self._program} ended at once: {said}")
                    await asyncio.sleep(LISTEN_POLL_S)
        except TimeoutError as error:
            await _stop(process)
            raise OpaError(f"{self._program} did not answer in {START_TIMEOUT_S:g} s") from error
        return process

    async def lacks(self, capabilities: str) -> str | None:
        """Return what an OPA with these capabilities has against the modules; None when it would load them.

        Args:
            capabilities: A version of OPA (``v1.21.3``), or a file as ``opa capabilities`` prints it.

        Raises:
            OpaError: It cannot be said.
        """
        process = await asyncio.create_subprocess_exec(
            str(self._program),
            "check",
            "--format=json",
            f"--capabilities={capabilities}",
            f"{Path(self._socket).parent}/modules",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=_die_with_parent,
        )
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                said, _ = await process.communicate()
        except TimeoutError as error:
            await _stop(process)
            raise OpaError(f"{self._program} check did not end in {ASK_TIMEOUT_S:g} s") from error
        if process.returncode == 0:
            return None
        return _message(said) or said[:MESSAGE_BYTES_MAX].decode(errors="replace").strip()

    async def _healthy(self) -> bool:
        try:
            await self.ask("GET", "/health")
        except OpaError:
            return False
        return True

    async def _keep(self, process: asyncio.subprocess.Process, folder: str) -> None:
        try:
            while True:
                code = await process.wait()
                log.error("OPA ended and is started anew", **{keys.STATUS: code})
                await asyncio.sleep(RESTART_DELAY_S)
                try:
                    process = await self._start(folder)
                except OpaError as error:
                    log.error("OPA does not start", **{keys.ERROR: str(error)})  # noqa: TRY400
        finally:
            await _stop(process)

    async def ask(
        self, method: str, path: str, body: object = None, *, text: bytes | None = None
    ) -> Any:
        """Send one request and return the answer's JSON; None when there is none.

        Args:
            method: HTTP's.
            path: From ``/``.
            body: Sent as JSON.
            text: Sent as it is, instead of ``body``.

        Raises:
            OpaError: OPA is away, or refuses; the message is OPA's.
        """
        if self._session is None:
            raise OpaError("OPA does not run")
        data = text if text is not None else (None if body is None else json.dumps(body).encode())
        try:
            async with self._session.request(method, f"http://opa{path}", data=data) as answer:
                content = await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise OpaError(f"OPA does not answer: {error or type(error).__name__}") from error
        if status >= 300:
            raise OpaError(_message(content) or f"OPA answered with status {status}")
        return json.loads(content) if content.strip() else None


def _write(folder: Path, modules: Mapping[str, bytes]) -> None:
    for path, text in modules.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text)


def _message(content: bytes) -> str:
    try:
        fields: Any = json.loads(content)
        errors = "; ".join(str(one.get("message", "")) for one in fields.get("errors") or ())
        return f"{fields.get('message', '')}: {errors}".strip(": ")
    except (ValueError, AttributeError):
        return ""


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
