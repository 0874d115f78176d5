"""Statements from sqlsmith, run dry against the live schema; nothing when it is not installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence

from sluice_dev.worlds.statement import Statement, simple

_FORBIDDEN = re.compile(r"\bpg_sleep|\btablesample\b|\brandom\(", re.IGNORECASE)
"""Never the same twice, or never at an end; the grammar has TABLESAMPLE in its own measure."""


def installed() -> bool:
    """Return whether sqlsmith is there."""
    return shutil.which("sqlsmith") is not None


def drawn(dsn: str, seed: int, *, without: Sequence[str] = ()) -> Iterator[Statement]:
    """Yield its statements without end.

    Args:
        dsn: Of the restricted identity, straight to the server: sqlsmith reads the schema, and sends nothing.
        seed: Of its random numbers.
        without: Relations that no statement may name.
    """
    while True:
        command = [
            "sqlsmith",
            f"--target={dsn}",
            f"--seed={seed}",
            "--max-queries=500",
            "--dry-run",
        ]
        if seed % 4:
            command.append("--exclude-catalog")
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=120, errors="replace"
        )
        texts = [text.strip() for text in done.stdout.split(";")]
        if not any(texts):
            return
        for text in texts:
            if text and not _FORBIDDEN.search(text) and not any(one in text for one in without):
                yield simple(text, origin="sqlsmith")
        seed += 1
