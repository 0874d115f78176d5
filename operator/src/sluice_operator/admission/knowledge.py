"""What the webhooks know of the cluster: followed by watches, never asked for while a pod waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final, cast

import structlog

from sluice_crds import DataClassification
from sluice_operator import log_keys as keys
from sluice_operator.admission.estate import Estate
from sluice_operator.admission.model import Namespace, Trust
from sluice_operator.admission.reading import annotations_of, labels_of, section
from sluice_operator.admission.validation import read_resource
from sluice_operator.kube.client import Kube, path_of
from sluice_operator.kube.watch import Key, Watch, key_of
from sluice_policy import Resource

log = structlog.get_logger(__name__)

TRUST: Final = "sluice-trust"
WATCH_AGE_MAX_S: Final = 120.0
_API: Final = "sluice.dev/v1alpha1"


class Knowledge:
    """Namespaces, both resources and trust, as last seen."""

    def __init__(self, kube: Kube, namespace: str, domain: str) -> None:
        """Know nothing yet.

        Args:
            kube: The connection.
            namespace: Our own, where ``sluice-trust`` is.
            domain: Of the cluster.
        """
        self._domain = domain
        self._namespaces: dict[str, Namespace] = {}
        self._resources: dict[tuple[str, str, str], Resource] = {}
        self._estate: Estate | None = None
        self._changed = asyncio.Event()
        self._kube = kube
        self._home = namespace
        self.trust: Trust | None = None
        """None until the controller has made it."""
        self.trust_before: Trust | None = None
        """What the controller said before; another replica may have injected by it a moment ago."""
        self._watches = (
            Watch(
                kube,
                path_of("v1", "namespaces"),
                put=self._put_namespace,
                drop=lambda key: self._drop_namespace(key[1]),
                metadata_only=True,
            ),
            self._resource_watch("DataClassification", "dataclassifications"),
            self._resource_watch("DatabaseAccessPolicy", "databaseaccesspolicies"),
            Watch(
                kube,
                path_of("v1", "configmaps", namespace),
                put=self._put_trust,
                drop=lambda _: self._put_trust({}),
                field_selector=f"metadata.name={TRUST}",
            ),
        )

    def _resource_watch(self, kind: str, plural: str) -> Watch:
        return Watch(
            self._kube,
            path_of(_API, plural),
            put=lambda item: self._put_resource(kind, item),
            drop=lambda key: self._drop_resource(kind, key),
        )

    async def run(self) -> None:
        """Follow, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for watch in self._watches:
                tasks.create_task(watch.run(), name=f"watch {watch.path}")

    def unread(self) -> str | None:
        """Which collection was not read yet; None when all were."""
        for watch in self._watches:
            if not watch.synced.is_set():
                return f"{watch.path.rpartition('/')[2]} are not read yet"
        return None

    def missing(self) -> str | None:
        """What is not known yet that pods need; None when all is."""
        if self.trust is None:
            return self.unread() or "the controller has not published its certificates and keys yet"
        return self.unread()

    def stale(self) -> str | None:
        """Which watch has not heard of the API server for long; None when none."""
        for watch in self._watches:
            if watch.age_s > WATCH_AGE_MAX_S:
                return f"nothing was heard of {watch.path} for {watch.age_s:.0f} s"
        return None

    async def namespace_now(self, name: str) -> Namespace:
        """A namespace, asked for when it is so new that the watch did not tell yet.

        Raises:
            KubeError: The API server does not tell.
        """
        if (known := self._namespaces.get(name)) is not None:
            return known
        return _namespace(await self._kube.get(path_of("v1", "namespaces", name=name)))

    @property
    def resources(self) -> list[Resource]:
        """Both kinds, as far as they can be read."""
        return list(self._resources.values())

    @property
    def estate(self) -> Estate:
        """Every classification, as pods meet them."""
        if self._estate is None:
            models = [r.model for r in self._resources.values()]
            self._estate = Estate.of(
                [m for m in models if isinstance(m, DataClassification)],
                domain=self._domain,
            )
        return self._estate

    async def settled(self, right: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something holds that a change may bring; False when the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                while not right():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _put_namespace(self, item: dict[str, Any]) -> None:
        self._namespaces[key_of(item)[1]] = _namespace(item)

    def _drop_namespace(self, name: str) -> None:
        self._namespaces.pop(name, None)

    def _put_resource(self, kind: str, item: dict[str, Any]) -> None:
        namespace, name = key_of(item)
        resource = read_resource({**item, "apiVersion": _API, "kind": kind}, namespace)
        if isinstance(resource, list):
            # Stored before its rules were, or while we were away. Of a classification the last
            # version that could be read goes on: its hosts must not come free.
            log.warning(
                "resource cannot be read",
                **{keys.RESOURCE: f"{kind} {namespace}/{name}", keys.REASON: resource[0]},
            )
            return
        self._resources[kind, namespace, name] = resource
        self._touch()

    def _drop_resource(self, kind: str, key: Key) -> None:
        self._resources.pop((kind, *key), None)
        self._touch()

    def _touch(self) -> None:
        self._estate = None
        self._changed.set()

    async def look_at_trust(self) -> None:
        """Ask for trust itself: the watch may be behind by as long as it takes to begin anew.

        Raises:
            KubeError: The API server does not tell.
        """
        item = await self._kube.find(path_of("v1", "configmaps", self._home, TRUST))
        self._put_trust(item or {})

    def _put_trust(self, item: dict[str, Any]) -> None:
        data = section(item, "data")
        self.trust, self.trust_before = read_trust(data), previous_trust(data)
        self._changed.set()


def _namespace(item: dict[str, Any]) -> Namespace:
    return Namespace(key_of(item)[1], labels_of(item), annotations_of(item))


def previous_trust(data: dict[str, str]) -> Trust | None:
    """The trust that ``sluice-trust`` named before; None when there was none."""
    try:
        found = json.loads(data.get("previous.json", ""))
    except ValueError:
        return None
    return read_trust(cast("dict[str, str]", found)) if isinstance(found, dict) else None


def read_trust(data: dict[str, str]) -> Trust | None:
    """``sluice-trust``; None when it is not whole."""
    ca_pem, text = data.get("ca.pem", ""), data.get("keys.json", "")
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not ca_pem or not isinstance(found, dict) or not found:
        return None
    pems = {str(kid): str(pem) for kid, pem in cast("dict[str, Any]", found).items()}
    return Trust(ca_pem, dict(sorted(pems.items())))
