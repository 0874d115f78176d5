"""The corpora's own runners and clients, started as programs; their failures printed, their counts returned.

Whatever ends without its result counts as failed as a whole: a crash must not look like success.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import counts

from sluice_dev.postgres import environment_without_libpq

LEAKS = frozenset({"RAW", "DIFF", "ACTION", "STRUCT"})
CLIENT_SECONDS_MAX = 180
RUNNER_SECONDS_MAX = 1500


@dataclass(frozen=True)
class Setting:
    """What all runners of one run share."""

    corpus: Path
    shared: Path
    work: Path
    only: str | None
    direct: bool

    def arguments(self) -> list[str]:
        """Return the options that all runners take."""
        common = [
            "--schema",
            str(self.shared / "schema.sql"),
            "--policy",
            str(self.shared / "policy.json"),
        ]
        return [*common, "--only", self.only] if self.only else common


def _lines(path: Path) -> int:
    return sum(1 for line in path.read_text().splitlines() if line.strip()) if path.exists() else 0


def _environment() -> dict[str, str]:
    return {**environment_without_libpq(), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}


def _say(text: str) -> None:
    print(text, flush=True)


def _run(script: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *arguments]
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=_environment(),
            timeout=RUNNER_SECONDS_MAX,
        )
    except subprocess.TimeoutExpired as late:
        output = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        return subprocess.CompletedProcess(
            command, 124, output, f"ended after {RUNNER_SECONDS_MAX} s"
        )


def _check(
    setting: Setting, name: str, arguments: list[str]
) -> dict[str, list[dict[str, Any]]] | None:
    """Run run_check.py; None, with the reason printed, when it left no result."""
    out = setting.work / f"{name}.json"
    done = _run(
        setting.shared / "run_check.py", [*arguments, *setting.arguments(), "--out", str(out)]
    )
    if not out.exists():
        _say(
            f"{name}: run_check.py ended with {done.returncode} and no result:\n{done.stderr[-3000:]}"
        )
        return None
    return json.loads(out.read_text())


def attacks(setting: Setting, admin: str, restricted: str) -> counts.Part:
    """Return how many of the attacks leaked."""
    cases = setting.corpus / "cases_sql.jsonl"
    if not _lines(cases):
        return counts.Part(0, 0)
    begun = time.monotonic()
    dsns = ["--admin-dsn", admin, "--dsn", restricted]
    found = _check(setting, "sql", [*dsns, "--attacks", str(cases), "--no-benign"])
    if found is None:
        return counts.Part(_lines(cases), _lines(cases))
    tried = [one for one in found["attacks"] if one["verdict"] != "SKIPPED"]
    leaks = [one for one in tried if one["verdict"] in LEAKS]
    for one in leaks if not setting.direct else []:
        how = f"{one['raw'][0]} via {one['raw'][1]}" if one.get("raw") else ""
        _say(f"sql leak     {one['verdict']:6} {one['id']:28} {one['leaks']:14} {how}")
    clean = sum(one["verdict"] == "CLEAN" for one in tried)
    _say(
        f"sql:     {len(leaks)} leak, {clean} clean, {len(tried) - len(leaks) - clean} denied {_took(begun)}"
    )
    return counts.Part(len(leaks), len(tried))


def benign(
    setting: Setting, admin: str, restricted: str, plainly: str | None = None
) -> counts.Part:
    """Return how many of the benign entries work; with ``plainly``, a DSN without Sluice, of those that work there."""
    cases = setting.corpus / "benign.jsonl"
    if not _lines(cases):
        return counts.Part(0, 0)
    begun = time.monotonic()
    arguments = ["--admin-dsn", admin, "--benign", str(cases), "--no-attacks"]
    without = _check(setting, "plain", [*arguments, "--dsn", plainly]) if plainly else None
    # Recorded on another major version, some ask for columns that this one does not have.
    hopeless = {one["id"] for one in without["benign"] if not one["ok"]} if without else set[str]()
    found = _check(setting, "benign", [*arguments, "--dsn", restricted])
    if found is None:
        return counts.Part(0, _lines(cases))
    tried = [one for one in found["benign"] if one["id"] not in hopeless]
    broken = [one for one in tried if not one["ok"]]
    for one in broken:
        _say(f"benign       broken {one['id']:28} {' / '.join(str(one['error']).splitlines())}")
    if hopeless:
        _say(f"benign:  {len(hopeless)} fail without Sluice, too: {', '.join(sorted(hopeless))}")
    _say(f"benign:  {len(tried) - len(broken)} of {len(tried)} work {_took(begun)}")
    return counts.Part(len(tried) - len(broken), len(tried))


def wire(setting: Setting, admin: str, restricted: str) -> counts.Part:
    """Return how many wire cases fail."""
    cases = setting.corpus / "cases_wire.jsonl"
    if not _lines(cases):
        return counts.Part(0, 0)
    begun = time.monotonic()
    arguments = [
        "--admin-dsn",
        admin,
        "--dsn",
        restricted,
        "--cases",
        str(cases),
        *setting.arguments(),
    ]
    done = _run(
        setting.shared / "run_wire.py", [*arguments, *(["--direct"] if setting.direct else [])]
    )
    for line in done.stdout.splitlines():
        if line.startswith(("FAIL", "     ")):
            _say(f"wire         {line}")
    summary = re.search(r"^wire cases: (\d+) run, (\d+) fail", done.stdout, re.MULTILINE)
    if summary is None:
        _say(
            f"wire: run_wire.py ended with {done.returncode} and no result:\n{done.stderr[-3000:]}"
        )
        return counts.Part(_lines(cases), _lines(cases))
    run, failed = int(summary[1]), int(summary[2])
    _say(f"wire:    {failed} of {run} fail {_took(begun)}")
    return counts.Part(failed, run)


def clients(
    setting: Setting, restricted: str, programs: Path, plainly: str | None = None
) -> counts.Part:
    """Return how many client scripts end well; ``programs`` has psql, pg_dump and pgbench.

    With ``plainly``, a DSN without Sluice, of those that end well there: a program of another major version may not.
    """
    begun = time.monotonic()
    folder = setting.corpus / "clients"
    scripts = sorted(
        path for pattern in ("py_*.py", "node_*.js", "*_client.sh") for path in folder.glob(pattern)
    )
    good = total = 0
    for script in scripts:
        problem = _client(script, restricted, programs)
        if problem is not None and plainly:
            without = _client(script, plainly, programs)
            if without is not None:
                _say(f"clients: {script.name} fails without Sluice, too: {without}")
                continue
        total += 1
        good += problem is None
        if problem is not None:
            _say(f"client       broken {script.name}: {problem}")
    _say(f"clients: {good} of {total} work {_took(begun)}")
    return counts.Part(good, total)


def _client(script: Path, dsn: str, programs: Path) -> str | None:
    """Return why the script failed; None when it did not."""
    tools = Path(sys.executable).parent
    runtime = {".py": sys.executable, ".js": str(tools / "node"), ".sh": "bash"}[script.suffix]
    environment = _environment() | {
        "PATH": os.pathsep.join([str(tools), str(programs), os.environ["PATH"]]),
        "NODE_PATH": str(Path(__file__).parent / "node_modules"),
    }
    try:
        done = subprocess.run(
            [runtime, str(script), dsn], capture_output=True, text=True, check=False, env=environment,
            stdin=subprocess.DEVNULL, timeout=CLIENT_SECONDS_MAX, errors="replace",
        )  # fmt: skip
    except FileNotFoundError:
        return f"{runtime} is not there; run `make setup`"
    except subprocess.TimeoutExpired:
        return f"no end after {CLIENT_SECONDS_MAX} s"
    if done.returncode == 0:
        return None
    said = [
        line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()
    ]
    return f"exit {done.returncode}: " + " / ".join(said[-4:])[-600:]


def _took(begun: float) -> str:
    return f"({time.monotonic() - begun:.0f} s)"
