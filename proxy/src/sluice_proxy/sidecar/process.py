"""``sluice-sidecar run``: from the environment to a governed pod, until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import sys
from collections.abc import Coroutine, Mapping
from typing import Any, Final

import structlog

from sluice_proxy import log_keys as keys
from sluice_proxy.databases import Database, Databases
from sluice_proxy.decide import Decider, UnixOpaClient
from sluice_proxy.health import HealthServer
from sluice_proxy.metrics import Metrics
from sluice_proxy.opa_files import socket_path
from sluice_proxy.run import Sidecar
from sluice_proxy.settings import Listener, SidecarSettings
from sluice_proxy.sidecar.audit import AuditFollower
from sluice_proxy.sidecar.catalogs import CatalogSecret
from sluice_proxy.sidecar.denials import Denials
from sluice_proxy.sidecar.environment import DatabaseEntry, Environment, Layout
from sluice_proxy.sidecar.identity import (
    Identity,
    IdentityError,
    check_identity,
    keep_identity,
    kept_identity,
    parse_identity,
)
from sluice_proxy.sidecar.remote import Remote, RemoteError, RemoteSource
from sluice_proxy.sidecar.status import StatusReporter
from sluice_proxy.sidecar.survey import Survey
from sluice_proxy.start_errors import ListenError, NotStartedError
from sluice_proxy.tls import ServerTls, TlsFile, TlsPair

log = structlog.get_logger(__name__)

HEALTH: Final = ("0.0.0.0", 15281)  # noqa: S104  The kubelet asks at the pod's address.
BUNDLE_PORT: Final = 15280
READY_STEP_S: Final = 0.01
RETRY_MIN_S: Final = 0.2
RETRY_MAX_S: Final = 5.0
KEPT_AFTER_S: Final = 2.0
"""An identity that is kept is used when the operator has not answered for so long."""
FLUSH_S: Final = 2.0


class PodSidecar:
    """The proxy container of one pod."""

    def __init__(
        self,
        environment: Environment,
        layout: Layout,
        *,
        health: tuple[str, int] = HEALTH,
        bundle_port: int = BUNDLE_PORT,
        listener: socket.socket | None = None,
        remote: Remote | None = None,
    ) -> None:
        """Make one; nothing is opened yet.

        Args:
            environment: What the webhook said.
            layout: Where everything is.
            health: Host and port of health and metrics.
            bundle_port: Where OPA asks for bundles.
            listener: Listens there already (``loopback.listen``); it is closed here.
            remote: The way to the bundle service when it has begun; it is closed here.
        """
        self._environment = environment
        self._layout = layout
        self._health = health
        self._bundle_port = bundle_port
        self._listener = listener
        self._remote = remote or Remote(environment.bundles_url, layout.token, environment.trust)
        self._source = RemoteSource(self._remote)
        self._databases = Databases()
        self._denials = Denials()
        self._waiting_for = "the operator has not been asked yet"
        self._tasks: list[asyncio.Task[None]] = []
        self._reporter: StatusReporter | None = None
        self._audit: AuditFollower | None = None
        self.sidecar: Sidecar | None = None
        """The running parts, once the identity is known."""

    async def run(self, ended: asyncio.Event) -> int:
        """Serve until the event; return the exit code.

        Raises:
            StartError: Something is wrong that waiting does not help against.
            NotStartedError: The event came first.
        """
        work = asyncio.create_task(self._serve(), name="serve")
        waiting = asyncio.create_task(ended.wait(), name="signal")
        try:
            await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
                await waiting
            elif not self._layout.started.exists() and self.waits():
                raise NotStartedError(
                    f"Ended before it was ready; it waited for: {self.missing()}."
                )
            return 0
        finally:
            await self._stop(work, waiting)

    async def _serve(self) -> None:
        """Start everything."""
        identity = await self._wait_for_identity()
        sidecar = self._make(identity)
        self.sidecar = sidecar
        sidecar.bundles.on_offered(self._remote.follow_trust)
        survey = Survey(self._databases)
        self._reporter = StatusReporter(
            self._remote, identity.profile, sidecar, self._denials, survey
        )
        self._audit = AuditFollower(
            self._layout.spool,
            lambda: sidecar.incarnation,
            self._denials,
            stream=sys.stdout.buffer if self._environment.audit_to_stdout else None,
            spool_bytes_max=self._environment.spool_bytes_max,
        )
        # While it starts as well: the operator sees what is missing.
        self._begin("status", self._reporter.run())
        self._begin("audit", self._audit.run())
        await sidecar.start()
        while sidecar.not_ready():  # noqa: ASYNC110  What is missing tells no one when it comes.
            await asyncio.sleep(READY_STEP_S)
        self._layout.started.touch()
        self._begin("survey", self._look(survey, sidecar, identity))
        log.info("ready", **{keys.PROFILE: identity.profile})

    def waits(self) -> Mapping[str, str]:
        """Return what it is not ready for, and why."""
        return {"identity": self._waiting_for} if self.sidecar is None else self.sidecar.not_ready()

    def missing(self) -> str:
        """Return it as a sentence has it."""
        return "; ".join(f"{part}: {reason}" for part, reason in sorted(self.waits().items()))

    async def _look(self, survey: Survey, sidecar: Sidecar, identity: Identity) -> None:
        """Hold the catalogs against the policy, on a way to OPA that no session waits for."""
        async with UnixOpaClient(socket_path(self._layout.run)) as opa:
            asked = Decider(opa, sidecar.bundles, identity.workload(), sidecar.metrics)
            await survey.run(sidecar, asked)

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def _stop(self, *tasks: asyncio.Task[Any]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.sidecar is not None:
            await self.sidecar.stop()
        self._refuse_polls()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await self._flush()
        await self._remote.close()

    async def _flush(self) -> None:
        """Tell what the last statements left."""
        if self._audit is not None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._audit.finish)
        if self._reporter is not None:
            await self._reporter.flush()

    async def _wait_for_identity(self) -> Identity:
        """Return who we are, as soon as the operator says so, or as it said before."""
        health = HealthServer(
            readiness=lambda: {"identity": self._waiting_for},
            degraded=dict,
            metrics=Metrics().text,
        )
        host, port = self._health
        try:
            await health.start(host, port)
        except OSError as error:
            raise ListenError(f"health on {host}:{port} cannot be bound: {error}") from error
        try:
            return await self._ask_for_identity()
        finally:
            await health.stop()

    async def _ask_for_identity(self) -> Identity:
        kept = kept_identity(self._layout.state)
        began, delay = asyncio.get_running_loop().time(), RETRY_MIN_S
        while True:
            problem = await self._try_identity()
            if isinstance(problem, Identity):
                return problem
            if problem != self._waiting_for:
                log.warning("no identity yet", **{keys.REASON: problem})
            self._waiting_for = problem
            late = asyncio.get_running_loop().time() - began > KEPT_AFTER_S
            if kept is not None and late and kept.pod_uid == self._environment.pod_uid:
                log.warning("the identity of the last run is used", **{keys.PROFILE: kept.profile})
                return kept
            if late:
                self._refuse_polls()
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
            delay = min(delay * 2, RETRY_MAX_S)

    def _refuse_polls(self) -> None:
        """Close what OPA waits at: nobody will answer soon, and refused polls pile up nowhere."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _try_identity(self) -> Identity | str:
        """Return the identity, or why there is none."""
        try:
            identity = parse_identity(await self._remote.identity())
            check_identity(identity, self._environment, self._remote.token())
            self._layout.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            keep_identity(identity, self._layout.state)
        except (RemoteError, IdentityError) as error:
            return str(error)
        return identity

    def _make(self, identity: Identity) -> Sidecar:
        environment, layout = self._environment, self._layout
        self._databases.replace(self._database(entry) for entry in environment.databases)
        groups = dict.fromkeys(entry.listen for entry in environment.databases)
        settings = SidecarSettings(
            workload=identity.workload(),
            profile=identity.profile,
            listeners=tuple(
                Listener(name=group, address=group, certificate=self._shown(group))
                for group in groups
            ),
            spool_directory=layout.spool,
            state_directory=layout.state,
            runtime_directory=layout.run,
            opa_program=None,
            bundle_port=self._bundle_port,
            bundle_listener=self._listener,
            first_policy_s=None,
            resolver="dns",
            health=self._health,
            bundle_keys=dict(environment.trust.keys),
            spool_bytes_max=environment.spool_bytes_max,
            drain_s=environment.drain_s,
        )
        return Sidecar(settings, self._source, self._databases, self._denials, self._weak)

    def _weak(self) -> dict[str, str]:
        problem = self._source.problem
        return {} if problem is None else {"bundle service": problem}

    def _database(self, entry: DatabaseEntry) -> Database:
        host = f"[{entry.host}]" if ":" in entry.host else entry.host
        catalog = None
        if entry.catalog is not None:
            catalog = CatalogSecret(self._layout.place(entry.catalog), entry.database)
        return Database(
            name=entry.name,
            database_name=entry.database,
            upstream=f"{host}:{entry.port}",
            catalog_dsn=catalog,
            group=entry.listen,
            tls=self._tls(entry),
        )

    def _tls(self, entry: DatabaseEntry) -> ServerTls:
        authorities = certificate = None
        if entry.authorities is not None:
            file, secret = entry.authorities
            authorities = TlsFile(self._layout.place(file), secret)
        if entry.certificate is not None:
            folder, secret = entry.certificate
            certificate = TlsPair(self._layout.place(folder), secret)
        return ServerTls(
            mode=entry.tls,
            names=entry.tls_names or (entry.host,),
            authorities=authorities,
            certificate=certificate,
        )

    def _shown(self, group: str) -> TlsPair | None:
        """Return what clients of a server are shown: the first of its databases that says so decides."""
        for entry in self._environment.databases:
            if entry.listen == group and entry.client_tls is not None:
                folder, secret = entry.client_tls
                return TlsPair(self._layout.place(folder), secret)
        return None


async def serve(
    environment: Environment,
    layout: Layout,
    *,
    health: tuple[str, int] = HEALTH,
    listener: socket.socket,
    remote: Remote,
) -> int:
    """Run the proxy container until SIGTERM or SIGINT; a second signal cuts the sessions that are left.

    Args:
        environment: What the webhook said.
        layout: Where everything is.
        health: Host and port of health and metrics.
        listener: Where OPA asks for bundles (``loopback.listen``); it is closed here.
        remote: The way to the bundle service, which has begun; it is closed here.

    Raises:
        StartError: It cannot start.
        NotStartedError: The signal came before it was ready.
    """
    port = listener.getsockname()[1]
    pod = PodSidecar(
        environment, layout, health=health, bundle_port=port, listener=listener, remote=remote
    )
    ended = asyncio.Event()

    def take(number: signal.Signals) -> None:
        log.info("ending", **{keys.SIGNAL: number.name})
        if ended.is_set() and pod.sidecar is not None:
            pod.sidecar.cut()
        ended.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, take, number)
    return await pod.run(ended)
