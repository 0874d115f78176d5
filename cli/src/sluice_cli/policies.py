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
class Identity:
    """The workload that the options describe."""

    namespace: str
    service_account: str
    labels: dict[str, str]

    @property
    def profile(self) -> str:
        """Id of the bundles made for it."""
        return f"{self.namespace}.{self.service_account}"


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


def add_identity_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say who the workload is."""
    group = parser.add_argument_group("identity of the workload")
    group.add_argument(
        "--namespace",
        metavar="NAME",
        default="default",
        help="its namespace, and that of resources without one (default: default)",
    )
    group.add_argument(
        "--service-account",
        metavar="NAME",
        default="default",
        help="its service account (default: default)",
    )
    group.add_argument(
        "--labels",
        metavar="K=V",
        action="append",
        default=[],
        help="a label of its pod; repeatable, or several joined by commas",
    )


def identity(arguments: argparse.Namespace) -> Identity:
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
    return Identity(
        namespace=arguments.namespace, service_account=arguments.service_account, labels=labels
    )


def load(directory: Path, who: Identity) -> Loading:
    """Load every file of the folder and compile what holds for the workload.

    Raises:
        UsageError: The folder cannot be read.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is no folder that can be read")
    loaded = load_directory(directory, namespace=who.namespace)
    profile = Profile(
        namespace=who.namespace, service_account=who.service_account, labels=who.labels
    )
    problems = list(loaded.problems)
    compiled = compile_profile(loaded.resources, profile)
    problems += [problem for problem in compiled.problems if problem not in problems]
    if not loaded.resources and not problems:
        problems.append(
            Problem(file=str(directory), message="the folder holds no resource (*.yaml, *.yml)")
        )
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
