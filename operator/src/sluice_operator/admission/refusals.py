"""Why a pod cannot be governed. Each reason says what, why, and what to do; none is skipped over."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from sluice_operator.admission import names
from sluice_operator.admission.estate import Estate
from sluice_operator.admission.model import Namespace, Pod
from sluice_operator.admission.reading import (
    annotations_of,
    entries,
    labels_of,
    section,
    texts,
)
from sluice_operator.admission.tuning import TUNING

HOST_PATHS: Final = (
    "/var/lib/kubelet",
    "/proc",
    "/dev",
    "/sys/fs/cgroup",
    "/etc/kubernetes",
    "/run/containerd",
    "/var/run/containerd",
    "/var/lib/containerd",
    "/run/crio",
    "/var/run/crio",
    "/var/lib/containers",
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/var/lib/docker",
)
"""Folders of a node through which a pod's volumes, processes or the container runtime are reached."""

CAPABILITIES: Final = frozenset({"ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO"})
"""As good as privileged."""

_VIRTUAL: Final = "virtual-kubelet.io/provider"
_KNOWN_ANNOTATIONS: Final = frozenset({*names.WRITTEN, *TUNING})


def containers_of(pod: Pod) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every container with the list it is in."""
    spec = section(pod, "spec")
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in entries(spec, kind):
            yield kind, container


def metadata_refusals(pod: Pod, namespace: Namespace) -> Iterator[str]:
    """What labels and annotations ask for that there is not."""
    annotations = annotations_of(pod)
    for key in sorted(labels_of(pod)):
        if key.startswith(names.PREFIX) and key != names.INJECT:
            yield f"the label {key} means nothing; of {names.PREFIX}, pods have only {names.INJECT}"
    for key in sorted(annotations):
        if key.startswith(names.PREFIX) and key not in _KNOWN_ANNOTATIONS:
            known = ", ".join(sorted(TUNING))
            yield f"the annotation {key} means nothing; there are {known}"
    capture = annotations.get(names.CAPTURE, "hosts")
    if capture in ("redirect", "brokered"):
        yield (
            f"annotation {names.CAPTURE}: {capture} is not supported yet; "
            "leave it out: names of classified databases are then led to the sidecar"
        )
    elif capture != "hosts":
        yield f"annotation {names.CAPTURE}: {capture[:40]!r} is no way of capture; write hosts"
    if names.UNGOVERNED_DATABASES in namespace.annotations:
        yield (
            f"the namespace {namespace.name} has the annotation {names.UNGOVERNED_DATABASES}, "
            "which is not supported yet; take it away"
        )


def pod_refusals(rest: Pod, estate: Estate, namespace: Namespace) -> Iterator[str]:
    """Everything about a pod, without the injected part, that would let it reach into or round the sidecar."""
    spec = section(rest, "spec")
    yield from _kernel(spec)
    yield from _platform(spec)
    for kind, container in containers_of(rest):
        yield from container_refusals(kind, container)
    yield from _identity("the pod", section(spec, "securityContext"))
    for volume in entries(spec, "volumes"):
        yield from _volume(volume)
    yield from _aliases(spec, estate, namespace)
    if (overflow := estate.overflow()) is not None:
        yield f"{overflow}; classify fewer"


def _kernel(spec: Mapping[str, Any]) -> Iterator[str]:
    if spec.get("hostNetwork"):
        yield (
            "spec.hostNetwork is true: the sidecar's listeners would be the node's, and hostAliases "
            "do not hold there; leave hostNetwork out"
        )
    if spec.get("hostPID"):
        yield (
            "spec.hostPID is true: the application would see the sidecar's processes and their "
            "files; leave hostPID out"
        )
    if spec.get("shareProcessNamespace"):
        yield (
            "spec.shareProcessNamespace is true: the application would see the sidecar's processes "
            "and their files; leave shareProcessNamespace out"
        )


def _platform(spec: Mapping[str, Any]) -> Iterator[str]:
    windows = section(spec, "os").get("name") == "windows"
    selector = section(spec, "nodeSelector")
    if windows or selector.get("kubernetes.io/os") == "windows":
        yield "it is a Windows pod: the sidecar runs on Linux nodes only; do not label it"
    tolerated = {str(one.get("key")) for one in entries(spec, "tolerations")}
    if selector.get("type") == "virtual-kubelet" or _VIRTUAL in tolerated:
        yield (
            "it is meant for a virtual node, which runs no native sidecars and keeps no hostAliases; "
            "run it on a node, or do not label it"
        )


def container_refusals(kind: str, container: Mapping[str, Any]) -> Iterator[str]:
    """Everything that is wrong with one container of the application."""
    name = str(container.get("name", ""))
    called = f"the container {name}" if kind == "containers" else f"{name} of {kind}"
    if name.startswith(names.RESERVED):
        yield f"{called} has a name that begins with {names.RESERVED}, which is reserved; rename it"
    context = section(container, "securityContext")
    if context.get("privileged"):
        yield (
            f"{called} is privileged: it could read everything of the sidecar; "
            "leave privileged out, or do not label this pod"
        )
    added = {
        capability.upper().removeprefix("CAP_")
        for capability in texts(section(context, "capabilities"), "add")
    }
    if strong := sorted(added & CAPABILITIES):
        yield f"{called} adds the capability {', '.join(strong)}, which is as good as privileged; drop it"
    yield from _identity(called, context)
    for mount in [*entries(container, "volumeMounts"), *entries(container, "volumeDevices")]:
        if str(mount.get("name", "")).startswith(names.RESERVED):
            yield (
                f"{called} mounts {mount.get('name')}, a volume of the sidecar's own: "
                "OPA's socket and the token are in there; take the mount away"
            )
    for port in entries(container, "ports"):
        for field in ("containerPort", "hostPort"):
            if port.get(field) in names.PORTS:
                first, last = min(names.PORTS), max(names.PORTS)
                yield (
                    f"{called} has the {field} {port[field]}: {first} to {last} are the sidecar's; "
                    "listen on another port"
                )
    target = str(container.get("targetContainerName", ""))
    if target.startswith(names.RESERVED):
        yield f"{called} targets {target}: nobody debugs the sidecar from within the pod; target the application"


def _identity(called: str, context: Mapping[str, Any]) -> Iterator[str]:
    used = [
        name for name in ("runAsUser", "runAsGroup", "fsGroup") if context.get(name) == names.UID
    ]
    if str(names.UID) in texts(context, "supplementalGroups"):
        used.append("supplementalGroups")
    for name in used:
        yield f"{called} has {name} {names.UID}, which is the sidecar's own; use another number"


def _volume(volume: Mapping[str, Any]) -> Iterator[str]:
    name = str(volume.get("name", ""))
    if name.startswith(names.RESERVED):
        yield f"the volume {name} has a name that begins with {names.RESERVED}, which is reserved; rename it"
    path = section(volume, "hostPath").get("path")
    if path is not None and (near := _reaches(str(path))):
        yield (
            f"the volume {name} is the node's {path}, by which {near} is reached and "
            "there the sidecar's volumes or processes; mount a narrower folder, or do not label this pod"
        )
    for source in entries(section(volume, "projected"), "sources"):
        token = section(source, "serviceAccountToken")
        if token.get("audience") == names.AUDIENCE:
            yield (
                f"the volume {name} has a token for the audience {names.AUDIENCE}, which is the "
                "sidecar's alone; use another audience"
            )


def _reaches(path: str) -> str | None:
    """Which folder of ``HOST_PATHS`` a path of the node leads to, lies above or below."""
    given = posixpath.normpath("/" + path.strip().lstrip("/"))
    for place in HOST_PATHS:
        if given in ("/", place):
            return place
        if place.startswith(f"{given}/") or given.startswith(f"{place}/"):
            return place
    return None


def _aliases(spec: Mapping[str, Any], estate: Estate, namespace: Namespace) -> Iterator[str]:
    ours = {
        name
        for alias in estate.aliases(namespace.name, searches_of(spec))
        for name in alias["hostnames"]
    }
    for alias in entries(spec, "hostAliases"):
        for hostname in texts(alias, "hostnames"):
            if hostname.lower().rstrip(".") in ours:
                yield (
                    f"spec.hostAliases leads {hostname} to {alias.get('ip')}: it is the host of a "
                    "classified database and must lead to the sidecar; take the name out"
                )


def searches_of(spec: Mapping[str, Any]) -> Iterable[str]:
    """Search domains that the pod itself names."""
    return texts(section(spec, "dnsConfig"), "searches")


def told(reasons: Iterable[str], *, head: str = "this pod cannot be governed") -> str | None:
    """One message of all reasons; None when there is none."""
    found = list(dict.fromkeys(reasons))
    if not found:
        return None
    return f"{head}: {_numbered(found) if len(found) > 1 else found[0]}"


def _numbered(found: list[str]) -> str:
    return "; ".join(f"({number}) {text}" for number, text in enumerate(found, start=1))
