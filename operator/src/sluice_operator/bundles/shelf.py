"""The bundles that sidecars wait for: read once, shared by every poll of a profile, never an older one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from sluice_operator import log_keys as keys
from sluice_operator.admission.names import PROFILE
from sluice_operator.bundle_names import REVISION, SEQUENCE, bundle_name
from sluice_operator.kube.bundle_store import ObjectMeta, StoredBundle
from sluice_operator.kube.errors import KubeError

log = structlog.get_logger(__name__)

POLLS_PER_POD_MAX: Final = 2
"""One, and one that its client has already forgotten. A further one ends the oldest."""
FLOORS_MAX: Final = 100_000
READ_S: Final = 5.0
"""Who does not ask to wait still waits so long for the reading of a bundle that is stored."""
RETRY_MIN_S: Final = 0.05
RETRY_MAX_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A bundle that is served."""

    sequence: int
    revision: str
    content: bytes

    @property
    def etag(self) -> str:
        """HTTP entity tag."""
        return f'"{self.sequence}-{self.revision[:16]}"'


@dataclass(slots=True, eq=False)
class _Slot:
    """One profile."""

    profile: str
    stored: int = 0
    """Sequence that the controller stored; 0: none."""
    offer: Offer | None = None
    polls: set[asyncio.Future[None]] = field(default_factory=set[asyncio.Future[None]])
    fetching: asyncio.Task[None] | None = None

    @property
    def behind(self) -> bool:
        """Whether something newer is stored than what is served."""
        return self.stored > (0 if self.offer is None else self.offer.sequence)


class Shelf:
    """All profiles of the cluster; contents of those that somebody asks for."""

    def __init__(self, fetch: Callable[[str], Awaitable[StoredBundle | None]]) -> None:
        """Make one.

        Args:
            fetch: Returns the stored bundle of that name with its content.
        """
        self._fetch = fetch
        self._slots: dict[str, _Slot] = {}
        self._names: dict[str, str] = {}
        self._floors: dict[str, int] = {}
        self._by_pod: dict[str, list[asyncio.Future[None]]] = {}
        self._ending = False
        self.fetches = 0

    @property
    def polls(self) -> int:
        """Polls that wait now."""
        return sum(len(slot.polls) for slot in self._slots.values())

    @property
    def profiles(self) -> int:
        """Profiles with a stored bundle."""
        return sum(slot.stored > 0 for slot in self._slots.values())

    def put(self, meta: ObjectMeta) -> None:
        """Take the metadata of a stored bundle, new or changed."""
        profile, sequence = str(meta.annotations.get(PROFILE) or ""), _sequence(meta)
        if not profile or sequence is None or meta.name != bundle_name(profile):
            log.error("stored bundle passed over", **{keys.NAME: meta.name})
            return
        floor = self._floors.get(profile, 0)
        if sequence < floor:
            log.error(
                "older bundle not served",
                **{keys.PROFILE: profile, keys.SEQUENCE: sequence, keys.VERSION: floor},
            )
            return
        slot = self._slots.setdefault(profile, _Slot(profile))
        self._names[meta.name] = profile
        slot.stored = sequence
        if slot.behind and (slot.polls or slot.offer is not None):
            self._begin_fetch(slot)

    def drop(self, name: str) -> None:
        """Take that a stored bundle is gone. Its number is remembered."""
        slot = self._slots.get(self._names.pop(name, ""))
        if slot is not None:
            slot.stored, slot.offer = 0, None
            self._drop_if_empty(slot)

    async def wait(
        self, profile: str, pod_uid: str, etag: str | None, seconds: float
    ) -> Offer | None:
        """Return what a profile is served as soon as ``etag`` does not name it; None when time is over."""
        slot = self._slots.setdefault(profile, _Slot(profile))
        if self._is_new(slot, etag):
            return slot.offer
        if slot.behind:
            # There is one, it only has to be read.
            self._begin_fetch(slot)
            seconds = max(seconds, READ_S)
        elif seconds <= 0 or self._ending:
            self._drop_if_empty(slot)
            return None
        await self._poll(slot, pod_uid, seconds)
        offer = slot.offer if self._is_new(slot, etag) else None
        self._drop_if_empty(slot)
        return offer

    def end(self) -> None:
        """Answer all polls now, and those that come without waiting."""
        self._ending = True
        for slot in self._slots.values():
            _settle_all(slot)

    async def stop(self) -> None:
        """End what is being read."""
        self.end()
        tasks = [slot.fetching for slot in self._slots.values() if slot.fetching is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_new(self, slot: _Slot, etag: str | None) -> bool:
        return slot.offer is not None and slot.offer.etag != etag

    async def _poll(self, slot: _Slot, pod_uid: str, seconds: float) -> None:
        """Wait for one wake-up: the profile's, the clock's, or a newer poll of the same pod."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(max(seconds, 0.0), _settle, future)
        mine = self._by_pod.setdefault(pod_uid, [])
        mine.append(future)
        if len(mine) > POLLS_PER_POD_MAX:
            _settle(mine.pop(0))
        slot.polls.add(future)
        try:
            await future
        finally:
            timer.cancel()
            slot.polls.discard(future)
            if future in mine:
                mine.remove(future)
            if not mine and self._by_pod.get(pod_uid) is mine:
                del self._by_pod[pod_uid]

    def _begin_fetch(self, slot: _Slot) -> None:
        if slot.fetching is None:
            slot.fetching = asyncio.create_task(self._read(slot), name="bundle-read")

    async def _read(self, slot: _Slot) -> None:
        """Read the stored bundle until it is served, or gone."""
        delay = RETRY_MIN_S
        try:
            while slot.behind:
                self.fetches += 1
                try:
                    stored = await self._fetch(bundle_name(slot.profile))
                except KubeError as error:
                    log.warning(
                        "bundle cannot be read",
                        **{keys.PROFILE: slot.profile, keys.REASON: str(error)},
                    )
                    stored = None
                if stored is not None and self._serve(slot, stored):
                    continue
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
                delay = min(delay * 2, RETRY_MAX_S)
        finally:
            slot.fetching = None

    def _serve(self, slot: _Slot, stored: StoredBundle) -> bool:
        """Put a bundle on the shelf, unless an older one lies there; return whether it is served."""
        sequence = _sequence(stored.meta)
        revision = str(stored.meta.annotations.get(REVISION) or "")
        if (
            sequence is None
            or len(revision) < 16
            or stored.meta.annotations.get(PROFILE) != slot.profile
            or sequence < max(self._floors.get(slot.profile, 0), slot.stored)
        ):
            return False
        slot.stored = sequence
        slot.offer = Offer(sequence, revision, stored.content)
        self._floors[slot.profile] = sequence
        while len(self._floors) > FLOORS_MAX:
            del self._floors[next(iter(self._floors))]
        log.info(
            "bundle served",
            **{
                keys.PROFILE: slot.profile,
                keys.SEQUENCE: sequence,
                keys.COUNT: len(slot.polls),
            },
        )
        _settle_all(slot)
        return True

    def _drop_if_empty(self, slot: _Slot) -> None:
        if not slot.stored and not slot.polls and slot.offer is None:
            self._slots.pop(slot.profile, None)


def _sequence(meta: ObjectMeta) -> int | None:
    text = str(meta.annotations.get(SEQUENCE) or "")
    return int(text) if text.isdecimal() and 0 < len(text) < 19 else None


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _settle_all(slot: _Slot) -> None:
    for future in slot.polls:
        _settle(future)
