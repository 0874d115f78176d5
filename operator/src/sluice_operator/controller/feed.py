"""Both resources, by kopf: its ``on.event`` in a thread of its own, and lists that find what no event told.

kopf says nothing of objects that were deleted while its watch was broken. A deleted policy must not stay in force for
that, so the metadata of what is there are compared with what is known: after each new list of kopf's, and every minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, cast

import kopf
import structlog

from sluice_crds.base import API_VERSION, GROUP, VERSION
from sluice_operator import log_keys as keys
from sluice_operator.controller import metrics
from sluice_operator.controller.estate import Estate
from sluice_operator.kube.client import JSON, METADATA_LIST, Kube, Object, path_of
from sluice_operator.kube.errors import KubeError

log = structlog.get_logger(__name__)

PLURALS: Final = {
    "DataClassification": "dataclassifications",
    "DatabaseAccessPolicy": "databaseaccesspolicies",
}
CHECK_S: Final = 60.0
SETTLE_S: Final = 0.5
"""After the first sign of a new list of kopf's."""
RETRY_S: Final = 1.0
PAGE: Final = 500
GONE_MAX: Final = 10_000
SERVER_TIMEOUT_S: Final = 240
JOIN_S: Final = 5.0


class ResourceFeed:
    """Keeps the estate's resources true."""

    def __init__(self, kube: Kube, estate: Estate, kubeconfig: str | None) -> None:
        """Make one; ``run`` starts it."""
        self._kube = kube
        self._estate = estate
        self._kubeconfig = kubeconfig
        self._versions: dict[str, int] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._check = asyncio.Event()
        self._seen_at = time.monotonic()
        self.synced = asyncio.Event()
        """Set once everything has been listed."""

    @property
    def age_s(self) -> float:
        """Seconds since what is there was last compared with what is known."""
        return time.monotonic() - self._seen_at

    async def run(self) -> None:
        """Follow, until cancelled.

        Raises:
            RuntimeError: kopf ended.
        """
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

        thread = threading.Thread(target=follow, name="kopf", daemon=True)
        await self._list_until_done()
        self.synced.set()
        thread.start()
        checking = asyncio.create_task(self._check_for_ever(), name="resource checks")
        try:
            await ended.wait()
            raise RuntimeError("kopf, which watches the resources, ended")
        finally:
            checking.cancel()
            stop.set()
            with contextlib.suppress(asyncio.CancelledError):
                await checking
            await asyncio.to_thread(thread.join, JOIN_S)

    def _event(self, kind: str | None, item: Object) -> None:
        if kind == "DELETED":
            self._drop(item["metadata"]["uid"])
            return
        self._put(item)
        if kind is None:
            self._check.set()

    def _put(self, item: Object) -> None:
        metadata: dict[str, Any] = item["metadata"]
        uid, version = str(metadata["uid"]), _version(metadata)
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

    async def _list_until_done(self) -> None:
        while True:
            try:
                for plural in PLURALS.values():
                    async for item in self._pages(plural, JSON):
                        self._put({**item, "kind": _kind(plural)})
            except KubeError as error:
                log.warning("resources cannot be listed", **{keys.ERROR: str(error)})
                await asyncio.sleep(RETRY_S)
            else:
                self._seen_at = time.monotonic()
                return

    async def _pages(self, plural: str, accept: str) -> AsyncGenerator[Object]:
        query: dict[str, str | int] = {"limit": PAGE}
        while True:
            page = await self._kube.request(
                "GET", path_of(API_VERSION, plural), query=query, accept=accept, timeout_s=30.0
            )
            for item in page.get("items") or ():
                yield item
            token = page["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    async def _check_for_ever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await self._check.wait()
            await asyncio.sleep(SETTLE_S)
            self._check.clear()
            try:
                await self._compare()
            except KubeError as error:
                metrics.ERRORS.labels("resource checks").inc()
                log.warning("resources cannot be compared", **{keys.ERROR: str(error)})

    async def _compare(self) -> None:
        """Drop what is gone, read what is newer than known."""
        known = set(self._versions)
        for kind, plural in PLURALS.items():
            async for item in self._pages(plural, METADATA_LIST):
                metadata: dict[str, Any] = item["metadata"]
                uid = str(metadata["uid"])
                known.discard(uid)
                if uid not in self._gone and _version(metadata) > self._versions.get(uid, 0):
                    path = path_of(API_VERSION, plural, metadata["namespace"], metadata["name"])
                    found = await self._kube.find(path)
                    if found is not None:
                        self._put({**found, "kind": kind})
        for uid in known:
            log.warning("resource is gone, and no event said so", **{keys.RESOURCE: uid})
            self._drop(uid)
        self._seen_at = time.monotonic()


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
