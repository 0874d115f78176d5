"""What must be there before the proxy starts, and what OPA waits for."""

from __future__ import annotations

import os

from sluice_proxy.loopback import LoopbackFiles
from sluice_proxy.sidecar.catalogs import OPTIONAL, REQUIRED, missing_keys
from sluice_proxy.sidecar.environment import Environment, Layout


class PreparationError(Exception):
    """The pod must not start. The message says what is missing and who has to make it."""


def prepare(environment: Environment, layout: Layout) -> None:
    """Check what is mounted, and make certificate and token of the service that OPA polls.

    Raises:
        PreparationError: Something is missing.
    """
    problems = [*_catalog_problems(environment, layout), *_mount_problems(layout)]
    if problems:
        raise PreparationError(" ".join(problems))
    try:
        layout.run.mkdir(parents=True, exist_ok=True)
        LoopbackFiles(layout.run).ensure()
    except OSError as error:
        raise PreparationError(f"{layout.run} cannot be prepared: {error}") from error


def _catalog_problems(environment: Environment, layout: Layout) -> list[str]:
    """Return a sentence for each catalog Secret that is not there or not whole.

    Without it no column of that database could be masked, and every governed session would be refused: better now.
    """
    problems: list[str] = []
    for entry in environment.databases:
        if entry.catalog is None:
            continue
        missing = missing_keys(layout.place(entry.catalog))
        if not missing:
            continue
        secret = f'Secret "{entry.secret}"' if entry.secret else "catalog Secret"
        what = "is missing or empty" if len(missing) == len(REQUIRED) else "is not whole"
        problems.append(
            f'The {secret} in namespace "{environment.namespace}" {what}: '
            f"{entry.name} needs it with type sluice.dev/catalog and the keys {', '.join(REQUIRED)} "
            f"(optional: {', '.join(OPTIONAL)}); missing: {', '.join(missing)}. "
            "Create it and the pod starts by itself."
        )
    return problems


def _mount_problems(layout: Layout) -> list[str]:
    problems: list[str] = []
    if not layout.token.is_file():
        problems.append(f"The projected token {layout.token} is not mounted.")
    problems += [
        f"{directory} cannot be written by uid {os.getuid()}."
        for directory in (layout.run, layout.state, layout.spool)
        if directory.exists() and not os.access(directory, os.W_OK | os.X_OK)
    ]
    return problems
