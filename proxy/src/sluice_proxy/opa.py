"""Running Open Policy Agent beside the proxy: finding it, its version, its configuration, and keeping it alive.

It listens on a unix socket in a private directory only, with an authorization policy that admits the two decisions and
the health check: on TCP an application could rewrite its data (docs/threat-model).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from sluice_proxy import log_keys as keys
from sluice_proxy.bundles.server import BundleServer
from sluice_proxy.opa_files import OpaError, opa_arguments, prepare_directory, socket_path

log = structlog.get_logger(__name__)

VERSION_MIN: Final = (1, 21, 3)
"""Older ones accept unsigned bundles when several keys are configured."""
RESTART_DELAY_MIN_S: Final = 0.1
RESTART_DELAY_MAX_S: Final = 5.0
STEADY_S: Final = 30.0
"""Alive so long, the next restart is at once again."""
STOP_TIMEOUT_S: Final = 5.0

_LIBC: Final = ctypes.CDLL(None)
_PR_SET_PDEATHSIG: Final = 1
VERSION_TIMEOUT_S: Final = 10.0


def find_opa(given: str | None, environment: Mapping[str, str]) -> Path:
    """Return the program: the one given, else ``SLUICE_OPA``, else ``opa`` of the PATH.

    Raises:
        OpaError: There is none.
    """
    named = given or environment.get("SLUICE_OPA")
    if named:
        path = shutil.which(named, path=environment.get("PATH"))
        if path is None:
            raise OpaError(f"OPA cannot be run: {named} is not there or not executable")
        return Path(path)
    path = shutil.which("opa", path=environment.get("PATH"))
    if path is None:
        raise OpaError(
            f"OPA was not found; install Open Policy Agent {_dotted(VERSION_MIN)} or newer and name it with --opa PATH"
        )
    return Path(path)


async def check_version(program: Path) -> str:
    """Return the version of OPA.

    Raises:
        OpaError: It does not run, or is too old.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            str(program),
            "version",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=_environment(),
        )
    except OSError as error:
        raise OpaError(f"OPA cannot be run: {program}: {error.strerror}") from error
    try:
        async with asyncio.timeout(VERSION_TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise OpaError(
            f"{program} did not tell its version within {VERSION_TIMEOUT_S:g} s"
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    match = re.search(rb"^Version: v?(\d+)\.(\d+)\.(\d+)", output, re.MULTILINE)
    if match is None:
        raise OpaError(f"{program} is not Open Policy Agent: `{program} version` names no version")
    version = tuple(int(part) for part in match.groups())
    if version < VERSION_MIN:
        raise OpaError(
            f"OPA {_dotted(version)} ({program}) is too old; install {_dotted(VERSION_MIN)} or newer"
        )
    return _dotted(version)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaConfig:
    """What an OPA is started with."""

    program: Path
    directory: Path
    """Private (0700); OPA's configuration, socket and persisted bundle are kept here."""
    server: BundleServer
    """Where OPA gets its bundles; it must have been started when OPA is."""
    keys: Mapping[str, str]
    """Public keys (PEM) by key id."""

    @property
    def socket_path(self) -> Path:
        """Where OPA listens."""
        return socket_path(self.directory)

    def command(self) -> list[str]:
        """Return the command line; no secret is in it."""
        return [str(self.program), *opa_arguments(self.directory)]


class OpaProcess:
    """One OPA, started again when it ends."""

    def __init__(self, config: OpaConfig) -> None:
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self.restarts = 0
        self.problem: str | None = "OPA has not been started"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def prepare(self) -> None:
        """Write what OPA reads.

        Raises:
            OpaError: The socket's path would be longer than the system takes.
        """
        prepare_directory(self._config.directory, self._config.server.url, self._config.keys)

    async def run(self) -> None:
        """Keep OPA running until cancelled; it is stopped on the way out."""
        delay = RESTART_DELAY_MIN_S
        try:
            while True:
                began = asyncio.get_running_loop().time()
                await self._run_once()
                if asyncio.get_running_loop().time() - began > STEADY_S:
                    delay = RESTART_DELAY_MIN_S
                log.error("OPA ended", **{keys.REASON: self.problem, keys.DELAY_S: delay})
                await asyncio.sleep(delay)
                delay = min(delay * 2, RESTART_DELAY_MAX_S)
                self.restarts += 1
        finally:
            await self._end()

    async def _run_once(self) -> None:
        # A socket that a killed OPA left behind would make the next one fail to bind.
        self._config.socket_path.unlink(missing_ok=True)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._config.command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=_environment(),
                # Its own group: a terminal's Ctrl-C must not take OPA away before the sessions are drained.
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        except OSError as error:
            self.problem = f"OPA cannot be run: {error.strerror}"
            return
        self.problem = None
        log.info("OPA started", **{keys.PID: self._process.pid})
        last = await self._follow_errors(self._process)
        code = await self._process.wait()
        if code < 0:
            self.problem = f"OPA was ended by {signal.Signals(-code).name}"
        else:
            self.problem = f"OPA ended with code {code}" + (f": {last}" if last else "")

    async def _follow_errors(self, process: asyncio.subprocess.Process) -> str:
        """Pass on what OPA says on standard error; return its last line."""
        last = ""
        stream = process.stderr
        if stream is None:
            return last
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                continue  # A line above the stream's bound is dropped.
            if not line:
                return last
            said = _message_of(line)
            if said != last:  # It repeats itself with every poll.
                log.warning("OPA says", **{keys.REASON: said})
            last = said

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _message_of(line: bytes) -> str:
    text = line.decode(errors="replace").strip()[:1000]
    with contextlib.suppress(ValueError, AttributeError):
        document = json.loads(text)
        return " ".join(str(document[name]) for name in ("msg", "err") if name in document) or text
    return text


def _environment() -> dict[str, str]:
    """Return OPA's environment: nothing of ours, because catalog passwords may be in it."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}


def _die_with_parent() -> None:
    """Ask the kernel to end OPA when the proxy is killed; runs in the child, between fork and exec."""
    with contextlib.suppress(OSError, AttributeError):
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
