"""Requests to the API server on raw JSON, through the official client's asyncio side."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, Self, cast
from urllib.parse import quote

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from sluice_operator.kube.errors import ApiError, UnavailableError

FIELD_MANAGER: Final = "sluice-controller"
TIMEOUT_S: Final = 10.0
"""For one request and its answer."""
CONNECT_TIMEOUT_S: Final = 5.0
LINE_BYTES_MAX: Final = 16 * 2**20
"""One event of a watch: etcd takes objects up to 1.5 MiB, JSON may escape what is in them."""

APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
JSON: Final = "application/json"

METADATA_LIST: Final = (
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
)
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"

Query = Mapping[str, str | int | bool]
Object = dict[str, Any]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Kube:
    """A connection to one API server. Every wait is bounded; errors are ``ApiError`` or ``UnavailableError``."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: str | None) -> AsyncGenerator[Self]:
        """Open one, by a file or (None) by the pod's service account; closed at the end of the context.

        Raises:
            UnavailableError: The file or the service account cannot be used.
        """
        configuration = Configuration()
        loader = cast("Any", config)
        try:
            if kubeconfig is None:
                loader.load_incluster_config(client_configuration=configuration)
            else:
                await loader.load_kube_config(
                    config_file=kubeconfig,
                    client_configuration=configuration,
                    persist_config=False,
                )
        except (config.ConfigException, OSError) as error:
            where = kubeconfig or "the pod's service account"
            raise UnavailableError(f"no way to the API server by {where}: {error}") from error
        configuration.retries = None
        api = ApiClient(configuration)
        try:
            yield cls(api)
        finally:
            await api.close()

    async def request(
        self,
        method: Method,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        content_type: str = JSON,
        accept: str = JSON,
        timeout_s: float = TIMEOUT_S,
    ) -> Object:
        """Send one request and return the answer's JSON.

        Raises:
            ApiError: The API server refused it.
            UnavailableError: It did not answer, or not in time.
        """
        limits = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        headers = {"Accept": accept, "Content-Type": content_type}
        response = await self._send(
            method, path, query=query, headers=headers, body=body, limits=limits
        )
        try:
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(_why(error)) from error
        finally:
            response.release()
        if response.status >= 300:
            raise ApiError.of(response.status, data, response.headers.get("Retry-After"))
        return cast("Object", json.loads(data)) if data else {}

    async def _send(
        self,
        method: Method,
        path: str,
        *,
        query: Query | None,
        headers: dict[str, str],
        body: object,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        api = cast("Any", self._api)
        parts = await api.param_serialize(
            method,
            path,
            query_params=[(name, _query_text(value)) for name, value in (query or {}).items()],
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = await api.call_api(*parts, _request_timeout=limits)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(_why(error)) from error
        return cast("aiohttp.ClientResponse", answer.response)

    async def stream(
        self, path: str, *, query: Query, accept: str = JSON, idle_timeout_s: float
    ) -> AsyncGenerator[Object]:
        """Yield the objects of an answer that goes on, one a line, as they come.

        Args:
            path: Of the collection.
            query: With ``watch`` among it.
            accept: Of the objects.
            idle_timeout_s: Seconds without a byte after which the connection counts as lost.

        Raises:
            ApiError: The API server refused it.
            UnavailableError: The connection was lost; an orderly end just ends the iteration.
        """
        limits = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=idle_timeout_s
        )
        response = await self._send(
            "GET", path, query=query, headers={"Accept": accept}, body=None, limits=limits
        )
        try:
            if response.status >= 300:
                data = await response.read()
                raise ApiError.of(response.status, data, response.headers.get("Retry-After"))
            async for line in _lines(response):
                yield cast("Object", json.loads(line))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(_why(error)) from error
        finally:
            # Not released into the pool: what is left of a watch has no end.
            response.close()

    async def get(self, path: str, *, accept: str = JSON) -> Object:
        """Read one object, the newest.

        Raises:
            ApiError: 404 when there is none.
        """
        return await self.request("GET", path, accept=accept)

    async def find(self, path: str) -> Object | None:
        """Read one object; None when there is none."""
        try:
            return await self.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def create(self, path: str, body: Object) -> Object:
        """Create an object in a collection."""
        return await self.request("POST", path, body=body, query={"fieldManager": FIELD_MANAGER})

    async def replace(self, path: str, body: Object) -> Object:
        """Replace an object; its ``resourceVersion`` makes that fail (409) when it changed since."""
        return await self.request("PUT", path, body=body, query={"fieldManager": FIELD_MANAGER})

    async def apply(self, path: str, body: Object, *, manager: str = FIELD_MANAGER) -> Object:
        """Server-side apply, with force: what we own, we own."""
        query: Query = {"fieldManager": manager, "force": True}
        return await self.request("PATCH", path, body=body, content_type=APPLY, query=query)

    async def delete(self, path: str, *, uid: str | None = None) -> None:
        """Delete an object; one that is gone (or is another by now) is no error."""
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            await self.request("DELETE", path, body=body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for chunk in response.content.iter_any():
        rest += chunk
        *whole, tail = rest.split(b"\n")
        rest = bytearray(tail)
        for line in whole:
            if line:
                yield bytes(line)
        if len(rest) > LINE_BYTES_MAX:
            raise aiohttp.ClientPayloadError(f"an event above {LINE_BYTES_MAX} bytes")


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


def _query_text(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def path_of(api_version: str, plural: str, namespace: str | None = None, name: str = "") -> str:
    """Return the path of a collection or of one object."""
    root = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
    place = f"/namespaces/{quote(namespace, safe='')}" if namespace is not None else ""
    tail = f"/{quote(name, safe='')}" if name else ""
    return f"{root}{place}/{plural}{tail}"
