"""``sluice-sidecar run | started``: the proxy container, and its hook. The environment alone configures it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

    from sluice_proxy.sidecar.environment import Environment, Layout

OK: Final = 0
CANNOT_START: Final = 1
USAGE: Final = 2
TERMINATION_BYTES_MAX: Final = 4096
"""What a kubelet keeps of a termination message."""

HEALTH_PORT: Final = 15281
BUNDLE_PORT: Final = 15280

# Imports stand where they are used: the hook runs beside the start that it waits for, and OPA waits for the port.
# ruff: noqa: PLC0415


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the two; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["started"]:
        from sluice_proxy.sidecar.started import wait

        return wait(Path("/run/sluice/started"))
    return _run(given)


def _run(arguments: Sequence[str]) -> int:
    import argparse
    import os

    from sluice_proxy.sidecar.environment import Environment, Layout, SettingError

    parser = argparse.ArgumentParser(prog="sluice-sidecar", description=__doc__)
    parser.add_argument("command", choices=("run", "started"))
    # For running outside of a pod: another root, other ports.
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    parser.add_argument("--health", default=f"0.0.0.0:{HEALTH_PORT}", help=argparse.SUPPRESS)
    parser.add_argument("--bundle-port", type=int, default=BUNDLE_PORT, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    layout = Layout(given.root)
    if given.command == "started":
        from sluice_proxy.sidecar.started import wait

        return wait(layout.started)
    try:
        environment = Environment.read(os.environ)
    except SettingError as error:
        return _refuse(layout, str(error), USAGE)
    # Nobody is trusted but whom the webhook and the Secrets name; reading the system's authorities takes its time.
    os.environ["SSL_CERT_FILE"] = os.devnull
    os.environ.pop("SSL_CERT_DIR", None)
    host, _, port = given.health.rpartition(":")
    return _serve(environment, layout, (host, int(port)), given.bundle_port)


def _serve(
    environment: Environment, layout: Layout, health: tuple[str, int], bundle_port: int
) -> int:
    from sluice_proxy.sidecar.hardening import harden
    from sluice_proxy.sidecar.preparation import PreparationError, prepare
    from sluice_proxy.start_errors import NotStartedError, StartError

    try:
        harden()
        prepare(environment, layout)
        # Before all that takes half a second to import: OPA, which runs already, then waits instead of being refused
        # and trying again up to a second later.
        listener = _bundle_listener(bundle_port)
    except PreparationError as error:
        return _refuse(layout, str(error), CANNOT_START)
    except (StartError, OSError) as error:
        return _refuse(layout, f"The proxy cannot start: {error}", CANNOT_START)

    import asyncio

    from sluice_proxy import logs
    from sluice_proxy.opa_files import OpaError

    logs.configure(environment.log_level)
    try:
        return asyncio.run(_work(environment, layout, health, listener))
    except NotStartedError as error:
        return _refuse(layout, str(error), CANNOT_START)
    except (StartError, OpaError, OSError) as error:
        return _refuse(layout, f"The proxy cannot start: {error}", CANNOT_START)


async def _work(
    environment: Environment, layout: Layout, health: tuple[str, int], listener: socket.socket
) -> int:
    """Import everything else while the bundle service is asked for identity and policy."""
    import asyncio
    import importlib

    from sluice_proxy.sidecar.remote import Remote

    remote = Remote(environment.bundles_url, layout.token, environment.trust)
    remote.begin()
    try:
        process = await asyncio.to_thread(importlib.import_module, "sluice_proxy.sidecar.process")
    except ImportError:
        await remote.close()
        raise
    return await process.serve(environment, layout, health=health, listener=listener, remote=remote)


def _bundle_listener(port: int) -> socket.socket:
    from sluice_proxy import loopback
    from sluice_proxy.start_errors import ListenError

    try:
        return loopback.listen(port)
    except OSError as error:
        raise ListenError(f"the bundle service cannot be opened: {error}") from error


def _refuse(layout: Layout, message: str, code: int) -> int:
    """Say why, where ``kubectl logs`` and ``kubectl describe pod`` show it."""
    import contextlib

    print(f"sluice-sidecar: {message}", file=sys.stderr)  # noqa: T201
    with contextlib.suppress(OSError):
        layout.termination.write_bytes(message.encode()[:TERMINATION_BYTES_MAX])
    return code


if __name__ == "__main__":
    sys.exit(main())
