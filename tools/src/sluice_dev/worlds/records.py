"""A run of the fuzzer as a dated record, in the form of those under ``bench/record``."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from sluice_dev.cache import ROOT
from sluice_dev.worlds.denials import REASONS_SHOWN, Kind
from sluice_dev.worlds.fuzz import Result
from sluice_dev.worlds.judging import Outcome


def document(result: Result, *, seed: int, server: str, load_before: float) -> dict[str, Any]:
    """Return what a run showed.

    Args:
        result: Its counts.
        seed: Of its random numbers.
        server: PostgreSQL's version.
        load_before: Of the machine, when it began.
    """
    denials = result.denials
    legitimate = denials.reasons[Kind.LEGITIMATE].most_common(REASONS_SHOWN)
    all_reasons = sum(denials.reasons.values(), type(denials.reasons[Kind.RULE])())
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "load_before": round(load_before, 2),
            "load_after": round(os.getloadavg()[0], 2),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "postgresql": server,
            "revision": _revision(),
        },
        "results": {
            "seed": seed,
            "seconds": round(result.seconds),
            "sent": result.sent,
            "not_denied": result.sent - result.outcomes[Outcome.DENIED],
            "outcomes": {one.value: result.outcomes[one] for one in Outcome},
            "silent": result.silent,
            "sent_by_origin": dict(result.asked),
            "not_denied_by_origin": dict(result.origins),
            "denied_by_kind": {one.value: denials.kinds[one] for one in Kind},
            "commonest_reasons": dict(all_reasons.most_common(REASONS_SHOWN)),
            "commonest_reasons_of_legitimate": dict(legitimate),
            "asked_again": {
                **{
                    what: sum(one.what == what for one in result.found)
                    for what in ("open", "unstable", "keys")
                },
                "outdated": result.outdated,
            },
            "not_compared_late": result.late,
            "differences": len(result.leaks),
        },
    }


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a record for people to read."""
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _revision() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()
