"""Child processes that never outlive the program that started them."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def unprivileged_user() -> str | None:
    """Return the account for servers that refuse to run as root; None when this process is not root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(
    command: Sequence[str | Path],
    *,
    log: Path,
    user: str | None = None,
    on_parent_death: signal.Signals = signal.SIGTERM,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that Ctrl-C reaches only us, and we stop it in order.

    Args:
        command: Program and arguments.
        log: Standard output and error are appended here.
        user: Run as this account (we must be root). None: as ourselves.
        on_parent_death: The kernel sends this when we die without stopping it.
        environment: The whole environment. None: ours.
        directory: Working directory. None: ours.
    """
    libc = ctypes.CDLL(None)

    def tie() -> None:
        if sys.platform == "linux":
            libc.prctl(_PR_SET_PDEATHSIG, int(on_parent_death))

    group = pwd.getpwnam(user).pw_gid if user else None
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=tie,  # noqa: PLW1509 - one prctl, made ready before the fork.
            user=user,
            group=group,
            extra_groups=[] if user else None,
            env=dict(environment) if environment is not None else None,
            cwd=directory,
        )


def stop(
    process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM, *, within_s: float = 15
) -> int:
    """Ask the process to end, insist with SIGKILL after ``within_s``; return its exit code."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()
