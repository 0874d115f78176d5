"""The standalone source of bundles: a folder of policies, watched, compiled and signed in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from watchfiles import awatch  # pyright: ignore[reportUnknownVariableType]

from sluice_cli.exits import UsageError
from sluice_cli.policies import Loading, load
from sluice_policy import Compiled, Profile, SigningKey, bundle
from sluice_proxy import log_keys as keys

log = structlog.get_logger(__name__)

DEBOUNCE_MS: Final = 80
"""Editors write a file in several steps: a change is taken up after STEP_MS of quiet, at the latest after this."""
STEP_MS: Final = 20
RESCAN_S: Final = 10.0
"""Some file systems (network, bind mounts) report no changes; the folder is read at least so often."""


class DirectorySource:
    """A ``BundleSource``. A folder with problems is reported, and the last good set stays."""

    def __init__(
        self,
        directory: Path,
        who: Profile,
        *,
        max_policy_age_s: int,
        on_loaded: Callable[[Loading], None],
    ) -> None:
        """Make one, with a signing key of its own that never leaves the process.

        Args:
            directory: The folder.
            who: Whose policies are compiled.
            max_policy_age_s: Written into the bundles; they are signed again four times as often.
            on_loaded: Called in the loop before a set without errors is handed out.
        """
        self._directory = directory
        self._who = who
        self._max_policy_age_s = max_policy_age_s
        self._on_loaded = on_loaded
        self._key = SigningKey.generate()
        self._compiled: Compiled | None = None
        self._handed_out: str | None = None
        self._changed = asyncio.Event()
        self._reported: tuple[str, ...] = ()

    @property
    def public_keys(self) -> dict[str, str]:
        """The key that the bundles are signed with, PEM by id."""
        return {self._key.key_id: self._key.public_pem}

    def take(self, loading: Loading) -> bool:
        """Take a loaded folder: report its problems, or make it the set to hand out; return whether it is used."""
        self._report(loading)
        if loading.errors or loading.compiled is None:
            return False
        self._on_loaded(loading)
        if self._compiled is None or self._compiled.revision != loading.compiled.revision:
            self._compiled = loading.compiled
            self._changed.set()
        return True

    async def next(self, after_sequence: int | None) -> bytes:
        """Return the present set under the next number: at once when it is new, else after a quarter of its age."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._max_policy_age_s / 4):
                while self._compiled is None or self._compiled.revision == self._handed_out:
                    self._changed.clear()
                    await self._changed.wait()
        compiled = self._compiled
        if compiled is None:
            raise RuntimeError("no set of policies has been loaded")
        raw = bundle(
            compiled,
            sequence=(after_sequence or 0) + 1,
            issued_at=datetime.now(UTC),
            profile_id=self._who.id,
            max_policy_age_s=self._max_policy_age_s,
            key=self._key,
        )
        self._handed_out = compiled.revision
        return raw

    async def watch(self) -> None:
        """Load the folder again whenever something in it changes, until cancelled."""
        while True:
            try:
                async for _ in awatch(
                    self._directory,
                    watch_filter=None,
                    debounce=DEBOUNCE_MS,
                    step=STEP_MS,
                    rust_timeout=int(RESCAN_S * 1000),
                    yield_on_timeout=True,
                ):
                    await self._load()
            except OSError as error:
                log.error(  # noqa: TRY400  The error says all.
                    "folder of policies cannot be watched",
                    **{keys.PATH: str(self._directory), keys.ERROR: str(error)},
                )
            await asyncio.sleep(RESCAN_S / 10)

    async def _load(self) -> None:
        try:
            loading = await asyncio.to_thread(load, self._directory, self._who)
        except (UsageError, OSError) as error:
            log.error(  # noqa: TRY400  The error says all.
                "folder of policies cannot be read",
                **{keys.PATH: str(self._directory), keys.ERROR: str(error)},
            )
            return
        except Exception as error:
            # A bug in the compiler must not end the watching: the next edit may be one that it can read.
            log.exception(
                "folder of policies could not be compiled, the last good set stays in force",
                **{keys.PATH: str(self._directory), keys.ERROR_TYPE: type(error).__name__},
            )
            return
        self.take(loading)

    def _report(self, loading: Loading) -> None:
        lines = tuple(str(problem) for problem in loading.problems)
        if lines == self._reported:
            return
        self._reported = lines
        for problem in loading.problems:
            report = log.error if problem.severity == "error" else log.warning
            report(
                "policy problem",
                **{
                    keys.FILE: problem.file,
                    keys.LINE: problem.line,
                    keys.RESOURCE: problem.resource,
                    keys.FIELD: problem.path,
                    keys.REASON: problem.message,
                },
            )
        if loading.errors and self._compiled is not None:
            log.error(
                "policies not taken, the last good set stays in force",
                **{keys.PATH: str(self._directory), keys.REVISION: self._compiled.revision},
            )
        elif not loading.problems:
            log.info("policies are in order", **{keys.PATH: str(self._directory)})
