"""``sluice compile`` and ``sluice validate``."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from sluice_cli.exits import Exit, UsageError
from sluice_cli.policies import Loading, identity, load
from sluice_policy import SigningKey, bundle

MAX_POLICY_AGE_S = 24 * 3600


def compile_folder(arguments: argparse.Namespace) -> int:
    """Write a signed bundle."""
    loading = _load(arguments)
    if loading.errors or loading.compiled is None:
        return Exit.PROBLEMS
    key = SigningKey.generate() if arguments.key is None else _key(arguments.key)
    raw = bundle(
        loading.compiled,
        sequence=arguments.sequence,
        issued_at=datetime.now(UTC),
        profile_id=identity(arguments).id,
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


def validate_folder(arguments: argparse.Namespace) -> int:
    """Print every problem of a folder."""
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
