"""Raw JSON calls to the API server through the official client's asyncio side, for what its models make dear.

Metadata-only reads, server-side apply and watches that survive large objects are all plain HTTP with a header or two.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException

JSON: Final = "application/json"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""What is known of an object without its content; names and annotations are all that is asked for."""
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
APPLY: Final = "application/apply-patch+yaml"

CALL_TIMEOUT_S: Final = 10.0
CONNECTIONS_MAX: Final = 64
LINE_BYTES_MAX: Final = 4 << 20
"""Of one watch event; the API server's own objects end at 1.5 MiB."""

_SILENT: Final = 90.0
"""A watch with bookmarks says something each minute; so long without a byte, the connection is dead."""


class KubeError(Exception):
    """The API server said no, or could not be asked."""

    def __init__(self, status: int, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; 0: there was no answer."""
        self.reason = reason
        """``reason`` of the Status object (``NotFound``, ``Expired`` …), when it sent one."""


class KubeApi:
    """One connection pool to one API server."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    @classmethod
    async def connect(cls, kubeconfig: Path | None = None) -> KubeApi:
        """Return a client for the cluster that this process runs in, or that a file names.

        Raises:
            KubeError: The configuration cannot be read.
        """
        configuration, load = Configuration(), cast("Any", kube_config)
        try:
            if kubeconfig is None:
                load.load_incluster_config(client_configuration=configuration)
            else:
                await load.load_kube_config(
                    config_file=str(kubeconfig), client_configuration=configuration
                )
        except (ConfigException, OSError) as error:
            raise KubeError(0, f"the cluster's configuration cannot be read: {error}") from error
        configuration.connection_pool_maxsize = CONNECTIONS_MAX
        return cls(ApiClient(configuration))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        accept: str = JSON,
        content_type: str = JSON,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> dict[str, Any]:
        """Return the object that the API server answers.

        Raises:
            KubeError: With the status that it answered, 0 when it did not.
        """
        headers = {"Accept": accept, "Content-Type": content_type}
        try:
            response = await self._request(
                method, path, query=query, headers=headers, body=body, limit=timeout_s
            )
            raw = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise KubeError(0, f"the API server does not answer: {_words(error)}") from error
        document = _document(raw)
        if response.status >= 400:
            raise _refusal(response.status, document)
        return document

    async def watch(
        self, path: str, *, query: Mapping[str, str], accept: str, timeout_s: float
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of one watch until the API server ends it.

        Raises:
            KubeError: It could not be begun, broke off, or ended with an ERROR event.
        """
        headers = {"Accept": accept}
        timeout = aiohttp.ClientTimeout(
            total=timeout_s + 30, connect=CALL_TIMEOUT_S, sock_read=_SILENT
        )
        try:
            response = await self._request(
                "GET", path, query=query, headers=headers, body=None, limit=timeout
            )
            async with response:
                if response.status >= 400:
                    raise _refusal(response.status, _document(await response.read()))
                async for line in _lines(response.content):
                    yield _event(line)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise KubeError(0, f"the watch broke off: {_words(error)}") from error

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None,
        headers: dict[str, str],
        body: Any,
        limit: object,
    ) -> aiohttp.ClientResponse:
        client = cast("Any", self._client)
        await client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        headers["User-Agent"] = "sluice-operator"
        url = f"{client.configuration.host}{path}"
        if query:
            url += f"?{urlencode(query)}"
        answer = await client.rest_client.request(
            method, url, headers=headers, body=body, _request_timeout=limit
        )
        return answer.response


def part(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object inside a raw object; an empty one when it is not there."""
    value = document.get(name)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def items(document: Mapping[str, Any], name: str = "items") -> list[dict[str, Any]]:
    """Return a list of objects inside a raw object; an empty one when it is not there."""
    value = document.get(name)
    return cast("list[dict[str, Any]]", value) if isinstance(value, list) else []


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield lines of any length below the bound: ``readline`` of aiohttp ends at its buffer's size."""
    kept = bytearray()
    async for chunk in content.iter_any():
        kept += chunk
        *whole, rest = kept.split(b"\n")
        for line in whole:
            if line:
                yield bytes(line)
        kept = rest
        if len(kept) > LINE_BYTES_MAX:
            raise KubeError(0, f"a watch event has more than {LINE_BYTES_MAX} bytes")


def _event(line: bytes) -> dict[str, Any]:
    event = _document(line)
    if event.get("type") == "ERROR":
        status = part(event, "object")
        raise _refusal(int(status.get("code") or 0), status)
    return event


def _document(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except ValueError:
        return {"message": raw[:200].decode(errors="replace")}
    return cast("dict[str, Any]", document) if isinstance(document, dict) else {}


def _refusal(status: int, document: Mapping[str, Any]) -> KubeError:
    message = document.get("message") or f"HTTP {status}"
    return KubeError(status, str(message), reason=str(document.get("reason") or ""))


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
