"""The validating side for pods: what was derived must be what is stored, and stay so. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sluice_operator.admission import names
from sluice_operator.admission.estate import Estate
from sluice_operator.admission.injection import derive, in_front, labelled
from sluice_operator.admission.model import Injection, InjectionSettings, Namespace, Pod, Refusal
from sluice_operator.admission.part import Part, differences, split
from sluice_operator.admission.reading import annotations_of, entries, labels_of, section
from sluice_operator.admission.refusals import container_refusals, told


def judge_created(
    pod: Pod, namespace: Namespace, estate: Estate, settings: InjectionSettings
) -> Injection | Refusal:
    """Judge a pod as it is about to be stored, after every mutating webhook."""
    wanted = labelled(pod, namespace)
    if isinstance(wanted, Refusal):
        return wanted
    found, _ = split(pod)
    if not wanted:
        return _ungoverned(pod, found)
    derivation = derive(pod, namespace, estate, settings)
    if isinstance(derivation, Refusal):
        return derivation
    if not found.present:
        return Refusal(
            f"this pod is labelled {names.INJECT} and has no sidecar: the mutating webhook was "
            "passed by; create the pod anew, and look at the webhook configuration sluice"
        )
    changed = list(differences(found, derivation.derived, later=True))
    if not in_front(pod):
        changed.append("order of spec.initContainers")
    if not changed:
        return Injection()
    if found.whole:
        return Refusal(
            f"what this pod needs has changed while it was created ({_shown(changed)}): a "
            "classification, or what another webhook did to the pod; create it again",
            passing=True,
        )
    return Refusal(
        f"another webhook changed Sluice's part of this pod ({_shown(changed)}): exclude the "
        f"containers and volumes named {names.RESERVED}* there"
    )


def _ungoverned(pod: Pod, found: Part) -> Injection | Refusal:
    """A pod that is not governed must not look as if it were."""
    if found.present or names.CAPTURE in annotations_of(pod):
        return Refusal(
            f'this pod has a part of Sluice\'s, but not the label {names.INJECT}: "true"; set the '
            f"label, or take the {names.RESERVED}* containers and volumes and what Sluice wrote "
            "into the annotations out"
        )
    return Injection()


def judge_updated(old: Pod, new: Pod) -> Injection | Refusal:
    """Judge a change of a pod: its image, size, ephemeral containers, labels and annotations."""
    reason = told(_changes(old, new), head="this pod is governed by Sluice")
    return Injection() if reason is None else Refusal(reason)


def _changes(old: Pod, new: Pod) -> Iterator[str]:
    yield from _frozen("label", labels_of(old), labels_of(new))
    yield from _frozen("annotation", annotations_of(old), annotations_of(new))
    before, after = split(old)[0], split(new)[0]
    yield from _part_changes(before, after)
    known = {c.get("name") for c in entries(section(old, "spec"), "ephemeralContainers")}
    for container in entries(section(new, "spec"), "ephemeralContainers"):
        if container.get("name") not in known:
            yield from container_refusals("ephemeralContainers", container)


def _frozen(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for key in sorted({*old, *new}):
        if key.startswith(names.PREFIX) and old.get(key) != new.get(key):
            yield f"the {what} {key} is decided when a pod is created; create it anew instead"


def _part_changes(before: Part, after: Part) -> Iterator[str]:
    one, other = _by_name(before.containers), _by_name(after.containers)
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            fields = _fields(one.get(name, {}), other.get(name, {}))
            yield (
                f"the container {name} must not change ({fields}); to have another version or size, "
                "set the chart's values or the annotations of the template, and start the pod anew"
            )
    if before.volumes != after.volumes or before.aliases != after.aliases:
        yield "its volumes and hostAliases must not change"


def _by_name(containers: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(container.get("name")): container for container in containers}


def _fields(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return ", ".join(sorted(key for key in {*one, *other} if one.get(key) != other.get(key)))


def _shown(changed: list[str]) -> str:
    return ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
