"""``sluice-operator controller|admission|bundles``: one package, three processes.

Each process is a module ``sluice_operator.<process>.app`` with ``read_settings(Environment) -> Settings`` and
``async run(Settings) -> None``, imported only when it is the one that was asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from sluice_operator import logs
from sluice_operator.settings import Environment, SettingsError

PROCESSES = {
    "controller": "compile, sign and publish policies; write statuses and Events; one is active at a time",
    "admission": "the webhooks: inject the sidecar into pods, validate both resources",
    "bundles": "serve signed bundles and identities to sidecars",
}

EXIT_SETTINGS = 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sluice-operator",
        description="The operator of Sluice. Its settings are environment variables: docs/reference/operator.md",
    )
    parser.add_argument("--version", action="version", version=version("sluice-operator"))
    processes = parser.add_subparsers(dest="process", metavar="PROCESS", required=True)
    for name, text in PROCESSES.items():
        processes.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one process until it is told to stop; return its exit code."""
    process = _parser().parse_args(arguments).process
    app = importlib.import_module(f"sluice_operator.{process}.app")
    try:
        environment = Environment(os.environ)
        settings = app.read_settings(environment)
        environment.finish()
    except SettingsError as error:
        print(f"sluice-operator {process}: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_SETTINGS
    logs.configure(settings.common.log_level)
    try:
        asyncio.run(app.run(settings))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
