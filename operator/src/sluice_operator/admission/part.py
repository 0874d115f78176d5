"""The injected part of a pod: taken out, compared, put in again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sluice_operator.admission import names
from sluice_operator.admission.identity import compact
from sluice_operator.admission.model import Pod
from sluice_operator.admission.quantities import amount, same_amount
from sluice_operator.admission.reading import entries, section

_VOLUME: Final = re.compile(
    rf"{names.RUN_VOLUME}|{names.STATE_VOLUME}|{names.SPOOL_VOLUME}|{names.TOKEN_VOLUME}"
    rf"|{names.EMPTY_VOLUME}|{names.OPA_VOLUME}"
    rf"|{names.CATALOG_VOLUME}[0-9]+|{names.TLS_VOLUME}[0-9]+"
)
_CONTAINERS: Final = frozenset({*names.CONTAINERS, *names.FORMER})
_ADDRESS: Final = re.compile(r"127\.0\.0\.([0-9]{1,3})")
_TRACES: Final = frozenset({*names.WRITTEN} - {names.CAPTURE})

_CONTAINER_FIELDS: Final = frozenset(
    [
        "name",
        "image",
        "command",
        "args",
        "workingDir",
        "ports",
        "envFrom",
        "env",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "volumeMounts",
        "volumeDevices",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "imagePullPolicy",
        "securityContext",
        "stdin",
        "stdinOnce",
        "tty",
    ]
)
_CONTEXT_FIELDS: Final = frozenset(
    [
        "capabilities",
        "privileged",
        "seLinuxOptions",
        "windowsOptions",
        "runAsUser",
        "runAsGroup",
        "runAsNonRoot",
        "readOnlyRootFilesystem",
        "allowPrivilegeEscalation",
        "procMount",
        "seccompProfile",
        "appArmorProfile",
    ]
)
"""Fields of Kubernetes 1.34."""

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """Everything in a pod that is ours."""

    containers: list[Fields] = field(default_factory=list[Fields])
    volumes: list[Fields] = field(default_factory=list[Fields])
    aliases: list[Fields] = field(default_factory=list[Fields])
    annotations: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def present(self) -> bool:
        """Whether there is anything."""
        found = self.containers or self.volumes or self.aliases or _TRACES & self.annotations.keys()
        return bool(found)

    @property
    def digest(self) -> str:
        """Digest of what was written; resources are left out, because LimitRanges add to them."""
        containers = [normal_container(c) for c in self.containers]
        for container in containers:
            container.pop("resources", None)
        kept = {k: v for k, v in self.annotations.items() if k != names.DIGEST}
        volumes = [normal_volume(volume) for volume in self.volumes]
        text = compact([containers, volumes, self.aliases, kept])
        return hashlib.sha256(text.encode()).hexdigest()

    def sealed(self) -> Part:
        """With its own digest among the annotations."""
        annotations = {**self.annotations, names.DIGEST: self.digest}
        return Part(self.containers, self.volumes, self.aliases, annotations)

    @property
    def whole(self) -> bool:
        """Whether it still is what its digest says."""
        return self.annotations.get(names.DIGEST) == self.digest


def reserved_address(ip: object) -> bool:
    """Whether an address is one of those that stand for databases."""
    match = _ADDRESS.fullmatch(str(ip))
    return match is not None and names.LOOPBACK_FIRST <= int(match[1]) <= names.LOOPBACK_LAST


def split(pod: Pod) -> tuple[Part, Pod]:
    """Our part, and the pod without it; the argument stays as it is."""
    rest, spec, metadata = _opened(pod)
    part = Part(
        containers=_taken(spec, "initContainers", lambda c: c.get("name") in _CONTAINERS),
        volumes=_taken(
            spec, "volumes", lambda v: _VOLUME.fullmatch(str(v.get("name"))) is not None
        ),
        aliases=_taken(spec, "hostAliases", lambda a: reserved_address(a.get("ip"))),
    )
    annotations = dict(section(metadata, "annotations"))
    for key in names.WRITTEN:
        if key in annotations:
            part.annotations[key] = annotations.pop(key)
    _without_local_volumes(annotations)
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    return part, rest


def _opened(pod: Pod) -> tuple[Pod, Fields, Fields]:
    """A pod whose fields may be replaced, its spec and its metadata; what is deeper is shared."""
    spec, metadata = dict(section(pod, "spec")), dict(section(pod, "metadata"))
    return {**pod, "metadata": metadata, "spec": spec}, spec, metadata


def _taken(spec: Fields, key: str, ours: Callable[[Fields], bool]) -> list[Fields]:
    items = entries(spec, key)
    found = [item for item in items if ours(item)]
    if found and len(found) == len(items):
        del spec[key]
    elif found:
        spec[key] = [item for item in items if not ours(item)]
    return found


def _without_local_volumes(annotations: dict[str, str]) -> None:
    text = annotations.get(names.SAFE_TO_EVICT)
    if text is None:
        return
    kept = [name for name in text.split(",") if name.strip() not in names.LOCAL_VOLUMES]
    if len(kept) == len(text.split(",")):
        return
    if kept:
        annotations[names.SAFE_TO_EVICT] = ",".join(kept)
    else:
        del annotations[names.SAFE_TO_EVICT]


def joined(rest: Pod, part: Part) -> Pod:
    """The pod with a part put in: our containers in front of the application's init containers."""
    pod, spec, metadata = _opened(rest)
    spec["initContainers"] = [*part.containers, *entries(spec, "initContainers")]
    spec["volumes"] = [*entries(spec, "volumes"), *part.volumes]
    if part.aliases:
        spec["hostAliases"] = [*entries(spec, "hostAliases"), *part.aliases]
    annotations: dict[str, str] = {**section(metadata, "annotations"), **part.annotations}
    said = annotations.get(names.SAFE_TO_EVICT)
    local = ",".join(names.LOCAL_VOLUMES)
    annotations[names.SAFE_TO_EVICT] = f"{said},{local}" if said else local
    metadata["annotations"] = annotations
    return pod


def normal_container(container: Mapping[str, Any]) -> Fields:
    """A container without what the API server adds to every container by itself."""
    out = dict(container)
    if all(p.get("restartPolicy") == "NotRequired" for p in entries(out, "resizePolicy")):
        out.pop("resizePolicy", None)
    context = section(out, "securityContext")
    if context.get("procMount") == "Default":
        out["securityContext"] = {k: v for k, v in context.items() if k != "procMount"}
    return out


def normal_volume(volume: Mapping[str, Any]) -> Fields:
    """A volume with its quantities as numbers."""
    local = section(volume, "emptyDir")
    if "sizeLimit" not in local:
        return dict(volume)
    return {**volume, "emptyDir": {**local, "sizeLimit": str(amount(local["sizeLimit"]))}}


def differences(found: Part, derived: Part, *, later: bool = False) -> Iterator[str]:
    """Where a pod's part is not the derived one; names of places, no values.

    Args:
        found: What the pod has.
        derived: What it must have.
        later: The API server has filled in its defaults since: fields that Kubernetes did not have
            when this was written are then its own.
    """
    if [c.get("name") for c in found.containers] != [c["name"] for c in derived.containers]:
        yield "spec.initContainers"
        return
    for one, other in zip(found.containers, derived.containers, strict=True):
        yield from _container_differences(normal_container(one), other, later=later)
    yield from _named("volume", found.volumes, derived.volumes)
    if found.aliases != derived.aliases:
        yield "spec.hostAliases"
    for key in sorted({*found.annotations, *derived.annotations}):
        if found.annotations.get(key) != derived.annotations.get(key):
            yield f"annotation {key}"


def _container_differences(found: Fields, derived: Fields, *, later: bool) -> Iterator[str]:
    called = f"container {derived['name']}"
    if later:
        context = _known(section(found, "securityContext"), _CONTEXT_FIELDS)
        found = {**_known(found, _CONTAINER_FIELDS), "securityContext": context}
    for key in sorted({*found, *derived} - {"resources", "env"}):
        if found.get(key) != derived.get(key):
            yield f"{called}: {key}"
    one, other = ({v.get("name"): v for v in entries(c, "env")} for c in (found, derived))
    for key in sorted({*one, *other}, key=str):
        if one.get(key) != other.get(key):
            yield f"{called}: env {key}"
    if len(entries(found, "env")) != len(one):
        yield f"{called}: env names a variable twice"
    for kind, fields in section(derived, "resources").items():
        there = section(found, "resources", kind)
        for key, quantity in fields.items():
            if not same_amount(there.get(key), quantity):
                yield f"{called}: resources.{kind}.{key}"


def _known(fields: Fields, names_known: frozenset[str]) -> Fields:
    return {key: value for key, value in fields.items() if key in names_known}


def _named(kind: str, found: list[Fields], derived: list[Fields]) -> Iterator[str]:
    one, other = ({v.get("name"): normal_volume(v) for v in vs} for vs in (found, derived))
    for name in sorted({*one, *other}, key=str):
        if one.get(name) != other.get(name):
            yield f"{kind} {name}"
    if len(found) != len(one):
        yield f"{kind}s"
