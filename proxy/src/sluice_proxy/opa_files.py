"""What OPA is started with, whoever starts it: its command line, configuration and authorization policy."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

from sluice_proxy.files import write_atomically
from sluice_proxy.loopback import LoopbackFiles

BUNDLE_NAME: Final = "sluice"
BUNDLE_PATH: Final = "/v1/bundle"
SOCKET_PATH_BYTES_MAX: Final = 107
"""``sun_path`` of Linux, without the closing NUL."""
LONG_POLL_S: Final = 30


class OpaError(Exception):
    """OPA cannot be used. The message says why and what to do."""


def opa_arguments(directory: Path) -> list[str]:
    """Return what OPA is started with, whoever starts it; no secret is in it."""
    return [
        "run",
        "--server",
        f"--addr=unix://{socket_path(directory)}",
        # 600: the directory is private already; this holds even where its mode is changed.
        "--unix-socket-perm=600",
        "--authorization=basic",
        # Decisions read the data, bundles replace it whole: half the time of a decision.
        "--optimize-store-for-read-speed",
        "--skip-version-check",
        "--log-level=error",
        "--log-format=json",
        f"--config-file={directory / 'config.json'}",
        str(directory / "authz.rego"),
    ]


def socket_path(directory: Path) -> Path:
    """Where OPA listens."""
    return directory / "opa.sock"


def prepare_directory(directory: Path, url: str, keys: Mapping[str, str]) -> None:
    """Write what OPA reads: configuration and authorization policy.

    Args:
        directory: Private; OPA's socket will be there too.
        url: Of the bundle service.
        keys: Public keys (PEM) by key id.

    Raises:
        OpaError: The socket's path would be longer than the system takes.
    """
    socket = socket_path(directory)
    if len(os.fsencode(socket)) > SOCKET_PATH_BYTES_MAX:
        raise OpaError(
            f"the path of OPA's socket is longer than {SOCKET_PATH_BYTES_MAX} bytes: "
            f"{socket}; choose a shorter --state directory"
        )
    (directory / "persisted").mkdir(mode=0o700, exist_ok=True)
    document = json.dumps(opa_document(directory, url, keys), indent=1).encode()
    write_atomically(directory / "config.json", document)
    write_atomically(directory / "authz.rego", authorization_policy())


def opa_document(directory: Path, url: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """Return OPA's configuration file; arguments as for ``prepare_directory``."""
    files = LoopbackFiles(directory)
    return {
        "services": {
            BUNDLE_NAME: {
                "url": url,
                "tls": {"ca_cert": str(files.ca)},
                "credentials": {"bearer": {"token_path": str(files.token)}},
            }
        },
        "bundles": {
            BUNDLE_NAME: {
                "service": BUNDLE_NAME,
                "resource": BUNDLE_PATH,
                "persist": True,
                "polling": {
                    "min_delay_seconds": 1,
                    # Between attempts while the proxy is away: a pod's start waits for the next one.
                    "max_delay_seconds": 1,
                    "long_polling_timeout_seconds": LONG_POLL_S,
                },
                # One key is named outright. Of several, the signature's ``kid`` picks one; all are trusted.
                "signing": {"keyid": next(iter(keys)) if len(keys) == 1 else ""},
            }
        },
        "keys": {key_id: {"algorithm": "ES256", "key": pem} for key_id, pem in keys.items()},
        "status": {"service": BUNDLE_NAME},
        "persistence_directory": str(directory / "persisted"),
        "default_decision": "sluice/session/decision",
    }


def authorization_policy() -> bytes:
    """Return the policy that guards OPA's API (``system.authz``)."""
    return resources.files("sluice_proxy").joinpath("opa_authz.rego").read_bytes()
