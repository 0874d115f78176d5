"""Following a source of bundles: judge, keep, offer to OPA, and switch once OPA has activated."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import structlog

from sluice_proxy import log_keys as keys
from sluice_proxy.bundles.model import Bundle, BundleRefusedError
from sluice_proxy.bundles.verify import verify_bundle
from sluice_proxy.files import write_atomically

log = structlog.get_logger(__name__)

RETRY_MIN_S: Final = 0.2
RETRY_MAX_S: Final = 5.0

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class BundleSource(Protocol):
    """Where signed bundles come from."""

    async def next(self, after_sequence: int | None) -> bytes:
        """Return a signed bundle as soon as there is one with a higher sequence.

        Args:
            after_sequence: The highest sequence seen; None: any will do.
        """
        ...


@dataclass(slots=True)
class BundleCounts:
    """What became of the bundles that came."""

    accepted: int = 0
    refused: int = 0
    activated: int = 0
    not_activated: int = 0
    source_errors: int = 0


@dataclass(slots=True)
class BundleClient:
    """The only bundle client of a sidecar.

    ``offered`` is what OPA may fetch, ``in_force`` is what OPA has activated: "loaded" means the latter.
    """

    directory: Path
    """Private and lasting: the last good bundle and the highest sequence seen are kept here."""
    profile: str
    keys: Mapping[str, str]
    """Public keys (PEM) by key id."""
    source: BundleSource
    offered: Bundle | None = None
    in_force: Bundle | None = None
    refusal: str | None = None
    """Why the newest bundle was not taken; None when it was."""
    activation_error: str | None = None
    counts: BundleCounts = field(default_factory=BundleCounts)
    _offered_at: datetime = _LONG_AGO
    _sequence_seen: int | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _on_offered: list[Callable[[Bundle], None]] = field(
        default_factory=list[Callable[[Bundle], None]]
    )
    _on_activated: list[Callable[[Bundle], None]] = field(
        default_factory=list[Callable[[Bundle], None]]
    )
    _source_problem: str | None = None

    def on_offered(self, callback: Callable[[Bundle], None]) -> None:
        """Have a function called, in the loop, with each verified bundle before OPA gets it."""
        self._on_offered.append(callback)

    def on_activated(self, callback: Callable[[Bundle], None]) -> None:
        """Have a function called, in the loop, each time another bundle is in force."""
        self._on_activated.append(callback)

    @property
    def sequence_seen(self) -> int | None:
        """The highest sequence ever taken here, this run or before."""
        return self._sequence_seen

    def load(self) -> None:
        """Take up what an earlier run left. A damaged or foreign last good bundle is passed over."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            self._sequence_seen = int(json.loads(self._state_path.read_bytes())["sequence"])
        try:
            raw = self._bundle_path.read_bytes()
        except OSError:
            return
        try:
            bundle = self._judge(raw, lowest=self._sequence_seen or 1)
        except BundleRefusedError as error:
            log.warning("stored bundle passed over", **{keys.REASON: str(error)})
            return
        self._offer(bundle)

    async def run(self) -> None:
        """Follow the source until cancelled."""
        delay = RETRY_MIN_S
        while True:
            try:
                raw = await self.source.next(self._sequence_seen)
                self.accept(raw)
            except BundleRefusedError:
                pass  # Counted and logged; the last good one stays.
            except Exception as error:  # noqa: BLE001  A source that fails never ends the client.
                self.counts.source_errors += 1
                self._source_failed(error)
            else:
                self._source_problem = None
                delay = RETRY_MIN_S
                continue
            # Not all sidecars of a cluster at the same moment.
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
            delay = min(delay * 2, RETRY_MAX_S)

    def _source_failed(self, error: Exception) -> None:
        """Log why the source failed; it may fail in the same way for hours."""
        if str(error) == self._source_problem:
            return
        self._source_problem = str(error)
        log.warning(
            "bundle source failed",
            **{keys.ERROR: str(error), keys.ERROR_TYPE: type(error).__name__},
        )

    def accept(self, raw: bytes) -> Bundle:
        """Judge one bundle and offer it to OPA.

        Raises:
            BundleRefusedError: It is not used; what was in force stays.
        """
        try:
            bundle = self._judge(raw, lowest=(self._sequence_seen or 0) + 1)
            _require_young(bundle)
        except BundleRefusedError as error:
            self.counts.refused += 1
            self.refusal = str(error)
            log.error("bundle refused", **{keys.REASON: self.refusal})  # noqa: TRY400
            raise
        self._keep(bundle)
        self.refusal = None
        self.counts.accepted += 1
        log.info(
            "bundle accepted", **{keys.SEQUENCE: bundle.sequence, keys.REVISION: bundle.revision}
        )
        self._offer(bundle)
        return bundle

    def reported(self, revision: str, activated_at: datetime) -> None:
        """Take OPA's word that it activated a revision at that time."""
        offered = self.offered
        if offered is None or offered.revision != revision or activated_at < self._offered_at:
            return
        self._switch(offered)

    def decided_with(self, revision: str, sequence: int) -> None:
        """Take a decision made with the offered bundle as the proof that it is active."""
        offered = self.offered
        if offered is not None and (offered.revision, offered.sequence) == (revision, sequence):
            self._switch(offered)

    def failed(self, message: str) -> None:
        """Take OPA's word that it could not activate what it was offered."""
        self.counts.not_activated += 1
        if message != self.activation_error:  # OPA repeats it with every poll.
            log.error("bundle not activated by OPA", **{keys.REASON: message})
        self.activation_error = message

    async def wait_offered(self, etag: str | None, seconds: float) -> Bundle | None:
        """Return what is offered as soon as it is another one than ``etag`` names; None when the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.offered is None or self.offered.etag == etag:
                    await self._changed.wait()
        if self.offered is None or self.offered.etag == etag:
            return None
        return self.offered

    async def wait_in_force(self) -> Bundle:
        """Return the first bundle that OPA has activated."""
        while self.in_force is None:
            await self._changed.wait()
        return self.in_force

    def policy_age_s(self) -> float | None:
        """Seconds since the bundle in force was issued; None without one."""
        return None if self.in_force is None else self.in_force.age_s(_now())

    def too_old(self) -> bool:
        """Whether the policy in force has outlived its maximum age."""
        return self.in_force is not None and self.in_force.too_old(_now())

    @property
    def _state_path(self) -> Path:
        return self.directory / "sequence.json"

    @property
    def _bundle_path(self) -> Path:
        return self.directory / "last-good.tar.gz"

    def _judge(self, raw: bytes, *, lowest: int) -> Bundle:
        bundle = verify_bundle(raw, keys=self.keys, profile=self.profile)
        if bundle.sequence < lowest:
            raise BundleRefusedError(
                f"sequence {bundle.sequence} is not above the highest that was seen before ({self._sequence_seen})"
            )
        return bundle

    def _keep(self, bundle: Bundle) -> None:
        """Write the bundle, then its number: a crash between leaves an older number, never a lost bundle."""
        write_atomically(self._bundle_path, bundle.raw)
        document = {"sequence": bundle.sequence, "revision": bundle.revision}
        write_atomically(self._state_path, json.dumps(document).encode())
        self._sequence_seen = bundle.sequence

    def _offer(self, bundle: Bundle) -> None:
        self.offered = bundle
        self._offered_at = _now()
        for callback in self._on_offered:
            callback(bundle)
        self._wake()

    def _switch(self, bundle: Bundle) -> None:
        if bundle is self.in_force:
            return
        self.in_force = bundle
        self.activation_error = None
        self.counts.activated += 1
        log.info(
            "bundle in force", **{keys.SEQUENCE: bundle.sequence, keys.REVISION: bundle.revision}
        )
        for callback in self._on_activated:
            callback(bundle)
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _require_young(bundle: Bundle) -> None:
    if bundle.too_old(_now()):
        raise BundleRefusedError(
            f"it was issued at {bundle.issued_at.isoformat()}, longer ago than its maximum age"
        )


def _now() -> datetime:
    return datetime.now(UTC)
