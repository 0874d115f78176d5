"""Workloads whose pods will be refused: told when the workload is applied, not only in an Event later. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice_operator.admission import names
from sluice_operator.admission.estate import Estate
from sluice_operator.admission.injection import inject
from sluice_operator.admission.model import InjectionSettings, Namespace, Pod, Refusal
from sluice_operator.admission.reading import labels_of, section


def template_of(workload: Mapping[str, Any]) -> Pod:
    """The pod template of a Deployment, StatefulSet, DaemonSet, Job or CronJob; empty when it has none."""
    template = section(workload, "spec", "template")
    return template or section(workload, "spec", "jobTemplate", "spec", "template")


def advise(
    kind: str,
    workload: Mapping[str, Any],
    namespace: Namespace,
    estate: Estate,
    settings: InjectionSettings,
) -> tuple[str, ...]:
    """Warnings for whoever applies a workload."""
    template = template_of(workload)
    if names.INJECT in labels_of(workload) and names.INJECT not in labels_of(template):
        return (_misplaced(kind),)
    result = inject(template, namespace, estate, settings)
    if isinstance(result, Refusal):
        return (f"pods of this {kind} will be refused: {result.message}",)
    return result.warnings


def _misplaced(kind: str) -> str:
    return (
        f"the label {names.INJECT} is on the {kind} and not on its pod template: its pods are not "
        "governed; put it under the template's metadata.labels"
    )
