"""`make try`: every step shows what it must, and nothing is left behind, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sluice_dev.cache import ROOT

COMMAND = [sys.executable, str(ROOT / "tools" / "try" / "try.py")]


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # It has ended meanwhile.
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, task.read_text().split()):
                found |= {child} | descendants(child)
    return found


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}


def test_every_step_shows_what_it_must_on_one_screen(tmp_path: Path, environment: dict[str, str]):
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:  # The embedded server runs as an account of its own.
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    done = subprocess.run(COMMAND, capture_output=True, text=True, env=environment, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT AS IT SHOULD BE" not in done.stdout
    assert len(done.stdout.splitlines()) <= 45
    assert "\x1b[" not in done.stdout
    left = [
        path.name for path in tmp_path.iterdir() if not path.name.startswith("sluice-postgresql-")
    ]
    assert left == []


def test_ctrl_c_leaves_nothing_running(tmp_path: Path):
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen([*COMMAND, "--keep"], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while "Up until Ctrl-C" not in log.read_text() and time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        children = descendants(process.pid)
        assert len(children) >= 3
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert alive(children) == set()
    finally:
        process.kill()
        process.wait()
