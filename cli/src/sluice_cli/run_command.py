"""``sluice run``: the sidecar without Kubernetes."""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from sluice_cli.exits import Exit, UsageError
from sluice_cli.policies import Loading, identity, load
from sluice_cli.run_arguments import (
    DatabaseOptions,
    check_environment,
    database_options,
    duration_s,
    host_port,
)
from sluice_cli.standalone import DirectorySource
from sluice_policy import Profile
from sluice_proxy import log_keys as keys
from sluice_proxy import logs
from sluice_proxy.databases import Databases
from sluice_proxy.decide import Workload
from sluice_proxy.opa import find_opa
from sluice_proxy.opa_files import OpaError
from sluice_proxy.run import Sidecar
from sluice_proxy.settings import SidecarSettings
from sluice_proxy.start_errors import ListenError, SpoolError, StartError

log = structlog.get_logger(__name__)


def run(arguments: argparse.Namespace) -> int:
    """Run until a signal; return the exit code.

    Raises:
        UsageError: The options or the environment are wrong.
    """
    check_environment(os.environ)
    level = arguments.log_level or os.environ.get("SLUICE_LOG_LEVEL", "info").lower()
    if level not in logs.LEVELS:
        raise UsageError(f"SLUICE_LOG_LEVEL {level}: there are {', '.join(logs.LEVELS)}")
    logs.configure(level)
    who = identity(arguments)
    loading = load(arguments.policies, who)
    for problem in loading.problems:
        print(f"sluice: {problem}", file=sys.stderr)
    if loading.errors:
        print("sluice: cannot start: correct the policies above", file=sys.stderr)
        return Exit.POLICIES
    names = [name for name, _ in loading.classifications]
    if not names:
        print(
            f"sluice: cannot start: {arguments.policies} holds no DataClassification: there is no database to govern",
            file=sys.stderr,
        )
        return Exit.POLICIES
    options = database_options(arguments, os.environ, names)
    options.check(names, who.namespace)
    # Short, because a unix socket's path has at most 107 bytes.
    runtime = Path(tempfile.mkdtemp(prefix="sluice-"))
    try:
        settings = _settings(arguments, who, options, runtime)
        return asyncio.run(_Standalone(arguments, who, loading, options).run(settings))
    except OpaError as error:
        print(f"sluice: cannot start: {error}", file=sys.stderr)
        return Exit.OPA
    finally:
        shutil.rmtree(runtime, ignore_errors=True)


def _settings(
    arguments: argparse.Namespace, who: Profile, options: DatabaseOptions, runtime: Path
) -> SidecarSettings:
    state = (arguments.state or _state_home(os.environ)).absolute()
    return SidecarSettings(
        workload=Workload(
            namespace=who.namespace,
            service_account=who.service_account,
            pod=None,
            labels=dict(who.labels),
            # The options say so and nobody else: that is an assertion.
            assurance="asserted",
        ),
        profile=who.id,
        listeners=options.listening(who.namespace),
        spool_directory=(arguments.spool or state / "spool").absolute(),
        state_directory=state / "bundles" / who.id,
        runtime_directory=runtime,
        opa_program=find_opa(arguments.opa, os.environ),
        health=None if arguments.health is None else host_port("--health", arguments.health),
        drain_s=duration_s("--drain", arguments.drain),
    )


def _state_home(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "sluice"


@dataclass(slots=True)
class _Standalone:
    """One run, from the first compiled set to the last closed session."""

    arguments: argparse.Namespace
    who: Profile
    loading: Loading
    options: DatabaseOptions

    async def run(self, settings: SidecarSettings) -> int:
        databases = Databases()

        def loaded(loading: Loading) -> None:
            databases.replace(
                self.options.database(name, model, self.who.namespace)
                for name, model in loading.classifications
            )

        source = DirectorySource(
            self.arguments.policies,
            self.who,
            max_policy_age_s=math.ceil(
                duration_s("--max-policy-age", self.arguments.max_policy_age)
            ),
            on_loaded=loaded,
        )
        source.take(self.loading)
        settings.bundle_keys.update(source.public_keys)
        sidecar = Sidecar(settings, source, databases)
        ended = _until_signal(sidecar)
        watching = asyncio.create_task(source.watch(), name="policies")
        try:
            return await self._serve(sidecar, databases, ended)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await sidecar.stop()

    async def _serve(self, sidecar: Sidecar, databases: Databases, ended: asyncio.Event) -> int:
        starting = asyncio.create_task(sidecar.start(), name="start")
        waiting = asyncio.create_task(ended.wait(), name="signal")
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return Exit.OK
        try:
            await starting
        except StartError as error:
            print(f"sluice: cannot start: {error}", file=sys.stderr)
            waiting.cancel()
            return _exit_of(error)
        print(_ready_line(sidecar, databases), flush=True)
        await waiting
        return Exit.OK


def _exit_of(error: StartError) -> int:
    if isinstance(error, ListenError):
        return Exit.ADDRESS
    return Exit.SPOOL if isinstance(error, SpoolError) else Exit.POLICIES


def _ready_line(sidecar: Sidecar, databases: Databases) -> str:
    served = ", ".join(f"{database.name} (upstream {database.upstream})" for database in databases)
    health = f", health on {sidecar.health_address}" if sidecar.health_address else ""
    return f"sluice: ready — listening on {', '.join(sidecar.addresses)} for {served}{health}"


def _until_signal(sidecar: Sidecar) -> asyncio.Event:
    """Return what is set by the first SIGTERM or SIGINT; a second one cuts the sessions that are left."""
    ended = asyncio.Event()

    def take(number: signal.Signals) -> None:
        log.info("ending", **{keys.SIGNAL: number.name})
        if ended.is_set():
            sidecar.cut()
        ended.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, take, number)
    return ended
