"""Following a collection: list, then watch, and list again when the thread is lost.

Unlike a bare watch it never misses a deletion: what is not in a new list is reported as gone.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from sluice_operator import log_keys as keys
from sluice_operator.kube.client import JSON, METADATA, METADATA_LIST, Kube, Object, Query
from sluice_operator.kube.errors import ApiError, KubeError

log = structlog.get_logger(__name__)

PAGE: Final = 500
"""Objects of one page of a list: bounds what is in memory at once."""
WATCH_S: Final = 55
"""The server ends a watch after so long, with a bookmark before: so a watch that is silent for longer is dead."""
IDLE_S: Final = 75.0
RETRY_MIN_S: Final = 0.1
RETRY_MAX_S: Final = 5.0
LIST_TIMEOUT_S: Final = 30.0

Key = tuple[str, str]
"""Namespace (empty for cluster-wide objects) and name."""


def key_of(item: Object) -> Key:
    """Return namespace and name of an object."""
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


class Watch:
    """Follows one collection for ever. Objects are handed on and not kept."""

    def __init__(
        self,
        kube: Kube,
        path: str,
        *,
        put: Callable[[Object], None],
        drop: Callable[[Key], None],
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
    ) -> None:
        """Make one.

        Args:
            kube: The connection.
            path: Of the collection.
            put: Called with each object that is there or changed; again with the same one after a new list.
            drop: Called with the key of each object that is gone.
            label_selector: Only objects with these labels.
            field_selector: Only these objects.
            metadata_only: Ask for ``PartialObjectMetadata``: no spec, no status.
        """
        self._kube = kube
        self._path = path
        self._put = put
        self._drop = drop
        self._selectors: dict[str, str] = {}
        if label_selector:
            self._selectors["labelSelector"] = label_selector
        if field_selector:
            self._selectors["fieldSelector"] = field_selector
        self._metadata_only = metadata_only
        self._known: dict[Key, str] = {}
        self._version: str | None = None
        self._seen_at = time.monotonic()
        self.synced = asyncio.Event()
        """Set once the first list is in."""

    @property
    def age_s(self) -> float:
        """Seconds since the API server was last heard of; above 2 minutes something is wrong."""
        return time.monotonic() - self._seen_at

    @property
    def path(self) -> str:
        """What is followed."""
        return self._path

    async def run(self) -> None:
        """Follow, until cancelled. Never ends by an error of the API server's."""
        delay = RETRY_MIN_S
        while True:
            began = time.monotonic()
            try:
                if self._version is None:
                    await self._list()
                await self._watch()
                delay = RETRY_MIN_S
            except KubeError as error:
                if isinstance(error, ApiError) and error.status == 410:
                    self._version = None
                    continue
                if time.monotonic() - began > RETRY_MAX_S:
                    delay = RETRY_MIN_S
                told = error.retry_after_s if isinstance(error, ApiError) else None
                wait = max(told or 0.0, delay * random.uniform(0.5, 1.0))  # noqa: S311
                log.warning(
                    "watch interrupted",
                    **{keys.PATH: self._path, keys.ERROR: str(error), keys.DELAY_S: round(wait, 3)},
                )
                await asyncio.sleep(wait)
                delay = min(delay * 2, RETRY_MAX_S)

    async def _list(self) -> None:
        seen: dict[Key, str] = {}
        query: dict[str, str | int] = {**self._selectors, "limit": PAGE}
        accept = METADATA_LIST if self._metadata_only else JSON
        while True:
            page = await self._kube.request(
                "GET", self._path, query=query, accept=accept, timeout_s=LIST_TIMEOUT_S
            )
            for item in page.get("items") or ():
                self._take(item, seen)
            self._seen_at = time.monotonic()
            token = page["metadata"].get("continue")
            if not token:
                break
            query["continue"] = token
            # A long list must not hold up what else goes on.
            await asyncio.sleep(0)
        for key in [key for key in self._known if key not in seen]:
            self._drop(key)
        self._known = seen
        self._version = page["metadata"]["resourceVersion"]
        self.synced.set()

    def _take(self, item: Object, known: dict[Key, str]) -> None:
        key = key_of(item)
        uid = item["metadata"].get("uid", "")
        if self._known.get(key, uid) != uid:
            # Deleted and made again under the same name while we were not looking.
            self._drop(key)
        known[key] = uid
        self._put(item)

    async def _watch(self) -> None:
        query: Query = {
            **self._selectors,
            "watch": True,
            "allowWatchBookmarks": True,
            "resourceVersion": self._version or "0",
            "timeoutSeconds": WATCH_S,
        }
        accept = METADATA if self._metadata_only else JSON
        events = self._kube.stream(self._path, query=query, accept=accept, idle_timeout_s=IDLE_S)
        try:
            async for event in events:
                self._seen_at = time.monotonic()
                self._event(event)
        finally:
            await events.aclose()
        self._seen_at = time.monotonic()

    def _event(self, event: Object) -> None:
        item: dict[str, Any] = event["object"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._take(item, self._known)
            case "DELETED":
                key = key_of(item)
                self._known.pop(key, None)
                self._drop(key)
            case "BOOKMARK":
                pass
            case _:
                raise ApiError(
                    int(item.get("code", 500)),
                    str(item.get("reason", "")),
                    str(item.get("message", "")),
                )
        self._version = item["metadata"]["resourceVersion"]
