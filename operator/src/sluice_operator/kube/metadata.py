"""Following the metadata of objects: names, labels and annotations, without their content."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from sluice_operator.kube.api import METADATA, METADATA_LIST, KubeApi, KubeError, items, part

log = structlog.get_logger(__name__)

PAGE: Final = 500
WATCH_S: Final = 300
RETRY_MIN_S: Final = 0.2
RETRY_MAX_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What is known of one object."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """The object is there, new or changed."""

    meta: ObjectMeta


@dataclass(frozen=True, slots=True)
class Gone:
    """The object was deleted."""

    meta: ObjectMeta


@dataclass(frozen=True, slots=True)
class Listed:
    """A whole list went through: what is not among these is gone."""

    uids: frozenset[str]


class MetadataWatch:
    """Follows one kind of object for ever, whatever the API server does."""

    def __init__(self, api: KubeApi, path: str, selector: str, *, list_first: bool = True) -> None:
        """Make one.

        Args:
            api: The API server.
            path: Of the list (``/api/v1/namespaces/x/configmaps``).
            selector: Label selector.
            list_first: False: what was there before is not told; a list comes only after a gap.
        """
        self._api = api
        self._path = path
        self._selector = selector
        self._list_next = list_first
        self._alive_at = time.monotonic()
        self.problem: str | None = None
        """Why the last attempt failed; None while the watch runs."""

    @property
    def age_s(self) -> float:
        """Seconds since the API server last said anything about these objects."""
        return time.monotonic() - self._alive_at

    async def follow(self) -> AsyncGenerator[Seen | Gone | Listed]:
        """Yield changes until closed."""
        delay = RETRY_MIN_S
        version: str | None = None
        while True:
            try:
                if version is None:
                    async for change, at in self._begin():
                        version = at
                        if change is not None:
                            yield change
                async for change, at in self._watch(version or ""):
                    version = at
                    if change is not None:
                        yield change
                delay = RETRY_MIN_S
            except KubeError as error:
                if error.status == 410:
                    version = None  # Too old: events were missed.
                    self._list_next = True
                if str(error) != self.problem:
                    log.warning("watch interrupted", path=self._path, reason=str(error))
                self.problem = str(error)
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
                delay = min(delay * 2, RETRY_MAX_S)

    async def _begin(self) -> AsyncIterator[tuple[Seen | Listed | None, str]]:
        """Yield what is there, or nothing but the version to watch from."""
        if not self._list_next:
            yield None, _version(await self._page("", limit=1))
            return
        token, uids = "", set[str]()
        while True:
            page = await self._page(token)
            version = _version(page)
            for item in items(page):
                meta = object_meta(item)
                uids.add(meta.uid)
                yield Seen(meta), version
            token = str(part(page, "metadata").get("continue") or "")
            if not token:
                yield Listed(frozenset(uids)), version
                self._list_next = False
                return

    async def _page(self, token: str, limit: int = PAGE) -> dict[str, Any]:
        query = {"labelSelector": self._selector, "limit": str(limit)}
        if token:
            query["continue"] = token
        page = await self._api.call("GET", self._path, query=query, accept=METADATA_LIST)
        self._alive()
        return page

    async def _watch(self, version: str) -> AsyncIterator[tuple[Seen | Gone | None, str]]:
        seconds = int(WATCH_S * random.uniform(0.75, 1.0))  # noqa: S311
        query = {
            "watch": "1",
            "labelSelector": self._selector,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        async for event in self._api.watch(
            self._path, query=query, accept=METADATA, timeout_s=seconds
        ):
            self._alive()
            item = part(event, "object")
            at = _version(item)
            match event.get("type"):
                case "ADDED" | "MODIFIED":
                    yield Seen(object_meta(item)), at
                case "DELETED":
                    yield Gone(object_meta(item)), at
                case _:
                    yield None, at
        self._alive()

    def _alive(self) -> None:
        self._alive_at = time.monotonic()
        self.problem = None


def object_meta(item: Mapping[str, Any]) -> ObjectMeta:
    """Return the metadata of a raw object."""
    meta = part(item, "metadata")
    return ObjectMeta(
        namespace=str(meta.get("namespace") or ""),
        name=str(meta.get("name") or ""),
        uid=str(meta.get("uid") or ""),
        labels=part(meta, "labels"),
        annotations=part(meta, "annotations"),
    )


def _version(item: Mapping[str, Any]) -> str:
    return str(part(item, "metadata").get("resourceVersion") or "")
