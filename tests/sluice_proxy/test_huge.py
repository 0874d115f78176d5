"""Work on huge texts: one at a time, and the collector is on again whatever happens."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from sluice_proxy.huge import HugeTexts


async def test_huge_texts_are_worked_on_one_at_a_time_without_collecting() -> None:
    texts = HugeTexts()
    running: list[int] = []
    seen: list[tuple[int, bool]] = []
    lock = threading.Lock()

    def work() -> None:
        with lock:
            running.append(1)
        seen.append((len(running), gc.isenabled()))
        with lock:
            running.pop()

    await asyncio.gather(*(texts.run(work) for _ in range(8)))
    assert seen == [(1, False)] * 8
    assert gc.isenabled()


async def test_collector_is_on_again_after_a_failure() -> None:
    texts = HugeTexts()

    def work() -> None:
        raise RecursionError

    with pytest.raises(RecursionError):
        await texts.run(work)
    assert gc.isenabled()
