"""``sluice-sidecar started``: the proxy container's postStart hook. The application starts when it has ended.

A kubelet sees what became of a probe, or of a container, when it looks at all of them, once a second; the end of a hook
it waits for. It imports next to nothing: it runs beside the proxy that it waits for.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

LIMIT_S: Final = 30.0
"""The kubelet ends no pod while a hook of it runs. After that the container is started anew, and says why it ended."""
STEP_S: Final = 0.02


def wait(marker: Path, limit_s: float = LIMIT_S) -> int:
    """Return 0 as soon as the sidecar has once been ready in this pod, 1 when it was not within the limit."""
    deadline = time.monotonic() + limit_s
    while not marker.exists():
        if time.monotonic() >= deadline:
            print("sluice-sidecar: not ready yet", file=sys.stderr)  # noqa: T201
            return 1
        time.sleep(STEP_S)
    return 0
