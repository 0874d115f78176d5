"""One Secret, followed by name: RBAC needs no more than that one (get, list and watch with ``resourceNames``)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from sluice_operator.kube.client import Kube, Object, path_of
from sluice_operator.kube.watch import Watch


def secret_data(secret: Object) -> dict[str, bytes]:
    """Return the decoded data of a Secret."""
    data: dict[str, Any] = secret.get("data") or {}
    return {name: base64.b64decode(value) for name, value in data.items()}


class SecretWatch:
    """Follows one Secret. ``data`` is None while there is none."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        on_change: Callable[[Mapping[str, bytes] | None], None] | None = None,
    ) -> None:
        """Make one; ``on_change`` is called with the data whenever they differ from before."""
        self.data: Mapping[str, bytes] | None = None
        self._on_change = on_change
        self.watch = Watch(
            kube,
            path_of("v1", "secrets", namespace),
            put=lambda secret: self._set(secret_data(secret)),
            drop=lambda _: self._set(None),
            field_selector=f"metadata.name={name}",
        )

    async def run(self) -> None:
        """Follow, until cancelled."""
        await self.watch.run()

    def _set(self, data: Mapping[str, bytes] | None) -> None:
        if data == self.data:
            return
        self.data = data
        if self._on_change is not None:
            self._on_change(data)
