"""What the bundle service asks of Kubernetes: bundles, pods, tokens, its certificate, its report."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from sluice_operator.admission.names import IDENTITY, INJECTED, PROFILE
from sluice_operator.kube.client import METADATA, Kube, Object, path_of
from sluice_operator.kube.errors import ApiError, KubeError
from sluice_operator.kube.secrets import SecretWatch
from sluice_operator.kube.watch import Key, Watch

FIELD_MANAGER: Final = "sluice-bundles"
BUNDLE_SELECTOR: Final = "sluice.dev/kind=bundle"
POD_SELECTOR: Final = "sluice.dev/inject=true"
BUNDLE_KEY: Final = "bundle.tar.gz"
KEPT: Final = (INJECTED, PROFILE, IDENTITY)
"""The annotations of a pod that are kept; the webhook wrote them, and they are immutable."""

_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_SERVICE_ACCOUNT: Final = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What is known of one object."""

    namespace: str
    name: str
    uid: str
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A token that the API server vouches for, bound to a pod."""

    namespace: str
    service_account: str
    pod: str
    pod_uid: str


@dataclass(frozen=True, slots=True)
class StoredBundle:
    """A bundle as the controller stored it."""

    meta: ObjectMeta
    content: bytes


class BundleStore:
    """The one way of the bundle service to the API server."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._pods: dict[Key, ObjectMeta] = {}

    def watch_bundles(
        self, put: Callable[[ObjectMeta], None], drop: Callable[[str], None]
    ) -> Watch:
        """Return a watch over the metadata of all bundles; ``drop`` is told the name."""
        return Watch(
            self._kube,
            path_of("v1", "configmaps", self._namespace),
            put=lambda item: put(object_meta(item)),
            drop=lambda key: drop(key[1]),
            label_selector=BUNDLE_SELECTOR,
            metadata_only=True,
        )

    def watch_pods(self, gone: Callable[[str], None]) -> Watch:
        """Return a watch over governed pods that tells the UID of each that is gone."""

        def put(item: Object) -> None:
            meta = object_meta(item)
            known = {name: meta.annotations[name] for name in KEPT if name in meta.annotations}
            self._pods[meta.namespace, meta.name] = replace(meta, annotations=known)

        def drop(key: Key) -> None:
            meta = self._pods.pop(key, None)
            if meta is not None:
                gone(meta.uid)

        return Watch(
            self._kube,
            path_of("v1", "pods"),
            put=put,
            drop=drop,
            label_selector=POD_SELECTOR,
            metadata_only=True,
        )

    def watch_secret(
        self, name: str, changed: Callable[[Mapping[str, bytes] | None], None]
    ) -> SecretWatch:
        """Return a watch over one Secret of the namespace."""
        return SecretWatch(self._kube, self._namespace, name, changed)

    async def bundle(self, name: str) -> StoredBundle | None:
        """Return a bundle with its content; None when it is gone.

        Raises:
            KubeError: It cannot be read now, or holds no bundle.
        """
        item = await self._kube.find(path_of("v1", "configmaps", self._namespace, name))
        if item is None:
            return None
        try:
            encoded = str(_part(item, "binaryData").get(BUNDLE_KEY) or "")
            content = base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise KubeError(f"ConfigMap {name} holds no base64: {error}") from error
        if not content:
            raise KubeError(f"ConfigMap {name} has no {BUNDLE_KEY}")
        return StoredBundle(object_meta(item), content)

    async def pod(self, namespace: str, name: str, uid: str) -> ObjectMeta | None:
        """Return a pod's metadata, as the watch knows it or asked for; None when it is gone.

        Raises:
            KubeError: It cannot be read now.
        """
        known = self._pods.get((namespace, name))
        if known is not None and known.uid == uid:
            return known
        try:
            item = await self._kube.get(path_of("v1", "pods", namespace, name), accept=METADATA)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        meta = object_meta(item)
        return meta if meta.uid == uid else None

    async def review(self, token: str, audience: str) -> Reviewed | None:
        """Return whose token it is; None when it is not valid for the audience, or bound to no pod.

        Raises:
            KubeError: The API server cannot tell now.
        """
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        path = path_of("authentication.k8s.io/v1", "tokenreviews")
        status = _part(await self._kube.request("POST", path, body=body), "status")
        audiences = status.get("audiences") or ()
        if status.get("authenticated") is not True or audience not in audiences:
            return None
        user = _part(status, "user")
        username, extra = str(user.get("username") or ""), _part(user, "extra")
        namespace, _, account = username.removeprefix(_SERVICE_ACCOUNT).partition(":")
        pod, pod_uid = _only(extra.get(_POD_NAME)), _only(extra.get(_POD_UID))
        bound = bool(namespace and account and pod and pod_uid)
        if not username.startswith(_SERVICE_ACCOUNT) or not bound:
            return None
        return Reviewed(namespace, account, pod, pod_uid)

    async def write_report(
        self, name: str, report: Mapping[str, Any], *, owner: tuple[str, str] | None
    ) -> None:
        """Store this replica's report.

        Args:
            name: Of the ConfigMap.
            report: The document.
            owner: Name and UID of the replica's own pod, with which the report goes; None: it stays.

        Raises:
            KubeError: It cannot be written now.
        """
        meta: Object = {"name": name, "labels": {"sluice.dev/kind": "report"}}
        if owner is not None:
            pod, uid = owner
            meta["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}]
        text = json.dumps(report, separators=(",", ":"), sort_keys=True)
        body: Object = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": meta,
            "data": {"report.json": text},
        }
        path = path_of("v1", "configmaps", self._namespace, name)
        await self._kube.apply(path, body, manager=FIELD_MANAGER)

    async def delete_report(self, name: str) -> None:
        """Remove this replica's report.

        Raises:
            KubeError: It cannot be removed now.
        """
        await self._kube.delete(path_of("v1", "configmaps", self._namespace, name))


def object_meta(item: Object) -> ObjectMeta:
    """Return the metadata of a raw object."""
    meta = _part(item, "metadata")
    return ObjectMeta(
        namespace=str(meta.get("namespace") or ""),
        name=str(meta.get("name") or ""),
        uid=str(meta.get("uid") or ""),
        annotations=_part(meta, "annotations"),
    )


def _part(document: Object, name: str) -> dict[str, Any]:
    value = document.get(name)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _only(values: Sequence[str] | None) -> str:
    return str(values[0]) if values and len(values) == 1 else ""
