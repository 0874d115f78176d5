"""A pod and all that is known → the patch that governs it, or why it cannot be governed. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, Final

from sluice_operator.admission import names
from sluice_operator.admission.containers import our_containers, our_volumes
from sluice_operator.admission.estate import Estate
from sluice_operator.admission.identity import compact, identity_annotations, profile_of
from sluice_operator.admission.model import (
    Injection,
    InjectionSettings,
    Namespace,
    Pod,
    Refusal,
    Trust,
)
from sluice_operator.admission.opa import OPA_ARGUMENTS, authorization_policy
from sluice_operator.admission.part import Part, differences, joined, split
from sluice_operator.admission.patching import difference
from sluice_operator.admission.quantities import same_amount
from sluice_operator.admission.reading import annotations_of, entries, labels_of, section
from sluice_operator.admission.refusals import (
    metadata_refusals,
    pod_refusals,
    searches_of,
    told,
)
from sluice_operator.admission.tuning import read_tuning

_TEMPLATE_DIGITS: Final = 16
_NO_TRUST: Final = Trust("", {})


@dataclasses.dataclass(frozen=True, slots=True)
class Derivation:
    """What a governed pod must be."""

    found: Part
    """What it has of ours."""
    rest: Pod
    """The pod without it."""
    derived: Part
    """What it must have."""


def labelled(pod: Pod, namespace: Namespace) -> bool | Refusal:
    """Whether a pod is to be governed."""
    value = labels_of(pod).get(names.INJECT)
    if value == "true":
        return True
    if value not in (None, "false"):
        return Refusal(
            f'the label {names.INJECT} is {str(value)[:40]!r}, which is neither "true" nor "false"; '
            'write "true" to have the pod governed'
        )
    if namespace.labels.get(names.GOVERN) == "required":
        return Refusal(
            f"the namespace {namespace.name} is labelled {names.GOVERN}: required, and this pod is "
            f'not governed; give its template the label {names.INJECT}: "true"'
        )
    return False


def derive(
    pod: Pod, namespace: Namespace, estate: Estate, settings: InjectionSettings
) -> Derivation | Refusal:
    """What a labelled pod must carry, whatever it carries now."""
    found, rest = split(pod)
    reasons = [*metadata_refusals(pod, namespace), *pod_refusals(rest, estate, namespace)]
    if (message := told(reasons)) is not None:
        return Refusal(message)
    annotations = annotations_of(rest)
    tuning = read_tuning(annotations, settings, guaranteed=_guaranteed(rest))
    if isinstance(tuning, Refusal):
        return tuning
    databases = estate.entries(namespace.name)
    derived = Part(
        containers=our_containers(settings, tuning, databases),
        volumes=our_volumes(settings, databases),
        aliases=estate.aliases(namespace.name, searches_of(section(rest, "spec"))),
        annotations={
            names.INJECTED: settings.version,
            names.TEMPLATE_HASH: template_hash(settings),
            **identity_annotations(profile_of(rest, namespace.name)),
            names.DATABASES: compact(dict(estate.generations)),
            names.CAPTURE: "hosts",
            names.OPA_AUTHORIZATION: authorization_policy(),
        },
    )
    return Derivation(found, rest, derived.sealed())


def inject(
    pod: Pod, namespace: Namespace, classifications: Estate, settings: InjectionSettings
) -> Injection | Refusal:
    """Decide on a pod that is being created.

    A pod that carries our part already (a later webhook's reinvocation, a copied manifest) is
    patched only where it must differ; a part that is not as one of us wrote it is refused.
    """
    wanted = labelled(pod, namespace)
    if isinstance(wanted, Refusal):
        return wanted
    if not wanted:
        return Injection()
    derivation = derive(pod, namespace, classifications, settings)
    if isinstance(derivation, Refusal):
        return derivation
    found = derivation.found
    warnings = _warnings(namespace, classifications)
    if found.present:
        changed = list(differences(found, derivation.derived))
        if not changed and in_front(pod):
            return Injection(warnings=warnings)
        if changed and not found.whole:
            return forged(changed)
    after = joined(derivation.rest, derivation.derived)
    return Injection(difference(pod, after), warnings)


def forged(changed: list[str]) -> Refusal:
    """The refusal of a part that nobody of us wrote."""
    shown = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
    return Refusal(
        f"this pod carries a part of Sluice's that is not what Sluice writes ({shown}); take all "
        f"{names.RESERVED}* containers and volumes, the {names.PREFIX}* annotations and the "
        "hostAliases to 127.0.0.x out of the manifest: they are put in at creation. If another "
        "webhook changed them, exclude these containers there"
    )


def in_front(pod: Pod) -> bool:
    """Whether our containers come before every other init container, in their order."""
    first = entries(section(pod, "spec"), "initContainers")[: len(names.CONTAINERS)]
    return tuple(container.get("name") for container in first) == names.CONTAINERS


def template_hash(settings: InjectionSettings) -> str:
    """Digest of what is the same in every pod but trust, which has its own way of renewal."""
    fields = dataclasses.asdict(dataclasses.replace(settings, trust=_NO_TRUST))
    text = compact([fields, OPA_ARGUMENTS, authorization_policy()])
    return hashlib.sha256(text.encode()).hexdigest()[:_TEMPLATE_DIGITS]


def _guaranteed(pod: Pod) -> bool:
    """Whether every container of the application asks for exactly its limits of CPU and memory."""
    spec = section(pod, "spec")
    containers = [*entries(spec, "containers"), *entries(spec, "initContainers")]
    return bool(containers) and all(_exact(section(c, "resources")) for c in containers)


def _exact(resources: dict[str, Any]) -> bool:
    limits, requests = section(resources, "limits"), section(resources, "requests")
    return all(
        name in limits and same_amount(requests.get(name, limits[name]), limits[name])
        for name in ("cpu", "memory")
    )


def _warnings(namespace: Namespace, estate: Estate) -> tuple[str, ...]:
    if not estate.servers:
        message = (
            "no database of this cluster is classified: this pod is not led to any; create a "
            "DataClassification, then start the pod anew"
        )
    elif not estate.admits(namespace.name):
        message = (
            f"no DataClassification admits the namespace {namespace.name}: all its statements to "
            "classified databases are denied; add it to spec.allowedNamespaces of one"
        )
    else:
        return ()
    return (message,)
