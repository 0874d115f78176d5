"""The environment that the webhook wrote, and the folders of the pod: all that a sidecar is configured by."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

from sluice_proxy.sidecar.trust import Trust, TrustError
from sluice_proxy.tls import TLS_MODES, TlsMode

LEVELS: Final = ("debug", "info", "warning", "error")
SPOOL_BYTES_MIN: Final = 1 << 20
DRAIN_S_MAX: Final = 3600.0

_NAME: Final = re.compile(r"[^/\s]+/[^/\s]+\Z")
_TEXT: Final = re.compile(r"[^\x00]+\Z")
_LISTEN: Final = re.compile(r"127\.0\.0\.\d{1,3}:\d{1,5}\Z")


class SettingError(Exception):
    """A variable is missing or cannot be read; the message names it and who writes it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are in the pod."""

    root: Path = Path("/")
    """Another root for everything, so that a sidecar runs outside of a pod."""

    @property
    def run(self) -> Path:
        """In memory: OPA's socket, configuration, token and certificate."""
        return self.root / "run/sluice"

    @property
    def state(self) -> Path:
        """Last good bundle and identity."""
        return self.root / "var/lib/sluice/state"

    @property
    def spool(self) -> Path:
        """Audit events."""
        return self.root / "var/lib/sluice/spool"

    @property
    def token(self) -> Path:
        """The projected service account token."""
        return self.root / "var/run/secrets/sluice/token"

    @property
    def started(self) -> Path:
        """There once the sidecar was ready; as long-lived as the pod."""
        return self.run / "started"

    @property
    def termination(self) -> Path:
        """What the kubelet shows of a container that ended."""
        return self.root / "dev/termination-log"

    def place(self, path: str) -> Path:
        """Return where a path of the pod is."""
        return self.root / path.lstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseEntry:
    """One database that the sidecar stands before (``databases.schema.json``)."""

    name: str
    """``namespace/name`` of the DataClassification."""
    database: str
    host: str
    port: int
    listen: str
    """Databases on one server share it."""
    tls: TlsMode
    """Of the hop to the server."""
    catalog: str | None
    """Folder with the files of the catalog Secret."""
    secret: str | None = None
    """Name of that Secret."""
    tls_names: tuple[str, ...] = ()
    """Under ``verify-full`` the server's certificate must have one of them; empty: the host."""
    authorities: tuple[str, str] | None = None
    """File of those that may sign it, and name of its Secret."""
    certificate: tuple[str, str] | None = None
    """Folder of what the server is shown, and name of its Secret."""
    client_tls: tuple[str, str] | None = None
    """Folder of what clients are shown, and name of its Secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Everything that the webhook said."""

    bundles_url: str
    trust: Trust = field(repr=False)
    databases: tuple[DatabaseEntry, ...]
    pod: str
    namespace: str
    pod_uid: str
    log_level: str = "info"
    cluster_domain: str = "cluster.local"
    spool_bytes_max: int = 1 << 30
    drain_s: float = 30.0
    audit_to_stdout: bool = False

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Environment:
        """Return what the variables say.

        Raises:
            SettingError: Naming the variable.
        """
        level = variables.get("SLUICE_LOG_LEVEL") or "info"
        if level not in LEVELS:
            raise SettingError(f"SLUICE_LOG_LEVEL must be one of {', '.join(LEVELS)}")
        audit = variables.get("SLUICE_AUDIT_LOG") or "off"
        if audit not in {"off", "stdout"}:
            raise SettingError("SLUICE_AUDIT_LOG must be off or stdout")
        try:
            trust = Trust.parse(_given(variables, "SLUICE_TRUST"))
        except TrustError as error:
            raise SettingError(f"SLUICE_TRUST cannot be read: {error}") from error
        return cls(
            bundles_url=_url(_given(variables, "SLUICE_BUNDLES_URL")),
            trust=trust,
            databases=_databases(_given(variables, "SLUICE_DATABASES")),
            pod=_given(variables, "SLUICE_POD_NAME"),
            namespace=_given(variables, "SLUICE_POD_NAMESPACE"),
            pod_uid=_given(variables, "SLUICE_POD_UID"),
            log_level=level,
            cluster_domain=variables.get("SLUICE_CLUSTER_DOMAIN") or "cluster.local",
            spool_bytes_max=int(
                _number(variables, "SLUICE_SPOOL_BYTES_MAX", 1 << 30, SPOOL_BYTES_MIN, 1 << 50)
            ),
            drain_s=_number(variables, "SLUICE_DRAIN_SECONDS", 30.0, 0.0, DRAIN_S_MAX),
            audit_to_stdout=audit == "stdout",
        )


def _given(variables: Mapping[str, str], name: str) -> str:
    value = variables.get(name)
    if not value:
        raise SettingError(
            f"{name} is not set; the admission webhook writes it, so create the pod anew"
        )
    return value


def _number(
    variables: Mapping[str, str], name: str, default: float, lowest: float, highest: float
) -> float:
    text = variables.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not lowest <= value <= highest:
        raise SettingError(f"{name} must be a number from {lowest:g} to {highest:g}")
    return value


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname:
        raise SettingError("SLUICE_BUNDLES_URL must be https://HOST[:PORT]")
    return text.rstrip("/")


def _databases(text: str) -> tuple[DatabaseEntry, ...]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SettingError(f"SLUICE_DATABASES is no JSON: {error}") from error
    if not isinstance(document, list):
        raise SettingError("SLUICE_DATABASES is no list")
    items = cast("list[Any]", document)
    found = tuple(_database(number, item) for number, item in enumerate(items))
    if len({entry.name for entry in found}) < len(found):
        raise SettingError("SLUICE_DATABASES names a database twice")
    return found


def _database(number: int, item: Any) -> DatabaseEntry:
    place = f"SLUICE_DATABASES[{number}]"
    if not isinstance(item, dict):
        raise SettingError(f"{place} is no object")
    fields = cast("dict[str, Any]", item)
    upstream = fields.get("upstream")
    if not isinstance(upstream, list) or len(cast("list[Any]", upstream)) != 2:
        raise SettingError(f"{place}.upstream must be host and port")
    host, port = cast("list[Any]", upstream)
    checks: tuple[tuple[str, bool], ...] = (
        ("name", _matches(_NAME, fields.get("name"))),
        ("database", _matches(_TEXT, fields.get("database"))),
        ("upstream", _matches(_TEXT, host) and isinstance(port, int) and 0 < port < 65536),
        ("listen", _matches(_LISTEN, fields.get("listen"))),
        ("tls", fields.get("tls") in TLS_MODES),
        ("tlsNames", _names(fields.get("tlsNames", [host]))),
        ("authorities", _mounted("file", fields.get("authorities"))),
        ("certificate", _mounted("folder", fields.get("certificate"))),
        ("clientTls", _mounted("folder", fields.get("clientTls"))),
        ("catalog", isinstance(fields.get("catalog", 0), str | None)),
        ("secret", isinstance(fields.get("secret"), str | None)),
    )
    for name, sound in checks:
        if not sound:
            raise SettingError(f"{place}.{name} does not keep the contract")
    return DatabaseEntry(
        name=fields["name"],
        database=fields["database"],
        host=host,
        port=port,
        listen=fields["listen"],
        tls=fields["tls"],
        catalog=fields["catalog"],
        secret=fields.get("secret"),
        tls_names=tuple(fields.get("tlsNames", ())),
        authorities=_place("file", fields.get("authorities")),
        certificate=_place("folder", fields.get("certificate")),
        client_tls=_place("folder", fields.get("clientTls")),
    )


def _names(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(_matches(_TEXT, name) for name in cast("list[Any]", value))


def _mounted(kind: str, value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict):
        return False
    fields = cast("dict[str, Any]", value)
    return (
        isinstance(fields.get("secret"), str)
        and isinstance(fields.get(kind), str)
        and fields[kind].startswith("/")
    )


def _place(kind: str, value: Mapping[str, str] | None) -> tuple[str, str] | None:
    return None if value is None else (value[kind], value["secret"])


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.match(value) is not None
