"""What the bundle service asks of Kubernetes: bundles, pods, tokens, its certificate, its report."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from sluice_operator.kube.api import APPLY, JSON, METADATA, KubeApi, KubeError, part
from sluice_operator.kube.metadata import MetadataWatch, ObjectMeta, object_meta

FIELD_MANAGER: Final = "sluice-bundles"
BUNDLE_SELECTOR: Final = "sluice.dev/kind=bundle"
POD_SELECTOR: Final = "sluice.dev/inject=true"
BUNDLE_KEY: Final = "bundle.tar.gz"

_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_SERVICE_ACCOUNT: Final = "system:serviceaccount:"


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


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    """A serving certificate with its key."""

    version: str
    """Changes whenever the Secret does."""
    chain_pem: bytes
    key_pem: bytes

    def __repr__(self) -> str:
        """Names the version without showing the key."""
        return f"StoredCertificate({self.version})"


class BundleStore:
    """The one way of the bundle service to the API server."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self._api = api
        self._config_maps = f"/api/v1/namespaces/{quote(namespace)}/configmaps"
        self._secrets = f"/api/v1/namespaces/{quote(namespace)}/secrets"

    def watch_bundles(self) -> MetadataWatch:
        """Return the watch over all bundles."""
        return MetadataWatch(self._api, self._config_maps, BUNDLE_SELECTOR)

    def watch_pods(self) -> MetadataWatch:
        """Return the watch over governed pods; those that were there before are not told."""
        return MetadataWatch(self._api, "/api/v1/pods", POD_SELECTOR, list_first=False)

    async def bundle(self, name: str) -> StoredBundle | None:
        """Return a bundle with its content; None when it is gone.

        Raises:
            KubeError: It cannot be read now, or holds no bundle.
        """
        item = await self._get(f"{self._config_maps}/{quote(name)}")
        if item is None:
            return None
        encoded = part(item, "binaryData").get(BUNDLE_KEY)
        try:
            content = base64.b64decode(encoded or "", validate=True)
        except binascii.Error as error:
            raise KubeError(0, f"ConfigMap {name} holds no base64: {error}") from error
        if not content:
            raise KubeError(0, f"ConfigMap {name} has no {BUNDLE_KEY}")
        return StoredBundle(object_meta(item), content)

    async def pod(self, namespace: str, name: str) -> ObjectMeta | None:
        """Return a pod's metadata; None when it is gone.

        Raises:
            KubeError: It cannot be read now.
        """
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(name, safe='')}"
        item = await self._get(path, accept=METADATA)
        return None if item is None else object_meta(item)

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
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        status = part(await self._api.call("POST", path, body=body), "status")
        if status.get("authenticated") is not True or audience not in (
            status.get("audiences") or ()
        ):
            return None
        user = part(status, "user")
        username, extra = str(user.get("username") or ""), part(user, "extra")
        namespace, _, account = username.removeprefix(_SERVICE_ACCOUNT).partition(":")
        pod, pod_uid = _only(extra.get(_POD_NAME)), _only(extra.get(_POD_UID))
        if not username.startswith(_SERVICE_ACCOUNT) or not (
            namespace and account and pod and pod_uid
        ):
            return None
        return Reviewed(namespace, account, pod, pod_uid)

    async def certificate(self, secret: str) -> StoredCertificate | None:
        """Return a serving certificate; None while the controller has not made it.

        Raises:
            KubeError: It cannot be read now, or the Secret holds none.
        """
        item = await self._get(f"{self._secrets}/{quote(secret)}")
        if item is None:
            return None
        data = part(item, "data")
        try:
            chain = base64.b64decode(data["tls.crt"], validate=True)
            key = base64.b64decode(data["tls.key"], validate=True)
        except (KeyError, binascii.Error):
            raise KubeError(0, f"Secret {secret} lacks tls.crt or tls.key") from None
        version = str(part(item, "metadata").get("resourceVersion") or "")
        return StoredCertificate(version, chain, key)

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
        meta: dict[str, Any] = {"name": name, "labels": {"sluice.dev/kind": "report"}}
        if owner is not None:
            pod, uid = owner
            meta["ownerReferences"] = [
                {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid},
            ]
        text = json.dumps(report, separators=(",", ":"), sort_keys=True)
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": meta,
            "data": {"report.json": text},
        }
        await self._api.call(
            "PATCH",
            f"{self._config_maps}/{quote(name)}",
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            body=body,
            content_type=APPLY,
        )

    async def delete_report(self, name: str) -> None:
        """Remove this replica's report.

        Raises:
            KubeError: It cannot be removed now.
        """
        try:
            await self._api.call("DELETE", f"{self._config_maps}/{quote(name)}")
        except KubeError as error:
            if error.status != 404:
                raise

    async def _get(self, path: str, accept: str = JSON) -> dict[str, Any] | None:
        try:
            return await self._api.call("GET", path, accept=accept)
        except KubeError as error:
            if error.status == 404:
                return None
            raise


def _only(values: Sequence[str] | None) -> str:
    return str(values[0]) if values and len(values) == 1 else ""
