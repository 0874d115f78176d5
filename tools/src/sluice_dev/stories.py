"""`make e2e`: all stories on one cluster, those that disturb nobody three at a time.

``python -m sluice_dev.stories [NAME…]``: stories whose file's name contains one of these; none: all.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from sluice_dev.cache import ROOT
from sluice_dev.installation import bring_up

FOLDER = ROOT / "e2e"
ALONE = (
    "policy_change", "start_and_stop",  # They measure.
    "database_away", "broken_policy", "operator_away", "no_way_back", "policy_age", "certificates", "cert_manager",
)  # fmt: skip
"""What takes away, changes or measures that which the others need."""
AT_ONCE = 3
INSTALLED = "SLUICE_STORIES_INSTALLED"
"""In the environment of pytest: Sluice is installed as it is to be."""


def chosen(names: Sequence[str]) -> list[str]:
    """Return the names of the stories that contain one of these; all for none."""
    every = sorted(path.stem.removeprefix("test_") for path in FOLDER.glob("test_*.py"))
    return [one for one in every if not names or any(name in one for name in names)]


def shares(stories: Sequence[str]) -> list[list[str]]:
    """Deal those that may run beside others."""
    quiet = [one for one in stories if one not in ALONE]
    return [share for n in range(AT_ONCE) if (share := quiet[n::AT_ONCE])]


def _pytest(stories: Sequence[str]) -> list[str]:
    files = [str(FOLDER / f"test_{one}.py") for one in stories]
    return [sys.executable, "-m", "pytest", "-q", "--durations=5", *files]


def _side_by_side(parts: Sequence[Sequence[str]]) -> list[int]:
    """Run parts beside each other; what each printed is shown when it has ended."""
    with tempfile.TemporaryDirectory(prefix="sluice-stories-") as folder:
        running: list[tuple[subprocess.Popen[bytes], Path]] = []
        for number, part in enumerate(parts):
            output = Path(folder) / str(number)
            with output.open("wb") as file:
                running.append(
                    (subprocess.Popen(_pytest(part), stdout=file, stderr=file, cwd=ROOT), output)
                )
        codes: list[int] = []
        for process, output in running:
            codes.append(process.wait())
            sys.stdout.write(output.read_text(errors="replace"))
            sys.stdout.flush()
        return codes


def main(names: Sequence[str]) -> int:
    """Return the exit code: 0 when every story holds."""
    stories = chosen(names)
    if not stories:
        print(f"no story is called {' or '.join(names)}; there are: {', '.join(chosen(()))}")
        return 2
    bring_up(print).upgrade()
    os.environ[INSTALLED] = "1"
    begun = time.monotonic()
    codes = _side_by_side(shares(stories))
    if alone := [one for one in ALONE if one in stories]:
        codes.append(subprocess.run(_pytest(alone), cwd=ROOT, check=False).returncode)
    failed = sum(code != 0 for code in codes)
    took = time.monotonic() - begun
    print(f"e2e: {len(stories)} stories in {took // 60:.0f} min {took % 60:.0f} s: ", end="")
    print("all hold" if not failed else "NOT ALL HOLD; see above")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
