"""Secrets and ConfigMaps of the release's own namespace: read, made, changed only from what was read."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sluice_operator.kube.client import Kube, Object, path_of
from sluice_operator.kube.errors import ApiError
from sluice_operator.kube.secrets import secret_data

KIND_LABEL: Final = "sluice.dev/kind"


class MovedError(Exception):
    """Somebody else changed the object since it was read: what was decided on it is to be decided again."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An object's data and the version they were read at."""

    data: Mapping[str, bytes]
    version: str

    def __repr__(self) -> str:
        """Shows no data: they may be keys."""
        return f"Kept({', '.join(sorted(self.data))} at {self.version})"


class Keeper:
    """Reads and writes by name. A write from an outdated read fails with ``MovedError``."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        """Make one for a namespace."""
        self._kube = kube
        self._secrets = path_of("v1", "secrets", namespace)
        self._config_maps = path_of("v1", "configmaps", namespace)

    async def secret(self, name: str) -> Kept | None:
        """Read a Secret; None when there is none."""
        found = await self._kube.find(f"{self._secrets}/{name}")
        if found is None:
            return None
        return Kept(secret_data(found), found["metadata"]["resourceVersion"])

    async def put_secret(
        self, name: str, data: Mapping[str, bytes], version: str | None, kind: str = "Opaque"
    ) -> Kept:
        """Write a Secret.

        Args:
            name: Its name.
            data: All of its data.
            version: At which it was read; None: there was none.
            kind: Its type.

        Raises:
            MovedError: It is not as it was read.
        """
        body: Object = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": _labels("secret")},
            "type": kind,
            "data": _encoded(data),
        }
        stored = await self._put(self._secrets, body, version)
        return Kept(dict(data), stored["metadata"]["resourceVersion"])

    async def put_config_map(
        self,
        name: str,
        kind: str,
        *,
        version: str | None,
        data: Mapping[str, str] | None = None,
        binary: Mapping[str, bytes] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> str:
        """Write a ConfigMap and return its new version.

        Args:
            name: Its name.
            kind: Value of the label ``sluice.dev/kind``.
            version: At which it was read; None: there was none.
            data: Text.
            binary: Bytes.
            annotations: Its annotations.

        Raises:
            MovedError: It is not as it was read.
        """
        body: Object = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "labels": _labels(kind),
                "annotations": dict(annotations or {}),
            },
        }
        if data is not None:
            body["data"] = dict(data)
        if binary is not None:
            body["binaryData"] = _encoded(binary)
        stored = await self._put(self._config_maps, body, version)
        return str(stored["metadata"]["resourceVersion"])

    async def _put(self, collection: str, body: Object, version: str | None) -> Object:
        try:
            if version is None:
                return await self._kube.create(collection, body)
            body["metadata"]["resourceVersion"] = version
            # Replaced whole: what is not in it any more is gone, whoever wrote it.
            return await self._kube.replace(f"{collection}/{body['metadata']['name']}", body)
        except ApiError as error:
            if error.status in (404, 409):
                raise MovedError(str(error)) from error
            raise

    async def config_map(self, name: str) -> Object | None:
        """Read a ConfigMap as it is; None when there is none."""
        return await self._kube.find(f"{self._config_maps}/{name}")

    async def config_maps(self, kind: str) -> list[Object]:
        """Read all ConfigMaps of a kind, the newest."""
        page: dict[str, Any] = await self._kube.request(
            "GET",
            self._config_maps,
            query={"labelSelector": f"{KIND_LABEL}={kind}"},
            timeout_s=30.0,
        )
        return list(page.get("items") or ())

    async def drop_config_map(self, name: str) -> None:
        """Delete a ConfigMap; one that is gone is no error."""
        await self._kube.delete(f"{self._config_maps}/{name}")


def _labels(kind: str) -> dict[str, str]:
    return {KIND_LABEL: kind, "app.kubernetes.io/managed-by": "sluice"}


def _encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in data.items()}
