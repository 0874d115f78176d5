"""Processes that outlive the command that started them: found again by pid and start time, never by name."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

_ENTER = ("nsenter", "--mount", "--net", "--pid")

_LEFT_RUNNING: list[subprocess.Popen[bytes]] = []
"""Kept, so that Python does not complain of what is meant to go on without us."""


class Processes:
    """The programs of one cluster, each with ``NAME.pid`` and ``NAME.log`` in a folder."""

    def __init__(self, directory: Path) -> None:
        """Use this folder."""
        self._directory = directory

    def log(self, name: str) -> Path:
        """Return where a program writes."""
        return self._directory / f"{name}.log"

    def log_end(self, name: str, characters: int = 2000) -> str:
        """Return the end of what a program wrote."""
        path = self.log(name)
        return path.read_text(errors="replace")[-characters:] if path.exists() else "no log"

    def pid(self, name: str) -> int | None:
        """Return the pid of a program that runs; None when it does not (also when its number went to another)."""
        try:
            number, started = self._pid_file(name).read_text().split()
        except (OSError, ValueError):
            return None
        return int(number) if started_at(int(number)) == started else None

    def ensure(
        self,
        name: str,
        command: Sequence[str],
        *,
        inside: int | None = None,
        marker: str,
    ) -> bool:
        """Start a program unless it runs already; return whether it was started.

        Args:
            name: Of its files.
            command: Program and arguments.
            inside: Start it in the network, mount and pid namespaces of this process.
            marker: Text that only this program's command line has: a copy that was started by a command which
                was killed before it wrote the pid file is adopted by it.
        """
        if self.pid(name) is not None:
            return False
        self._directory.mkdir(parents=True, exist_ok=True)
        if found := _by_command_line(command[:2], marker):
            self._note(name, found)
            return False
        log = self.log(name)
        if log.exists():
            log.replace(log.with_suffix(".log.before"))
        enter = [] if inside is None else [*_ENTER, f"--target={inside}", "--"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*enter, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
            )
        _LEFT_RUNNING.append(process)
        # nsenter waits for the program it forked: that one is the one to know.
        self._note(name, process.pid if inside is None else _only_child(process))
        return True

    def stop(
        self, name: str, how: signal.Signals = signal.SIGTERM, *, within_s: float = 10
    ) -> bool:
        """End a program, with SIGKILL after ``within_s``; return whether it ran."""
        pid = self.pid(name)
        if pid is not None:
            end(pid, how, within_s=within_s)
        self._pid_file(name).unlink(missing_ok=True)
        for process in _LEFT_RUNNING:
            process.poll()  # Else its object would say at the end that it still runs.
        return pid is not None

    def ended(self, name: str) -> bool:
        """Return whether a program that was started runs no more."""
        return self._pid_file(name).exists() and self.pid(name) is None

    def adopt(self, name: str, pid: int, starter: subprocess.Popen[bytes]) -> None:
        """Take a process that runs for the program of this name; ``starter`` waits for it."""
        _LEFT_RUNNING.append(starter)
        self._note(name, pid)

    def _pid_file(self, name: str) -> Path:
        return self._directory / f"{name}.pid"

    def _note(self, name: str, pid: int) -> None:
        fresh = self._pid_file(name).with_suffix(".pid.new")
        fresh.write_text(f"{pid} {started_at(pid) or 0}\n")
        fresh.replace(self._pid_file(name))


def started_at(pid: int) -> str | None:
    """Return the start time of a process in ticks since boot; None when it runs no more."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def end(pid: int, how: signal.Signals = signal.SIGTERM, *, within_s: float = 10) -> None:
    """Signal a process and wait for its end, with SIGKILL after ``within_s``."""
    begun = started_at(pid)
    deadline = time.monotonic() + within_s
    for step in (how, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, step)
        while time.monotonic() < deadline or step is signal.SIGKILL:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # When it is a child of ours.
            if begun is None or started_at(pid) != begun:
                return
            time.sleep(0.02)


def matching(marker: str) -> list[int]:
    """Return the processes (not this one) whose command line has the text in it."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if marker in line and int(entry.name) != os.getpid() and started_at(int(entry.name)):
                found.append(int(entry.name))
    return found


def children_of(pid: int) -> list[int]:
    """Return the processes that a process started."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(word) for word in (task / "children").read_text().split()]
    return found


def program_of(pid: int) -> str:
    """Return the first word of a process' command line; empty when it runs no more."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    return ""


def _only_child(process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        if found := children_of(process.pid):
            return found[0]
        time.sleep(0.005)
    return process.pid  # It ended; its log says why.


def _by_command_line(words: Sequence[str], marker: str) -> int | None:
    # Two words: several programs are one binary that tells them apart by its first argument.
    return next((pid for pid in matching(marker) if _begins_with(pid, words)), None)


def _begins_with(pid: int, words: Sequence[str]) -> bool:
    with contextlib.suppress(OSError):
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return line[: len(words)] == list(words)
    return False
