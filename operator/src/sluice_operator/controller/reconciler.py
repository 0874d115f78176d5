"""The active replica's work: from what is known of the cluster to bundles that are published."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from sluice_operator import log_keys as keys
from sluice_operator.controller import metrics
from sluice_operator.controller.building import Builder
from sluice_operator.controller.bundle_files import TooLargeError
from sluice_operator.controller.estate import Estate
from sluice_operator.controller.memory import LastValidStore
from sluice_operator.controller.opa import OpaError
from sluice_operator.controller.passes import Outcome, Pass
from sluice_operator.controller.publisher import ContentError, Publisher
from sluice_operator.controller.settings import Settings
from sluice_operator.controller.trust import Trust, TrustError, TrustKeeper
from sluice_operator.kube.errors import KubeError
from sluice_operator.kube.keeping import MovedError
from sluice_operator.reconcile.activation import failures
from sluice_operator.reconcile.conclusions import Conclusions
from sluice_operator.reconcile.effective import Effective, decide
from sluice_operator.reconcile.model import (
    CLASSIFICATION,
    POLICY,
    RawResource,
    Refused,
    StoredBundle,
    Verdict,
)
from sluice_operator.reconcile.publishing import Cause, Idle, cause
from sluice_policy import Compiled, Profile

log = structlog.get_logger(__name__)

DEBOUNCE_S = 0.02
"""After the first sign of a change: `kubectl apply -f` of a folder is one change, not twenty."""
BATCH = 16
"""Profiles compiled at once: bounds what is held in memory."""
RETRY_MIN_S = 0.2
RETRY_MAX_S = 10.0


class Reconciler:
    """Runs while this replica leads."""

    def __init__(
        self,
        *,
        estate: Estate,
        publisher: Publisher,
        builder: Builder,
        memory: LastValidStore,
        trust: TrustKeeper,
        settings: Settings,
        leading: Callable[[], bool],
    ) -> None:
        """Make one; ``run`` does the work.

        Args:
            estate: What is known of the cluster.
            publisher: Writes bundles.
            builder: Compiles and tries.
            memory: Last valid generations.
            trust: Keys and certificates.
            settings: Ours.
            leading: Asked before every write.
        """
        self._estate = estate
        self._publisher = publisher
        self._builder = builder
        self._memory = memory
        self._trust = trust
        self._settings = settings
        self._leading = leading
        self._idle = Idle(settings.bundle_idle_s)
        self._effective: Effective | None = None
        self._inputs: tuple[object, ...] | None = None
        self._serial = 0
        self._conclusions = Conclusions()
        self._told: str | None = None
        self._trust_at = 0.0
        self.outcome: Outcome | None = None
        """None until the first whole pass."""
        self.steady = asyncio.Event()
        """Set once a pass found nothing left to do."""

    async def run(self) -> None:
        """Work until cancelled."""
        await self._loaded()
        delay = RETRY_MIN_S
        self._estate.policy_changed.set()
        while True:
            await self._wait()
            began = time.monotonic()
            await asyncio.sleep(DEBOUNCE_S)
            self._estate.policy_changed.clear()
            try:
                done = await self._pass(began)
            except (KubeError, MovedError, OpaError, TrustError) as error:
                self._complain("reconcile", error)
                done = False
            except Exception:
                # What is published stays in force; the next change may be one that this bug does not meet.
                metrics.ERRORS.labels("bug").inc()
                log.exception("a pass failed, tried again")
                done = False
            if done:
                delay = RETRY_MIN_S
                continue
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_MAX_S)
            self._estate.policy_changed.set()

    async def _loaded(self) -> None:
        while True:
            try:
                await self._publisher.load()
                await self._memory.load()
            except KubeError as error:
                self._complain("load", error)
                await asyncio.sleep(RETRY_MIN_S)
            else:
                return

    def _complain(self, part: str, error: Exception) -> None:
        metrics.ERRORS.labels(part).inc()
        log.warning("work failed, tried again", **{keys.PART: part, keys.ERROR: str(error)})

    async def _wait(self) -> None:
        """Wait for a change, or until something is due by time alone."""
        period = min(self._trust.period_s, max(0.5, self._settings.max_policy_age_s / 80))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(period):
                await self._estate.policy_changed.wait()

    async def _pass(self, began: float) -> bool:
        """Do all that is to be done; return whether all of it worked."""
        estate = self._estate
        trust = await self._present_trust()
        # Taken in one step with the version that `_decide` remembers it by: nothing is awaited in between.
        resources = dict(estate.resources)
        effective = await self._decide(resources)
        work = Pass(resources, trust, effective, self._serial)
        profiles = {pod.profile_id: pod.profile for pod in estate.pods.values()}
        # Before anything of it is in force: whoever takes over must know what to hold on to.
        if self._leading():
            await self._memory.keep(effective.last_valid)
        work.failing = failures(estate.reports.values(), estate.bundles, time.time())
        items = list(profiles.items())
        for start in range(0, len(items), BATCH):
            await self._batch(items[start : start + BATCH], work)
        self._builder.forget(set(profiles))
        if work.failed or not self._leading():
            return False
        self.outcome = self._concluded(resources, work)
        estate.reports_changed.set()
        await self._memory.drop(effective.last_valid)
        await self._tell_trust(trust)
        await self._remove_idle(set(profiles))
        self._measure(resources, profiles)
        if estate.policy_changed.is_set():
            return True
        if not self.steady.is_set():
            log.info("steady", **{keys.SECONDS: round(time.monotonic() - began, 3)})
        self.steady.set()
        return True

    async def _present_trust(self) -> Trust:
        now = time.monotonic()
        known = self._trust.trust
        if known is None or now - self._trust_at >= self._trust.period_s:
            first = known is None
            known = await self._trust.refresh()
            self._trust_at = now
            if first:
                await self._trust.introduce(known)
        return known

    async def _tell_trust(self, trust: Trust) -> None:
        """Once all bundles carry it; and again now and then, as somebody may have changed it back."""
        stamp = f"{trust.digest} {int(time.monotonic() // self._trust.period_s)}"
        if stamp != self._told:
            await self._trust.publish(trust)
            self._told = stamp

    async def _decide(self, resources: Mapping[str, RawResource]) -> Effective:
        estate = self._estate
        lists = {id(pod.databases): pod.databases for pod in estate.pods.values()}
        named = frozenset(name for databases in lists.values() for name in databases)
        inputs = (estate.resources_version, named, frozenset(estate.external))
        if self._effective is not None and inputs == self._inputs:
            return self._effective
        before = self._effective.last_valid if self._effective else self._memory.known
        effective = await asyncio.to_thread(
            decide,
            list(resources.values()),
            last_valid=before,
            named=named,
            external=frozenset(estate.external),
            domain=self._settings.common.cluster_domain,
        )
        self._effective, self._inputs = effective, inputs
        self._serial += 1
        return effective

    async def _batch(self, items: list[tuple[str, Profile]], work: Pass) -> None:
        """Bring some profiles up to date: compiled together, published side by side."""
        fresh = [item for item in items if self._due(item[0], work)]
        compiled = await self._builder.compile([profile for _, profile in fresh], work.effective)
        await asyncio.gather(
            *(
                self._profile(profile_id, profile, content, work)
                for (profile_id, profile), content in zip(fresh, compiled, strict=True)
            )
        )

    def _due(self, profile_id: str, work: Pass) -> bool:
        """Whether a profile is to be compiled: anew, or because its bundle is to be written again."""
        built = self._builder.known(profile_id, work.serial)
        if built is None:
            return True
        work.reach[profile_id] = built.reach
        if built.problem is not None:
            work.refused[profile_id] = built.problem
            return self._renewal(profile_id, work) is not None
        return self._cause(profile_id, built.revision, work) is not None

    def _renewal(self, profile_id: str, work: Pass) -> Cause | None:
        """Return why what is published is to be signed again, although what is newer is refused."""
        stored = self._estate.bundles.get(profile_id)
        return None if stored is None else self._due_cause(stored.revision, stored, work)

    def _due_cause(self, revision: str, stored: StoredBundle | None, work: Pass) -> Cause | None:
        return cause(
            revision,
            stored,
            trust=work.trust.digest,
            now=time.time(),
            renew_s=self._settings.max_policy_age_s / 4,
        )

    def _cause(self, profile_id: str, revision: str, work: Pass) -> Cause | None:
        failing = work.failing.get(profile_id)
        stored = self._estate.bundles.get(profile_id)
        if (
            failing is not None
            and stored is not None
            and revision in (stored.revision, stored.held)
        ):
            if failing.step == "withdraw":
                return "withdrawn"
            if failing.step == "acquit" and revision == stored.held:
                return "acquitted"
        return self._due_cause(revision, stored, work)

    async def _profile(
        self,
        profile_id: str,
        profile: Profile,
        content: tuple[Mapping[str, Any], Compiled],
        work: Pass,
    ) -> None:
        try:
            await self._bring_up(profile_id, profile, content, work)
        except (KubeError, MovedError, OpaError) as error:
            work.failed = True
            self._complain("bundle", error)

    async def _bring_up(
        self,
        profile_id: str,
        profile: Profile,
        content: tuple[Mapping[str, Any], Compiled],
        work: Pass,
    ) -> None:
        document, compiled = content
        present = self._estate.bundles.get(profile_id)
        built = await self._builder.judge(
            profile,
            document,
            compiled,
            effective=work.effective,
            serial=work.serial,
            published=present.revision if present else None,
        )
        work.reach[profile_id] = built.reach
        if built.problem is not None:
            metrics.SMOKE_FAILED.inc()
            await self._refused(profile_id, built.problem, work)
            return
        why = self._cause(profile_id, built.revision, work)
        if why is None:
            return
        if not self._leading():
            work.failed = True
            return
        try:
            await self._write(profile_id, compiled, why, work)
        except TooLargeError as error:
            refused = Refused("TooLarge", str(error))
            self._builder.refuse(profile_id, refused)
            await self._refused(profile_id, refused, work)

    async def _refused(self, profile_id: str, why: Refused, work: Pass) -> None:
        """Remember it; what is in force goes on being signed again, so that it does not grow too old."""
        work.refused[profile_id] = why
        due = self._renewal(profile_id, work)
        if due is None:
            return
        if not self._leading():
            work.failed = True
            return
        try:
            await self._publisher.renew(profile_id, work.trust, due)
        except ContentError as error:
            self._complain("content", error)

    async def _write(self, profile_id: str, compiled: Compiled, why: Cause, work: Pass) -> None:
        """Publish what is due: compiled content, or what worked before it."""
        publisher, stored = self._publisher, self._estate.bundles.get(profile_id)
        failing = work.failing.get(profile_id)
        try:
            if why == "withdrawn" and failing is not None:
                log.error(
                    "content withdrawn",
                    **{keys.PROFILE: profile_id, keys.REASON: failing.message},
                )
                await publisher.withdraw(profile_id, work.trust, failing.message)
                return
            held = "" if stored is None or stored.held == stored.revision else stored.held
            if held == compiled.revision and why in ("trust", "age"):
                await publisher.renew(profile_id, work.trust, why)
                return
        except ContentError as error:
            # Nothing that is worth signing is left: the newest content goes out, whoever fails with it.
            self._complain("content", error)
            why = "acquitted"
        await publisher.publish(profile_id, compiled, work.trust, why)
        if why == "content":
            self._conclusions.published(profile_id, work.resources)

    def _concluded(self, resources: Mapping[str, RawResource], work: Pass) -> Outcome:
        held: dict[str, str] = {}
        quiet: set[str] = set()
        for profile in work.reach:
            stored, built = (
                self._estate.bundles.get(profile),
                self._builder.known(profile, work.serial),
            )
            if stored is None or built is None:
                continue
            if stored.held and stored.held == built.revision:
                held[profile] = f"{stored.held_because}; the content before it is in force again"
            elif (failing := work.failing.get(profile)) is not None and failing.step == "tell":
                held[profile] = f"{failing.message}; no content before it is known to have worked"
            elif stored.revision == built.revision:
                quiet.add(profile)
        self._conclusions.unchanged(quiet, resources)
        self._conclusions.forget(set(work.reach))
        verdicts = self._conclusions.verdicts(
            resources, work.effective.verdicts, work.reach, refused=work.refused, held=held
        )
        return Outcome(
            resources=resources,
            verdicts=verdicts,
            effective=work.effective,
            reach=work.reach,
        )

    async def _remove_idle(self, used: set[str]) -> None:
        for profile_id in self._idle.expired(self._estate.bundles, used, time.time()):
            if self._leading():
                await self._publisher.remove(profile_id)

    def _measure(
        self, resources: Mapping[str, RawResource], profiles: Mapping[str, Profile]
    ) -> None:
        for kind in (CLASSIFICATION, POLICY):
            count = sum(raw.kind == kind for raw in resources.values())
            metrics.RESOURCES.labels(kind).set(count)
        verdicts: Mapping[str, Verdict] = self.outcome.verdicts if self.outcome else {}
        metrics.INVALID.set(sum(not verdict.sound for verdict in verdicts.values()))
        metrics.PODS.set(len(self._estate.pods))
        metrics.PROFILES.set(len(profiles))
