"""The options of ``sluice compile`` and ``sluice validate``."""

from __future__ import annotations

from pathlib import Path

from sluice_cli.commands import Commands, later
from sluice_cli.identities import add_identity_arguments


def add_parsers(commands: Commands) -> None:
    """Add ``compile`` and ``validate``."""
    compiling = commands.add_parser(
        "compile",
        help="write the signed bundle of a folder of policies",
        description="Compile a folder of DataClassification and DatabaseAccessPolicy files for one workload "
        "and write the signed bundle.",
    )
    compiling.add_argument("directory", metavar="DIR", type=Path, help="folder of YAML files")
    compiling.add_argument(
        "-o", "--output", metavar="FILE", type=Path, required=True, help="bundle to write (tar.gz)"
    )
    compiling.add_argument(
        "--key",
        metavar="FILE",
        type=Path,
        help="private key (PEM, EC P-256) to sign with; default: one made for this bundle, whose public half is "
        "written beside it as FILE.pem",
    )
    compiling.add_argument(
        "--sequence", metavar="N", type=int, default=1, help="number of the bundle (default 1)"
    )
    add_identity_arguments(compiling)
    compiling.set_defaults(handler=later("sluice_cli.bundle_commands", "compile_folder"))

    validating = commands.add_parser(
        "validate",
        help="say what is wrong with a folder of policies",
        description="Check every file of a folder and print every problem: file:line: resource: field: message.",
    )
    validating.add_argument("directory", metavar="DIR", type=Path, help="folder of YAML files")
    add_identity_arguments(validating)
    validating.set_defaults(handler=later("sluice_cli.bundle_commands", "validate_folder"))
