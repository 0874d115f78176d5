"""What the controller knows of the cluster: kept by watches, read by the reconciler. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog

from sluice_operator import log_keys as keys
from sluice_operator.kube.client import Object
from sluice_operator.kube.watch import Key, key_of
from sluice_operator.reconcile.model import GovernedPod, RawResource, Report, StoredBundle
from sluice_operator.reconcile.parsing import PodReader, raw_resource, report, stored_bundle

log = structlog.get_logger(__name__)

Status = Mapping[str, Any]


class Estate:
    """The cluster as last seen. Each kind of change has a mark of its own, so that nothing is done for nothing."""

    def __init__(self) -> None:
        self.resources: dict[str, RawResource] = {}
        """By uid."""
        self.statuses: dict[str, Status] = {}
        """By uid: the status that the API server has."""
        self.pods: dict[Key, GovernedPod] = {}
        self.external: set[str] = set()
        """Namespaces that may claim hosts which are not their own Services."""
        self.reports: dict[str, Report] = {}
        """By name of the ConfigMap."""
        self.bundles: dict[str, StoredBundle] = {}
        """By profile."""
        self.writing = False
        """This process writes bundles: a change of one by somebody else is undone."""
        self.policy_changed = asyncio.Event()
        """Resources, pods, namespaces or bundles are not as they were."""
        self.reports_changed = asyncio.Event()
        """Reports or statuses are not as they were."""
        self.resources_version = 0
        """Counts changes of what is compiled."""
        self.pods_version = 0
        """Counts changes of pods."""
        self._pod_reader = PodReader()
        self._odd_pods: set[Key] = set()
        self._bundle_names: dict[str, str] = {}

    def put_resource(self, item: Object) -> None:
        """Take one of the two resources as it is now."""
        raw = raw_resource(item)
        self.statuses[raw.uid] = item.get("status") or {}
        self.reports_changed.set()
        if self.resources.get(raw.uid) != raw:
            self.resources[raw.uid] = raw
            self._resources_moved()

    def drop_resource(self, uid: str) -> None:
        """One of the two resources is gone."""
        self.statuses.pop(uid, None)
        if self.resources.pop(uid, None) is not None:
            self._resources_moved()

    def _resources_moved(self) -> None:
        self.resources_version += 1
        self.policy_changed.set()

    def put_namespace(self, item: Object) -> None:
        """A namespace that may claim external hosts."""
        name = item["metadata"]["name"]
        if name not in self.external:
            self.external.add(name)
            self._resources_moved()

    def drop_namespace(self, key: Key) -> None:
        """A namespace lost its label, or is gone."""
        if key[1] in self.external:
            self.external.discard(key[1])
            self._resources_moved()

    def put_pod(self, item: Object) -> None:
        """Take the metadata of a labelled pod."""
        key = key_of(item)
        pod = self._pod_reader.read(item)
        if pod is None:
            if key not in self._odd_pods:
                self._odd_pods.add(key)
                log.warning(
                    "labelled pod was not injected by Sluice; it gets no bundle",
                    **{keys.NAMESPACE: key[0], keys.POD: key[1]},
                )
            self.drop_pod(key)
            return
        before = self.pods.get(key)
        if before != pod:
            self.pods[key] = pod
            self.pods_version += 1
            self.reports_changed.set()
            if before is None or before.profile_id != pod.profile_id:
                self.policy_changed.set()

    def drop_pod(self, key: Key) -> None:
        """A pod is gone, or has run to its end."""
        self._odd_pods.discard(key)
        if self.pods.pop(key, None) is not None:
            self.pods_version += 1
            self.policy_changed.set()
            self.reports_changed.set()

    def put_report(self, item: Object) -> None:
        """Take a replica's report."""
        key = key_of(item)[1]
        parsed = report(item)
        if parsed is None:
            log.warning("report cannot be read", **{keys.NAME: key})
            return
        known = self.reports.get(key)
        if known != parsed:
            self.reports[key] = parsed
            self.reports_changed.set()
            if parsed.failed and (known is None or known.failed != parsed.failed):
                self.policy_changed.set()

    def drop_report(self, key: Key) -> None:
        """A replica is gone."""
        if self.reports.pop(key[1], None) is not None:
            self.reports_changed.set()

    def put_bundle(self, item: Object) -> None:
        """Take what a bundle's ConfigMap says; never an older one than is known."""
        bundle = stored_bundle(item)
        if bundle is None:
            log.warning("bundle's ConfigMap cannot be read", **{keys.NAME: key_of(item)[1]})
            return
        known = self.bundles.get(bundle.profile_id)
        self._bundle_names[bundle.name] = bundle.profile_id
        if known is not None and bundle.sequence < known.sequence:
            return  # Of before our own write.
        if known is not None and bundle.resource_version == known.resource_version:
            return
        if self.writing:
            # Not ours, as far as is known: to be written again, under a higher number than either.
            bundle = replace(bundle, trust="")
            self.policy_changed.set()
        self.bundles[bundle.profile_id] = bundle
        self.reports_changed.set()

    def drop_bundle(self, key: Key) -> None:
        """A bundle's ConfigMap is gone; whether by us or not, it is to be looked at."""
        profile = self._bundle_names.pop(key[1], None)
        if profile is not None and self.bundles.pop(profile, None) is not None:
            self.policy_changed.set()

    def published(self, bundle: StoredBundle) -> None:
        """A bundle was written by this process."""
        self._bundle_names[bundle.name] = bundle.profile_id
        self.bundles[bundle.profile_id] = bundle
        self.reports_changed.set()

    def uids_of_pods(self) -> dict[Key, str]:
        """Uid of each governed pod."""
        return {key: pod.uid for key, pod in self.pods.items()}
