"""Who the sidecar acts for: the operator's word, checked against the pod's own token, and kept."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sluice_proxy.decide import Workload
from sluice_proxy.files import write_atomically
from sluice_proxy.sidecar.environment import Environment


class IdentityError(Exception):
    """An identity document is not this pod's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """``identity.schema.json``."""

    profile: str
    namespace: str
    service_account: str
    pod: str
    pod_uid: str
    labels: Mapping[str, str]

    def workload(self) -> Workload:
        """Return it as the decisions take it."""
        return Workload(
            namespace=self.namespace,
            service_account=self.service_account,
            pod=self.pod,
            labels=self.labels,
            assurance="verified",
        )


def parse_identity(document: Any) -> Identity:
    """Return an identity whose profile is the digest of what it says.

    Raises:
        IdentityError: It does not keep the contract.
    """
    if not isinstance(document, dict):
        raise IdentityError("the identity is no object")
    fields = cast("dict[str, Any]", document)
    if fields.get("contract") != 1 or fields.get("assurance") != "verified":
        raise IdentityError(f"the identity speaks contract {fields.get('contract')!r}, not 1")
    names = ("profile", "namespace", "serviceAccount", "pod", "podUid")
    texts = [fields.get(name) for name in names]
    labels = fields.get("labels")
    if not all(isinstance(text, str) and text for text in texts) or not isinstance(labels, dict):
        raise IdentityError("the identity lacks a field")
    pairs = cast("dict[Any, Any]", labels)
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in pairs.items()):
        raise IdentityError("the identity's labels are no texts")
    profile, namespace, account, pod, uid = cast("list[str]", texts)
    identity = Identity(
        profile=profile,
        namespace=namespace,
        service_account=account,
        pod=pod,
        pod_uid=uid,
        labels=cast("dict[str, str]", labels),
    )
    if profile != profile_id(identity):
        raise IdentityError(f"the profile {profile} is not the digest of the identity")
    return identity


def profile_id(identity: Identity) -> str:
    """Return ``namespace/service account/digest of the labels``, as the compiler names profiles."""
    text = json.dumps(dict(identity.labels), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{identity.namespace}/{identity.service_account}/{digest}"


def check_identity(identity: Identity, environment: Environment, token: str) -> None:
    """Compare an identity with the pod that we are, by the kubelet's word and by the token's claims.

    Raises:
        IdentityError: Naming what differs.
    """
    claims = token_claims(token)
    account = claims.get("serviceaccount", {}).get("name")
    pod = claims.get("pod", {})
    for name, said, known in (
        ("namespace", identity.namespace, environment.namespace),
        ("namespace", identity.namespace, claims.get("namespace")),
        ("pod", identity.pod, environment.pod),
        ("pod", identity.pod, pod.get("name")),
        ("uid", identity.pod_uid, environment.pod_uid),
        ("uid", identity.pod_uid, pod.get("uid")),
        ("service account", identity.service_account, account),
    ):
        if said != known:
            raise IdentityError(f"the identity is of the {name} {said!r}, this pod's is {known!r}")


def token_claims(token: str) -> dict[str, Any]:
    """Return the claims of our own token that name the pod; its signature is for the operator to check.

    Raises:
        IdentityError: It is no service account token.
    """
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        found = claims["kubernetes.io"]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise IdentityError("the projected token is not bound to a pod") from error
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def keep_identity(identity: Identity, directory: Path) -> None:
    """Keep an identity for the time when the operator is away."""
    document = {
        "contract": 1,
        "profile": identity.profile,
        "namespace": identity.namespace,
        "serviceAccount": identity.service_account,
        "pod": identity.pod,
        "podUid": identity.pod_uid,
        "labels": dict(identity.labels),
        "assurance": "verified",
    }
    write_atomically(_path(directory), json.dumps(document).encode())


def kept_identity(directory: Path) -> Identity | None:
    """Return the identity that an earlier run of this pod was given; None without a sound one."""
    try:
        return parse_identity(json.loads(_path(directory).read_bytes()))
    except (OSError, ValueError, IdentityError):
        return None


def _path(directory: Path) -> Path:
    return directory / "identity.json"
