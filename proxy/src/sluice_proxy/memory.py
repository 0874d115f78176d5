"""Memory of a process that has just started: what importing left behind is given back, what stays is left in peace."""

from __future__ import annotations

import contextlib
import ctypes
import gc


def settle() -> None:
    """Give free memory back, and keep the collector from walking over what lives as long as the process.

    Measured: 3.5 MiB of 96 with one database; a full collection walks over modules and catalogs in the loop.
    """
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):  # Only glibc has it.
        ctypes.CDLL(None).malloc_trim(0)
