"""``sluice-sidecar prepare | run``: what the sidecar's containers run. The environment alone configures it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sluice_proxy import logs, loopback
from sluice_proxy.sidecar.environment import Environment, Layout, SettingError
from sluice_proxy.sidecar.hardening import harden
from sluice_proxy.start_errors import ListenError, StartError

OK: Final = 0
CANNOT_START: Final = 1
USAGE: Final = 2
TERMINATION_BYTES_MAX: Final = 4096
"""What a kubelet keeps of a termination message."""

HEALTH_PORT: Final = 15281
BUNDLE_PORT: Final = 15280


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the two; return the exit code."""
    parser = argparse.ArgumentParser(prog="sluice-sidecar", description=__doc__)
    parser.add_argument("command", choices=("prepare", "run"))
    # For running outside of a pod: another root, other ports.
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    parser.add_argument("--health", default=f"0.0.0.0:{HEALTH_PORT}", help=argparse.SUPPRESS)
    parser.add_argument("--bundle-port", type=int, default=BUNDLE_PORT, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    layout = Layout(given.root)
    try:
        environment = Environment.read(os.environ)
    except SettingError as error:
        return _refuse(layout, str(error), USAGE)
    logs.configure(environment.log_level)
    host, _, port = given.health.rpartition(":")
    if given.command == "prepare":
        return _prepare(environment, layout, given.bundle_port)
    return _run(environment, layout, (host, int(port)), given.bundle_port)


def _prepare(environment: Environment, layout: Layout, bundle_port: int) -> int:
    from sluice_proxy.sidecar.preparation import (  # noqa: PLC0415  The two need different things.
        PreparationError,
        prepare,
    )

    try:
        prepare(environment, layout, bundle_port=bundle_port)
    except PreparationError as error:
        return _refuse(layout, str(error), CANNOT_START)
    return OK


def _run(
    environment: Environment, layout: Layout, health: tuple[str, int], bundle_port: int
) -> int:
    try:
        harden()
        # Before all that takes half a second to import: OPA, which runs already, then waits instead of being refused
        # and trying again up to a second later.
        listener = _bundle_listener(bundle_port)
        from sluice_proxy.opa_files import OpaError  # noqa: PLC0415
        from sluice_proxy.sidecar.process import serve  # noqa: PLC0415
    except (StartError, OSError) as error:
        return _refuse(layout, f"The proxy cannot start: {error}", CANNOT_START)
    try:
        return asyncio.run(serve(environment, layout, health=health, listener=listener))
    except (StartError, OpaError, OSError) as error:
        return _refuse(layout, f"The proxy cannot start: {error}", CANNOT_START)


def _bundle_listener(port: int) -> socket.socket:
    try:
        return loopback.listen(port)
    except OSError as error:
        raise ListenError(f"the bundle service cannot be opened: {error}") from error


def _refuse(layout: Layout, message: str, code: int) -> int:
    """Say why, where ``kubectl logs`` and ``kubectl describe pod`` show it."""
    print(f"sluice-sidecar: {message}", file=sys.stderr)  # noqa: T201
    with contextlib.suppress(OSError):
        layout.termination.write_bytes(message.encode()[:TERMINATION_BYTES_MAX])
    return code


if __name__ == "__main__":
    sys.exit(main())
