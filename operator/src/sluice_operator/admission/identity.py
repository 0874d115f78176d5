"""Who a pod is, as frozen at its creation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from sluice_operator.admission import names
from sluice_operator.admission.model import Pod
from sluice_operator.admission.reading import labels_of, section
from sluice_policy import Profile

_CHANGING: Final = frozenset(
    {
        "pod-template-hash",
        "controller-revision-hash",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "pod-template-generation",
        "controller-uid",
        "job-name",
    }
)
_CHANGING_PREFIX: Final = "batch.kubernetes.io/"


def profile_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The pod's labels without those that change from pod to pod or roll-out to roll-out, sorted."""
    return {
        key: labels[key]
        for key in sorted(labels)
        if key not in _CHANGING and not key.startswith(_CHANGING_PREFIX)
    }


def profile_of(pod: Pod, namespace: str) -> Profile:
    """The profile of a pod that is being created."""
    account = section(pod, "spec").get("serviceAccountName") or "default"
    return Profile(namespace, str(account), profile_labels(labels_of(pod)))


def compact(value: Any) -> str:
    """JSON as annotations and variables have it: sorted, without spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def identity_annotations(profile: Profile) -> dict[str, str]:
    """The two annotations that name the profile."""
    identity = {"serviceAccount": profile.service_account, "labels": dict(profile.labels)}
    return {names.PROFILE: profile.id, names.IDENTITY: compact(identity)}
