"""Annotations by which a pod's author tunes our containers: their resources and log level, never policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from sluice_operator.admission import names
from sluice_operator.admission.model import InjectionSettings, Refusal, Resources
from sluice_operator.admission.quantities import amount

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

CPU_RANGE: Final = ("10m", "16")
MEMORY_RANGES: Final = {"proxy": ("96Mi", "16Gi"), "opa": ("48Mi", "16Gi")}
"""Below the least the process is killed for its memory; more than the most is a slip of the pen."""

_FIELDS: Final = {
    "cpu": "cpu",
    "memory": "memory",
    "cpu-limit": "cpu_limit",
    "memory-limit": "memory_limit",
}
RESOURCE_ANNOTATIONS: Final[Mapping[str, tuple[str, str]]] = {
    f"{names.PREFIX}{container}-{suffix}": (container, field)
    for container in ("proxy", "opa")
    for suffix, field in _FIELDS.items()
}
"""Annotation → container and field of ``Resources``."""
TUNING: Final = frozenset({*RESOURCE_ANNOTATIONS, names.LOG_LEVEL, names.AUDIT_LOG})

_GUARANTEED_CPU: Final = "250m"
"""Limit of a container in a Guaranteed pod when nobody says one: a request's few milli would throttle it."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What our containers get."""

    proxy: Resources
    opa: Resources
    log_level: str
    audit_log: str | None
    """Where audit events go besides the spool."""


def read_tuning(
    annotations: Mapping[str, str], settings: InjectionSettings, *, guaranteed: bool
) -> Tuning | Refusal:
    """Settings, with what the pod's annotations change.

    Args:
        annotations: Of the pod.
        settings: Give what no annotation says.
        guaranteed: The application's containers ask for exactly their limits; so do ours, then,
            because otherwise the pod would lose its class of service.
    """
    given = {"proxy": settings.proxy, "opa": settings.opa}
    for key, (container, field) in RESOURCE_ANNOTATIONS.items():
        if (text := annotations.get(key)) is None:
            continue
        if (wrong := _wrong(container, field, text)) is not None:
            return Refusal(f"annotation {key}: {text[:40]!r} {wrong}")
        given[container] = dataclasses.replace(given[container], **{field: text})
        if not field.endswith("_limit"):
            given[container] = _raised_limit(given[container], field)
    for container, resources in given.items():
        if (wrong := _above_limit(resources)) is not None:
            return Refusal(
                f"{wrong} of sluice-{container} is above its limit; raise the annotation "
                f"{names.PREFIX}{container}-{wrong}-limit too, or ask for less"
            )
    level = annotations.get(names.LOG_LEVEL, settings.log_level)
    if level not in LOG_LEVELS:
        known = ", ".join(LOG_LEVELS)
        return Refusal(
            f"annotation {names.LOG_LEVEL}: {level[:40]!r} is no level; there are {known}"
        )
    audit_log = annotations.get(names.AUDIT_LOG)
    if audit_log not in (None, "stdout"):
        return Refusal(
            f"annotation {names.AUDIT_LOG}: {str(audit_log)[:40]!r}; there is only stdout"
        )
    finish = _guaranteed if guaranteed else _as_it_is
    return Tuning(finish(given["proxy"]), finish(given["opa"]), level, audit_log)


def _wrong(container: str, field: str, text: str) -> str | None:
    least, most = CPU_RANGE if field.startswith("cpu") else MEMORY_RANGES[container]
    value = amount(text)
    if value is None:
        return f"is no quantity; write one such as {least}"
    if not _known(least) <= value <= _known(most):
        return f"is out of bounds; write a quantity from {least} to {most}"
    return None


def _known(quantity: str) -> Decimal:
    value = amount(quantity)
    if value is None:
        raise ValueError(f"{quantity!r} is no quantity")
    return value


def _raised_limit(resources: Resources, field: str) -> Resources:
    """Lift a default limit that a greater request would break."""
    limit = f"{field}_limit"
    asked, most = getattr(resources, field), getattr(resources, limit)
    if most is None or _known(asked) <= _known(most):
        return resources
    return dataclasses.replace(resources, **{limit: asked})


def _above_limit(resources: Resources) -> str | None:
    for field in ("cpu", "memory"):
        asked, most = getattr(resources, field), getattr(resources, f"{field}_limit")
        if asked is not None and most is not None and _known(asked) > _known(most):
            return field
    return None


def _as_it_is(resources: Resources) -> Resources:
    return resources


def _guaranteed(resources: Resources) -> Resources:
    cpu = resources.cpu_limit or max(resources.cpu or "0", _GUARANTEED_CPU, key=_known)
    memory = resources.memory_limit or resources.memory
    return Resources(cpu=cpu, memory=memory, cpu_limit=cpu, memory_limit=memory)


def requirements(resources: Resources) -> dict[str, dict[str, str]]:
    """The container's ``resources``."""
    requests = {"cpu": resources.cpu, "memory": resources.memory}
    limits = {"cpu": resources.cpu_limit, "memory": resources.memory_limit}
    both = {"requests": requests, "limits": limits}
    out = {
        name: {key: text for key, text in fields.items() if text is not None}
        for name, fields in both.items()
    }
    return {name: fields for name, fields in out.items() if fields}
