"""Both resources: kopf's ``on.event`` brings them, and watches of their metadata see to it that nothing is missed.

kopf says nothing of objects that were deleted while its own watch was broken, and waits long after errors. A deleted
policy must not stay in force for that, so what is there is followed a second time, by metadata only: what is gone is
dropped at once, and what kopf has not brought in a moment is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, cast

import kopf
import structlog

from sluice_crds.base import API_VERSION, GROUP, VERSION
from sluice_operator import log_keys as keys
from sluice_operator.controller import metrics
from sluice_operator.controller.estate import Estate
from sluice_operator.kube.client import Kube, Object, path_of
from sluice_operator.kube.errors import KubeError
from sluice_operator.kube.watch import Key, Watch, key_of

log = structlog.get_logger(__name__)

PLURALS: Final = {
    "DataClassification": "dataclassifications",
    "DatabaseAccessPolicy": "databaseaccesspolicies",
}
LATE_S: Final = 0.3
"""What kopf has not brought so long after the metadata told of it is read."""
LIST_ABOVE: Final = 20
"""More than so many are read by a list."""
PAGE: Final = 100
RETRY_S: Final = 1.0
GONE_MAX: Final = 10_000
SERVER_TIMEOUT_S: Final = 240
BACKOFFS_S: Final = (0.2, 0.5, 1, 2, 2, 2, 2, 2)
JOIN_S: Final = 5.0


class ResourceFeed:
    """Keeps the estate's resources true."""

    def __init__(self, kube: Kube, estate: Estate) -> None:
        """Make one; ``run`` starts it."""
        self._kube = kube
        self._estate = estate
        self._versions: dict[str, int] = {}
        """By uid: of the resources that the estate has."""
        self._missing: dict[tuple[str, str, str], tuple[str, str, int, float]] = {}
        """Kind, uid, version and since when, of what the metadata told of and kopf has not brought."""
        self._uids: dict[tuple[str, Key], str] = {}
        """As the metadata told, never kopf: it may be ahead, and the end of one must not take the next of its name."""
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._wake = asyncio.Event()
        self.watches = [self._watch(kind) for kind in PLURALS]
        """Of the metadata."""
        self.synced = asyncio.Event()
        """Set once everything has been listed and read."""

    def _watch(self, kind: str) -> Watch:
        return Watch(
            self._kube,
            path_of(API_VERSION, PLURALS[kind]),
            put=lambda item: self._told(kind, item),
            drop=lambda key: self._told_gone(kind, key),
            metadata_only=True,
        )

    async def run(self) -> None:
        """Follow, until cancelled.

        Raises:
            ExceptionGroup: kopf ended.
        """
        async with asyncio.TaskGroup() as tasks:
            for watch in self.watches:
                tasks.create_task(watch.run(), name=f"watch {watch.path}")
            tasks.create_task(self._read_missing(), name="late resources")
            for watch in self.watches:
                await watch.synced.wait()
            await self._follow()

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        stop = threading.Event()

        def tell(kind: str | None, item: Object) -> None:
            with contextlib.suppress(RuntimeError):  # Our loop is closed: nobody listens any more.
                loop.call_soon_threadsafe(self._event, kind, item)

        def follow() -> None:
            try:
                _run_kopf(tell, stop)
            except Exception:  # Told by the end of the thread, whatever it was.
                log.exception("kopf ended")
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(ended.set)

        # In a thread and a loop of its own: it cancels what it does not know when it ends.
        thread = threading.Thread(target=follow, name="kopf", daemon=True)
        thread.start()
        try:
            await ended.wait()
            raise RuntimeError("kopf, which watches the resources, ended")
        finally:
            stop.set()
            await asyncio.to_thread(thread.join, JOIN_S)

    def _event(self, kind: str | None, item: Object) -> None:
        """Take an event of kopf's; ``kind`` is None for what it listed."""
        if kind == "DELETED":
            self._drop(item["metadata"]["uid"])
        else:
            self._put(item)

    def _put(self, item: Object) -> None:
        metadata: dict[str, Any] = item["metadata"]
        uid, version = str(metadata["uid"]), _version(metadata)
        missing = self._missing.get(key := (item["kind"], *key_of(item)))
        if missing is not None and missing[2] <= version:
            del self._missing[key]
        if uid in self._gone or version < self._versions.get(uid, 0):
            return
        self._versions[uid] = version
        self._estate.put_resource(item)

    def _drop(self, uid: str) -> None:
        self._gone[uid] = None
        while len(self._gone) > GONE_MAX:
            self._gone.popitem(last=False)
        self._versions.pop(uid, None)
        self._estate.drop_resource(uid)

    def _told(self, kind: str, item: Object) -> None:
        """The metadata of a resource that is there or changed."""
        metadata: dict[str, Any] = item["metadata"]
        uid, version = str(metadata["uid"]), _version(metadata)
        place = (kind, key_of(item))
        before = self._uids.get(place)
        self._uids[place] = uid
        if before is not None and before != uid:
            self._drop(before)  # Another one has its name; its end was not told.
        if uid not in self._gone and version > self._versions.get(uid, 0):
            key = (kind, *key_of(item))
            since = self._missing[key][3] if key in self._missing else time.monotonic()
            self._missing[key] = (kind, uid, version, since)
            self._wake.set()

    def _told_gone(self, kind: str, key: Key) -> None:
        """A resource is not there any more."""
        self._missing.pop((kind, *key), None)
        uid = self._uids.pop((kind, key), None)
        if uid is not None:
            self._drop(uid)

    async def _read_missing(self) -> None:
        """Read what kopf has not brought in time; at the start everything."""
        for watch in self.watches:
            await watch.synced.wait()
        while True:
            late = LATE_S if self.synced.is_set() else 0.0
            now = time.monotonic()
            due = [key for key, missing in self._missing.items() if now - missing[3] >= late]
            if len(due) > LIST_ABOVE:
                await self._list()
                due = [key for key in due if key in self._missing]
            for key in due:
                await self._read(key)
            if not self._missing:
                self.synced.set()
                self._wake.clear()
                await self._wake.wait()
            await asyncio.sleep(LATE_S / 2 if self.synced.is_set() else 0)

    async def _list(self) -> None:
        """Read all of them: what a restart finds."""
        try:
            for kind, plural in PLURALS.items():
                query: dict[str, str | int] = {"limit": PAGE}
                while True:
                    page = await self._kube.request(
                        "GET", path_of(API_VERSION, plural), query=query, timeout_s=30.0
                    )
                    for item in page.get("items") or ():
                        self._put({**item, "kind": kind})
                    if not (token := page["metadata"].get("continue")):
                        break
                    query["continue"] = token
        except KubeError as error:
            metrics.ERRORS.labels("resources").inc()
            log.warning("resources cannot be listed", **{keys.ERROR: str(error)})

    async def _read(self, key: tuple[str, str, str]) -> None:
        kind, namespace, name = key
        try:
            found = await self._kube.find(path_of(API_VERSION, PLURALS[kind], namespace, name))
        except KubeError as error:
            metrics.ERRORS.labels("resources").inc()
            log.warning("resource cannot be read", **{keys.NAME: name, keys.ERROR: str(error)})
            await asyncio.sleep(RETRY_S)
            return
        self._missing.pop(key, None)
        if found is not None:
            self._put({**found, "kind": kind})


def _kind(plural: str) -> str:
    return next(kind for kind, name in PLURALS.items() if name == plural)


def _version(metadata: dict[str, Any]) -> int:
    text = str(metadata.get("resourceVersion") or "")
    return int(text) if text.isdigit() else 0


def _registry(tell: Callable[[str | None, Object], None]) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    on = cast("Any", kopf.on)

    async def login(**given: Any) -> Any:
        return kopf.login_with_service_account(**given) or kopf.login_with_kubeconfig(**given)

    async def event(event: dict[str, Any], resource: kopf.Resource, **_: Any) -> None:
        item = dict(event["object"])
        item.setdefault("kind", _kind(resource.plural))
        tell(event["type"], item)

    on.login(registry=registry)(login)
    for plural in PLURALS.values():
        on.event(GROUP, VERSION, plural, registry=registry, id=plural)(event)
    return registry


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = SERVER_TIMEOUT_S
    settings.watching.client_timeout = SERVER_TIMEOUT_S + 30
    settings.watching.connect_timeout = 5
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = BACKOFFS_S
    settings.process.ultimate_exiting_timeout = None
    return settings


def _run_kopf(tell: Callable[[str | None, Object], None], stop: threading.Event) -> None:
    # Its remarks about signals and namespaces are no news; errors are.
    logging.getLogger("kopf").setLevel(logging.ERROR)
    asyncio.run(
        kopf.operator(
            registry=_registry(tell),
            settings=_settings(),
            standalone=True,
            clusterwide=True,
            stop_flag=stop,
            # Only peering uses it, which is off; without one kopf asks for the account's name, and a
            # container's number need not have one.
            identity="sluice-controller",  # pyright: ignore[reportArgumentType] - a NewType of str, not exported.
        )
    )
