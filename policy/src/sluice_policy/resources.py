"""Resources: a validated model together with where it came from."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, cast

from pydantic import ValidationError

from sluice_crds import API_VERSION, DatabaseAccessPolicy, DataClassification
from sluice_crds.manifests import manifest
from sluice_policy.problems import Problem, field_path

Model = DataClassification | DatabaseAccessPolicy
Location = tuple[str | int, ...]

KINDS: Mapping[str, type[DataClassification | DatabaseAccessPolicy]] = {
    "DataClassification": DataClassification,
    "DatabaseAccessPolicy": DatabaseAccessPolicy,
}


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource that its schema accepts."""

    model: Model
    namespace: str
    file: str | None = None
    line: int | None = None
    lines: Mapping[Location, int] = field(default_factory=dict[Location, int], repr=False)
    """Lines of the fields, when it came from a file."""

    @property
    def kind(self) -> str:
        """Kind of the resource."""
        return self.model.kind

    @property
    def name(self) -> str:
        """``metadata.name``."""
        return self.model.metadata.name

    @property
    def full_name(self) -> str:
        """``namespace/name``, as parts name it."""
        return f"{self.namespace}/{self.name}"

    @property
    def reference(self) -> str:
        """``kind namespace/name``, as problems name it."""
        return f"{self.kind} {self.full_name}"

    def problem(
        self,
        location: Sequence[str | int],
        message: str,
        severity: Literal["error", "warning"] = "error",
    ) -> Problem:
        """A problem with one of its fields."""
        near = tuple(location)
        while near and near not in self.lines:
            near = near[:-1]
        return Problem(
            file=self.file,
            line=self.lines.get(near, self.line),
            resource=self.reference,
            path=field_path(location),
            message=message,
            severity=severity,
        )


@dataclass(frozen=True, slots=True)
class FieldError:
    """Why the schema refuses a value."""

    location: Location
    message: str


@cache
def _schema(kind: str) -> dict[str, Any]:
    version = manifest(kind)["spec"]["versions"][0]
    return cast("dict[str, Any]", version["schema"]["openAPIV3Schema"])


def _fields_beside(kind: str, location: Location) -> list[str]:
    """Names of the fields that the schema knows where ``location`` has an unknown one."""
    node = _schema(kind)
    for step in location[:-1]:
        inner = node.get("items") if isinstance(step, int) else node.get("properties", {}).get(step)
        if not isinstance(inner, dict):
            return []
        node = cast("dict[str, Any]", inner)
    return sorted(cast("dict[str, Any]", node.get("properties", {})))


_PATTERN_WORDS = {
    "class": "a class is dotted lower-case words, such as pii.email",
    "name": "a name is lower-case letters, digits, - and dots",
    "namespace": "a namespace is lower-case letters, digits and -",
}


def _message(kind: str, error: Mapping[str, Any], location: Location) -> str:
    text = str(error["msg"])
    match error["type"]:
        case "extra_forbidden":
            known = _fields_beside(kind, location)
            near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.6)
            if near:
                return f"unknown field; did you mean {near[0]}?"
            return f"unknown field; there are {', '.join(known)}" if known else "unknown field"
        case "missing":
            return "required, and not there"
        case "value_error":
            return text.removeprefix("Value error, ")
        case "string_pattern_mismatch":
            known = _PATTERN_WORDS.get(str(location[-1]) if location else "", "")
            return known or f"must match {error['ctx']['pattern']}"
        case "too_short":
            return (
                "an empty list or map is not allowed: it would match nothing; leave the field out"
            )
        case _:
            text = text.replace("Input should", "must").replace("Tuple", "The list")
            return text[:1].lower() + text[1:]


def parse_resource(value: object) -> Model | list[FieldError]:
    """Check a document against the schema of its kind; everything that is wrong, not the first only."""
    if not isinstance(value, dict):
        return [FieldError((), "not a resource: apiVersion, kind, metadata and spec are needed")]
    fields = cast("dict[str, Any]", value)
    kind, version = fields.get("kind"), fields.get("apiVersion")
    if not isinstance(kind, str) or kind not in KINDS:
        known = " and ".join(KINDS)
        what = f"unknown kind {kind!r}" if kind is not None else "no kind"
        return [FieldError(("kind",), f"{what}; Sluice reads {known}")]
    if version != API_VERSION:
        return [FieldError(("apiVersion",), f"must be {API_VERSION}")]
    try:
        return KINDS[kind].model_validate_json(json.dumps(fields))
    except ValidationError as error:
        return _field_errors(kind, error)


def _field_errors(kind: str, error: ValidationError) -> list[FieldError]:
    found = [
        (item, tuple(step for step in item["loc"] if step != "[key]"))
        for item in error.errors(include_url=False, include_input=False)
    ]
    out: list[FieldError] = []
    for item, location in found:
        # A list of which every item is wrong is also called too short: that is no second fault.
        inner = any(other[: len(location)] == location != other for _, other in found)
        if item["type"] != "too_short" or not inner:
            out.append(FieldError(location, _message(kind, cast("Any", item), location)))
    return out
