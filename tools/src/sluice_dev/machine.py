"""What this machine has left, for bounds on time that are meant for a free one."""

from __future__ import annotations

import os


def busy() -> float:
    """Return how much longer work takes than on a free machine: processes that want each core, at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
