"""``sluice compile`` and ``sluice validate``."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from sluice_cli.exits import Exit, UsageError
from sluice_cli.policies import Loading, add_identity_arguments, identity, load
from sluice_policy import SigningKey, bundle

MAX_POLICY_AGE_S = 24 * 3600.0


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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
    compiling.set_defaults(handler=_compile)

    validating = commands.add_parser(
        "validate",
        help="say what is wrong with a folder of policies",
        description="Check every file of a folder and print every problem: file:line: resource: field: message.",
    )
    validating.add_argument("directory", metavar="DIR", type=Path, help="folder of YAML files")
    add_identity_arguments(validating)
    validating.set_defaults(handler=_validate)


def _compile(arguments: argparse.Namespace) -> int:
    loading = _load(arguments)
    if loading.errors or loading.compiled is None:
        return Exit.PROBLEMS
    key = SigningKey.generate() if arguments.key is None else _key(arguments.key)
    raw = bundle(
        loading.compiled,
        sequence=arguments.sequence,
        issued_at=datetime.now(UTC),
        profile_id=identity(arguments).profile,
        max_policy_age_s=MAX_POLICY_AGE_S,
        key=key,
    )
    output: Path = arguments.output
    try:
        output.write_bytes(raw)
        if arguments.key is None:
            output.with_name(output.name + ".pem").write_text(key.public_pem)
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be written: {error.strerror}") from error
    print(f"{output}: revision {loading.compiled.revision}, key {key.key_id}")
    return Exit.OK


def _validate(arguments: argparse.Namespace) -> int:
    loading = _load(arguments)
    errors = len(loading.errors)
    if errors:
        print(
            f"sluice: {errors} problem{'s' if errors > 1 else ''} in {arguments.directory}",
            file=sys.stderr,
        )
        return Exit.PROBLEMS
    print(f"{arguments.directory}: {loading.resources} resources, nothing wrong")
    return Exit.OK


def _load(arguments: argparse.Namespace) -> Loading:
    loading = load(arguments.directory, identity(arguments))
    for problem in loading.problems:
        print(problem, file=sys.stderr if problem.severity == "warning" else sys.stdout)
    return loading


def _key(path: Path) -> SigningKey:
    try:
        return SigningKey.load(path.read_bytes())
    except OSError as error:
        raise UsageError(f"--key {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--key {path} is no private EC key in PEM: {error}") from error
