"""The options of ``sluice run``. Light: the sidecar itself is imported when it runs."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from sluice_cli.commands import Commands, later
from sluice_cli.identities import add_identity_arguments

DEFAULT_LISTEN = "127.0.0.1:6432"
LOG_LEVELS = ("debug", "info", "warning", "error")


def add_parser(commands: Commands) -> None:
    """Add ``run``."""
    parser = commands.add_parser(
        "run",
        help="govern a database: the sidecar without Kubernetes",
        description="Stand before one or more PostgreSQL databases and enforce a folder of policies. The folder is "
        "watched: changes are in force at once, a broken file is reported and the last good set stays. "
        "DATABASE is the name of a DataClassification, with or without its namespace.",
        epilog="Exit codes: 0 ended on request, 2 usage, 3 policies, 4 OPA, 5 address in use, 6 spool, 70 internal.",
    )
    _add_places(parser)
    add_identity_arguments(parser)
    _add_operation(parser)
    parser.set_defaults(handler=later("sluice_cli.run_command", "run"))


def _add_places(parser: ArgumentParser) -> None:
    """Add where policies, clients and databases are."""
    parser.add_argument(
        "--policies", metavar="DIR", type=Path, required=True, help="folder of YAML files"
    )
    parser.add_argument(
        "--listen",
        metavar="[DATABASE=]ADDR:PORT|unix:PATH",
        action="append",
        help=f"where clients connect; repeatable (default {DEFAULT_LISTEN})",
    )
    parser.add_argument(
        "--upstream",
        metavar="[DATABASE=]HOST:PORT",
        action="append",
        help="where the database is; repeatable (default: as its DataClassification says)",
    )
    parser.add_argument(
        "--upstream-ca",
        metavar="[DATABASE=]FILE",
        action="append",
        help="PEM of the authorities that may sign the server's certificate, for the TLS mode of the "
        "DataClassification; repeatable",
    )
    parser.add_argument(
        "--upstream-certificate",
        metavar="[DATABASE=]DIR",
        action="append",
        help="folder with tls.crt and tls.key, shown to a server that asks for them; repeatable",
    )
    parser.add_argument(
        "--client-certificate",
        metavar="[DATABASE=]DIR",
        action="append",
        help="folder with tls.crt and tls.key, shown to clients of its listener that ask for TLS; repeatable (default: "
        "they are told that there is none)",
    )
    parser.add_argument(
        "--catalog",
        metavar="[DATABASE=]FILE",
        action="append",
        help="file with the DSN of the role that reads the catalog; repeatable (or SLUICE_CATALOG_DSN[_DATABASE])",
    )


def _add_operation(parser: ArgumentParser) -> None:
    """Add how it runs."""
    parser.add_argument(
        "--health",
        metavar="ADDR:PORT",
        help="serve /healthz, /readyz and /metrics there (default: nowhere)",
    )
    parser.add_argument(
        "--spool", metavar="DIR", type=Path, help="audit spool (default: STATE/spool)"
    )
    parser.add_argument(
        "--state",
        metavar="DIR",
        type=Path,
        help="folder for what must outlive a restart (default: ~/.local/state/sluice)",
    )
    parser.add_argument(
        "--opa", metavar="PATH", help="Open Policy Agent (default: SLUICE_OPA, then PATH)"
    )
    parser.add_argument(
        "--max-policy-age",
        metavar="TIME",
        default="24h",
        help="how long a policy holds without being confirmed (default 24h)",
    )
    parser.add_argument(
        "--drain",
        metavar="TIME",
        default="30s",
        help="what live sessions may take at the end (default 30s)",
    )
    parser.add_argument(
        "--log-level", choices=LOG_LEVELS, help="default: SLUICE_LOG_LEVEL, then info"
    )
