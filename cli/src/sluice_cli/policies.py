"""Loading and compiling a folder of policies for one workload."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from sluice_cli.exits import UsageError
from sluice_crds import DataClassification
from sluice_policy import Compiled, Problem, Profile, compile_profile, load_directory

_LABEL = re.compile(r"[A-Za-z0-9./_-]+=[A-Za-z0-9._-]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """What a folder came to."""

    problems: tuple[Problem, ...]
    compiled: Compiled | None
    """None when a file could not even be read as resources."""
    classifications: tuple[tuple[str, DataClassification], ...]
    """With their ``namespace/name``."""
    resources: int

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep it from being used."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


def identity(arguments: argparse.Namespace) -> Profile:
    """Return the workload that the options describe.

    Raises:
        UsageError: A label is not of the form key=value.
    """
    labels: dict[str, str] = {}
    for item in (item for option in arguments.labels for item in option.split(",") if item):
        if not _LABEL.match(item):
            raise UsageError(f"--labels {item}: a label is written key=value")
        key, _, value = item.partition("=")
        labels[key] = value
    return Profile(arguments.namespace, arguments.service_account, labels)


def load(directory: Path, who: Profile) -> Loading:
    """Load every file of the folder and compile what holds for the workload.

    Raises:
        UsageError: The folder cannot be read.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is no folder that can be read")
    loaded = load_directory(directory, namespace=who.namespace)
    problems = list(loaded.problems)
    compiled = compile_profile(loaded.resources, who)
    problems += [problem for problem in compiled.problems if problem not in problems]
    classifications = tuple(
        (resource.full_name, resource.model)
        for resource in loaded.resources
        if isinstance(resource.model, DataClassification)
    )
    return Loading(
        problems=tuple(problems),
        compiled=compiled,
        classifications=classifications,
        resources=len(loaded.resources),
    )
