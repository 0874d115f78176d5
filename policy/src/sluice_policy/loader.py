"""A directory of YAML files → resources, and every problem of every file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sluice_crds import DataClassification
from sluice_policy.documents import FILE_BYTES_MAX, Document, read_documents
from sluice_policy.problems import Problem, field_path
from sluice_policy.resources import Resource, parse_resource

FILES_MAX = 10_000
"""More is surely not a directory of policies."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a directory holds."""

    resources: tuple[Resource, ...]
    problems: tuple[Problem, ...]

    @property
    def classifications(self) -> tuple[DataClassification, ...]:
        """The DataClassifications, with their namespace filled in."""
        out: list[DataClassification] = []
        for resource in self.resources:
            if isinstance(resource.model, DataClassification):
                metadata = resource.model.metadata.model_copy(
                    update={"namespace": resource.namespace}
                )
                out.append(resource.model.model_copy(update={"metadata": metadata}))
        return tuple(out)


def _policy_files(directory: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(directory):
        # Hidden folders are how mounted ConfigMaps keep their versions.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith((".yaml", ".yml")) and not name.startswith("."):
                yield Path(root) / name


def _read(path: Path) -> bytes | str:
    """Bytes of the file, or why it cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "is not a file"
        with path.open("rb") as stream:
            return stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _resource(document: Document, file: str, namespace: str) -> Resource | list[Problem]:
    name, home = _names(document, namespace)
    label = f"{name} " if name else ""
    reference = f"{label}{home}".strip()
    problems = [
        Problem(
            file=file,
            line=fault.line,
            resource=reference,
            path=field_path(fault.location),
            message=fault.message,
        )
        for fault in document.faults
    ]
    if problems and document.value is None:
        return problems
    parsed = parse_resource(document.value)
    if isinstance(parsed, list):
        problems += [
            Problem(
                file=file,
                line=document.line_of(error.location),
                resource=reference,
                path=field_path(error.location),
                message=error.message,
            )
            for error in parsed
        ]
    if problems or isinstance(parsed, list):
        return problems
    return Resource(
        model=parsed,
        namespace=parsed.metadata.namespace or namespace,
        file=file,
        line=document.line,
        lines=document.lines,
    )


def _names(document: Document, namespace: str) -> tuple[str, str]:
    """Kind and ``namespace/name`` of a document, as far as they can be made out."""
    anything: object = document.value
    if not isinstance(anything, dict):
        return "", ""
    value = cast("dict[str, object]", anything)
    kind, metadata = value.get("kind"), value.get("metadata")
    name, home = None, None
    if isinstance(metadata, dict):
        fields = cast("dict[str, object]", metadata)
        name, home = fields.get("name"), fields.get("namespace")
    if not isinstance(kind, str) or not isinstance(name, str):
        return "", ""
    return kind, f"{home if isinstance(home, str) else namespace}/{name}"


def load_directory(path: Path | str, *, namespace: str = "default") -> Loaded:
    """Read every ``*.yaml`` and ``*.yml`` below a directory, in sorted order.

    Args:
        path: The directory; hidden folders and files are left out.
        namespace: Of resources that name none.

    Returns:
        The resources that are valid by themselves, and everything that is wrong with the others.
        Of two resources of one kind and name the first is kept.
    """
    directory = Path(path)
    if not directory.is_dir():
        return Loaded((), (Problem(file=str(path), message="is not a directory"),))
    problems: list[Problem] = []
    kept: dict[tuple[str, str], Resource] = {}
    count = 0
    for count, file in enumerate(_policy_files(directory), start=1):
        if count > FILES_MAX:
            problems.append(Problem(file=str(path), message=f"more than {FILES_MAX} files"))
            break
        _load_file(file, namespace, kept, problems)
    if not count:
        problems.append(Problem(file=str(path), message="no *.yaml or *.yml file in it"))
    return Loaded(tuple(kept.values()), tuple(problems))


def _load_file(
    file: Path, namespace: str, kept: dict[tuple[str, str], Resource], problems: list[Problem]
) -> None:
    data = _read(file)
    if isinstance(data, str):
        problems.append(Problem(file=str(file), message=data))
        return
    documents, faults = read_documents(data)
    for document in documents:
        resource = _resource(document, str(file), namespace)
        if isinstance(resource, list):
            problems += resource
            continue
        key = (resource.kind, resource.full_name)
        if key in kept:
            first = kept[key]
            problems.append(
                resource.problem((), f"given twice; first in {first.file}:{first.line}")
            )
            continue
        kept[key] = resource
    problems += [
        Problem(file=str(file), line=fault.line, message=fault.message) for fault in faults
    ]
