"""What a sidecar is told at its start. Built once, at the edge, and passed on; never read globally."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sluice_proxy.decide import Workload
from sluice_proxy.tls import TlsPair


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Where clients come in."""

    name: str
    """``namespace/name`` of the one database it serves, or a ``Database.group``; empty: whichever the client names."""
    address: str
    """``ADDR:PORT`` or ``unix:PATH``."""
    certificate: TlsPair | None = None
    """What clients that ask for TLS are shown; None: they are told that there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarSettings:
    """Everything but the databases, which may change while it runs."""

    workload: Workload
    profile: str
    """Id of the only bundles that are taken."""
    listeners: tuple[Listener, ...]
    spool_directory: Path
    """Lasting: audit events wait here until they are shipped."""
    state_directory: Path
    """Lasting and private: the last good bundle and the highest sequence seen."""
    runtime_directory: Path
    """Private and short-lived: OPA's socket, configuration and token. Its path must be short."""
    opa_program: Path | None
    """None: somebody else starts OPA, with what ``opa_files.opa_document`` says for the runtime directory."""
    bundle_port: int = 0
    """Of the loopback service that OPA polls; 0: any free one. Needed when somebody else starts OPA."""
    bundle_listener: socket.socket | None = field(default=None, repr=False)
    """Listens on that port already, so that OPA waits instead of being refused; None: it is opened at the start."""
    first_policy_s: float | None = 30.0
    """So long may the first policy take; None: as long as it takes, not ready meanwhile."""
    health: tuple[str, int] | None = None
    """Host and port of health and metrics; None: nowhere."""
    bundle_keys: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    """Public keys (PEM) by id: the present one and, while keys are rotated, the next."""
    resolver: Literal["dns", "system"] = "system"
    """Who knows the addresses of upstreams. ``dns``: never the hosts file, which leads a pod's names to the sidecar."""
    spool_bytes_max: int = 1 << 30
    """Of the audit spool. What does not fit makes it unwritable, and governed statements are refused."""
    drain_s: float = 30.0
    """What live sessions may take at the end. Kubernetes grants 30 s by default."""
    sessions_max: int = 1000
    """As many as PostgreSQL's max_connections is usually set to, and more."""
