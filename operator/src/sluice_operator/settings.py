"""Settings from the environment: read once, checked, and nothing that is misspelled is passed over."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sluice_operator.logs import LEVELS

PREFIX: Final = "SLUICE_"

_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_\w+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?$")
"""What a kubelet adds for each Service of the namespace, ours included, when service links are on."""


class SettingsError(Exception):
    """A setting cannot be used. The message names it and says what would be right."""


class Environment:
    """Reads variables, and afterwards knows which ones nobody asked for."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Read from ``variables``; an empty value counts as not given."""
        self._given = {name: value for name, value in variables.items() if value}
        self._known: set[str] = set()

    def text(self, name: str, default: str | None = None) -> str:
        """Return a variable, or the default.

        Raises:
            SettingsError: It is not given and there is no default.
        """
        value = self.optional(name)
        if value is not None:
            return value
        if default is None:
            raise SettingsError(f"{name} is not set")
        return default

    def optional(self, name: str) -> str | None:
        """Return a variable, or None."""
        self._known.add(name)
        return self._given.get(name)

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        """Return one of ``choices``.

        Raises:
            SettingsError: It is another word.
        """
        value = self.text(name, default)
        if value not in choices:
            raise SettingsError(f"{name} is {value!r}, and must be one of {', '.join(choices)}")
        return value

    def number(self, name: str, default: float, *, low: float, high: float) -> float:
        """Return a number between ``low`` and ``high``.

        Raises:
            SettingsError: It is none, or outside.
        """
        text = self.text(name, repr(default))
        try:
            value = float(text)
        except ValueError:
            raise SettingsError(f"{name} is {text!r}, which is no number") from None
        if not math.isfinite(value) or not low <= value <= high:
            raise SettingsError(f"{name} is {text}, and must be from {low:g} to {high:g}")
        return value

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        """Return a whole number between ``low`` and ``high``.

        Raises:
            SettingsError: It is none, or outside.
        """
        value = self.number(name, default, low=low, high=high)
        if value != int(value):
            raise SettingsError(f"{name} must be a whole number")
        return int(value)

    def flag(self, name: str, *, default: bool) -> bool:
        """Return ``true`` or ``false``."""
        return self.choice(name, ("true", "false"), "true" if default else "false") == "true"

    def address(self, name: str, default: str) -> tuple[str | None, int]:
        """Return HOST:PORT; an empty HOST (None) is every interface.

        Raises:
            SettingsError: It has another form.
        """
        text = self.text(name, default)
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdigit() or int(port) > 65535:
            raise SettingsError(f"{name} is {text!r}, and must be HOST:PORT or :PORT")
        return host.strip("[]") or None, int(port)

    def finish(self) -> None:
        """Refuse a ``SLUICE_`` variable that no setting has: it would silently do nothing.

        Raises:
            SettingsError: There is one.
        """
        for name in sorted(self._given):
            if not name.startswith(PREFIX) or name in self._known or _SERVICE_LINK.search(name):
                continue
            near = difflib.get_close_matches(name, self._known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{name} is not a setting of this process{hint}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonSettings:
    """What all three processes are told."""

    namespace: str
    """``SLUICE_NAMESPACE``: the release's own."""
    pod_name: str
    """``SLUICE_POD_NAME``: names this replica, in the Lease and in reports."""
    log_level: str = "info"
    """``SLUICE_LOG_LEVEL``."""
    cluster_domain: str = "cluster.local"
    """``SLUICE_CLUSTER_DOMAIN``."""
    kubeconfig: str | None = None
    """``KUBECONFIG``; None is the pod's own service account."""
    health: tuple[str | None, int] = (None, 8081)
    """``SLUICE_HEALTH``: where ``/healthz``, ``/readyz`` and ``/metrics`` are served."""


def common_settings(environment: Environment) -> CommonSettings:
    """Read what all processes have in common; the caller reads its own and then calls ``finish``.

    Raises:
        SettingsError: One cannot be used.
    """
    return CommonSettings(
        namespace=environment.text("SLUICE_NAMESPACE"),
        pod_name=environment.text("SLUICE_POD_NAME"),
        log_level=environment.choice("SLUICE_LOG_LEVEL", LEVELS, "info"),
        cluster_domain=environment.text("SLUICE_CLUSTER_DOMAIN", "cluster.local").strip("."),
        kubeconfig=environment.optional("KUBECONFIG"),
        health=environment.address("SLUICE_HEALTH", ":8081"),
    )
