"""Work on texts of a length that nobody types: one at a time, beside the loop, without the collector's passes."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

BYTES_MIN: Final = 32 << 10
"""Shorter texts are worked on in the loop itself, where they cost no change of thread."""
SWITCH_S: Final = 0.001
"""How long the loop may have to wait for the interpreter while such work runs; Python's own 5 ms add up over the
several waits of a statement that is judged meanwhile."""

T = TypeVar("T")


class HugeTexts:
    """One worker. What waits for it is as long: short statements never do."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="huge")
        sys.setswitchinterval(SWITCH_S)

    async def run(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, _uncollected, work)


def _uncollected(work: Callable[[], T]) -> T:
    # A parse tree of a megabyte of SQL has a million objects and no cycles: looking for some takes as long as the work.
    # There is one worker, so the collector is on again between two texts, however many come.
    gc.disable()
    try:
        return work()
    finally:
        gc.enable()
