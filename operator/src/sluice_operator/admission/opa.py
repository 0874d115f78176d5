"""What OPA is started with in a pod: arguments, which nobody changes later, and the file that guards its API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from sluice_operator.admission import names
from sluice_operator.admission.model import Trust
from sluice_policy.library import authorization

OPA_ARGUMENTS: Final = (
    "run",
    "--server",
    f"--addr=unix://{names.RUN_PATH}/opa.sock",
    "--unix-socket-perm=600",
    "--authorization=basic",
    "--optimize-store-for-read-speed",
    "--skip-version-check",
    "--log-level=error",
    "--log-format=json",
    f"--diagnostic-addr=0.0.0.0:{names.OPA_PORT}",
)
"""What the sidecar's own way of starting OPA gives, and the address for probes."""

_SERVICE: Final = "sluice"
_POLL_S: Final = 30


def opa_arguments(trust: Trust) -> list[str]:
    """Return the arguments of the container, with what OPA would read from a configuration file."""
    settings = (
        # `$(NAME)` in an argument would be replaced by the kubelet; `$$` is a plain dollar.
        f"--set={'.'.join(path)}={_text(value)}".replace("$", "$$")
        for path, value in _leaves((), opa_document(trust))
    )
    return [*OPA_ARGUMENTS, *settings, f"{names.OPA_PATH}/{names.AUTHORIZATION_FILE}"]


def authorization_policy() -> str:
    """Return the policy that guards OPA's API, as the annotation holds it."""
    return authorization()


def opa_document(trust: Trust) -> dict[str, Any]:
    """Return OPA's configuration."""
    return {
        "services": {
            _SERVICE: {
                "url": f"https://127.0.0.1:{names.BUNDLE_PORT}",
                # Both are made by the proxy, a moment later; until then OPA tries again.
                "tls": {"ca_cert": f"{names.RUN_PATH}/ca.pem"},
                "credentials": {"bearer": {"token_path": f"{names.RUN_PATH}/token"}},
            }
        },
        "bundles": {
            _SERVICE: {
                "service": _SERVICE,
                "resource": "/v1/bundle",
                "persist": True,
                "polling": {
                    "min_delay_seconds": 1,
                    "max_delay_seconds": 1,
                    "long_polling_timeout_seconds": _POLL_S,
                },
                # One key is named outright. Of several, the signature's `kid` picks one; all are trusted.
                "signing": {"keyid": next(iter(trust.keys)) if len(trust.keys) == 1 else ""},
            }
        },
        # Without the newline at the end: `kubectl describe` shows each argument as it is.
        "keys": {
            name: {"algorithm": "ES256", "key": pem.strip()} for name, pem in trust.keys.items()
        },
        "status": {"service": _SERVICE},
        "persistence_directory": f"{names.RUN_PATH}/persisted",
        "default_decision": "sluice/session/decision",
    }


def _leaves(
    path: tuple[str, ...], value: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _leaves((*path, key), cast("Mapping[str, Any]", inner))
        else:
            yield (*path, key), inner


def _text(value: Any) -> str:
    """A value as ``--set`` reads it back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).replace("\\", "\\\\").replace(",", "\\,")
