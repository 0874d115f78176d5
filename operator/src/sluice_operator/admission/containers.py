"""Our containers and volumes, with every field that the API server would fill in spelled out.

So a stored pod compares with a derived one by plain equality.
"""

from __future__ import annotations

from typing import Any, Final

from sluice_operator.admission import names
from sluice_operator.admission.identity import compact
from sluice_operator.admission.model import InjectionSettings
from sluice_operator.admission.opa import opa_arguments
from sluice_operator.admission.tls import tls_secrets
from sluice_operator.admission.tuning import Tuning, requirements

RUN_BYTES: Final = "64Mi"
"""Certificate, token, and OPA's persisted bundle."""
STATE_BYTES: Final = "64Mi"
_MODE_READABLE: Final = 0o444

_LOCKED: Final[dict[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "privileged": False,
    "readOnlyRootFilesystem": True,
    "runAsGroup": names.UID,
    "runAsNonRoot": True,
    "runAsUser": names.UID,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def _probe(path: str, port: int, *, period: int, failures: int, timeout: int = 2) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "timeoutSeconds": timeout,
        "periodSeconds": period,
        "successThreshold": 1,
        "failureThreshold": failures,
    }


def _mount(name: str, path: str, *, read_only: bool = False) -> dict[str, Any]:
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def _container(
    name: str, image: str, settings: InjectionSettings, arguments: list[str]
) -> dict[str, Any]:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": arguments,
        "securityContext": {**_LOCKED, "capabilities": {"drop": ["ALL"]}},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _environment(
    settings: InjectionSettings, tuning: Tuning, databases: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    trust = {"ca_pem": settings.trust.ca_pem, "keys": dict(settings.trust.keys)}
    plain = {
        "SLUICE_BUNDLES_URL": settings.bundles_url,
        "SLUICE_TRUST": compact(trust),
        "SLUICE_DATABASES": compact(databases),
        "SLUICE_LOG_LEVEL": tuning.log_level,
        "SLUICE_CLUSTER_DOMAIN": settings.cluster_domain,
        "SLUICE_SPOOL_BYTES_MAX": str(settings.spool_bytes_max),
        "SLUICE_DRAIN_SECONDS": str(settings.drain_seconds),
    }
    if tuning.audit_log is not None:
        plain["SLUICE_AUDIT_LOG"] = tuning.audit_log
    fields = {
        "SLUICE_POD_NAME": "metadata.name",
        "SLUICE_POD_NAMESPACE": "metadata.namespace",
        "SLUICE_POD_UID": "metadata.uid",
    }
    # `$(NAME)` in a value would be replaced by the kubelet; `$$` is a plain dollar.
    return [
        *({"name": name, "value": text.replace("$", "$$")} for name, text in plain.items()),
        *(
            {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
            for name, path in fields.items()
        ),
    ]


def _secrets(databases: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Volume, folder and name of every Secret that databases name."""
    catalogs = [entry["secret"] for entry in databases if entry["secret"] is not None]
    kinds = (
        (names.CATALOG_VOLUME, names.CATALOG_PATH, catalogs),
        (names.TLS_VOLUME, names.TLS_PATH, tls_secrets(databases)),
    )
    return [
        (f"{volume}{n}", f"{path}/{n}", secret)
        for volume, path, secrets in kinds
        for n, secret in enumerate(secrets)
    ]


def our_containers(
    settings: InjectionSettings, tuning: Tuning, databases: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """sluice-opa and sluice-proxy."""
    run = _mount(names.RUN_VOLUME, names.RUN_PATH)
    # The ServiceAccount plugin of the API server gives its token to all that mount nothing there.
    no_token = _mount(names.EMPTY_VOLUME, names.SERVICE_ACCOUNT_PATH, read_only=True)
    mounts = [
        run,
        no_token,
        _mount(names.STATE_VOLUME, names.STATE_PATH),
        _mount(names.SPOOL_VOLUME, names.SPOOL_PATH),
        _mount(names.TOKEN_VOLUME, names.TOKEN_PATH, read_only=True),
        *(_mount(volume, path, read_only=True) for volume, path, _ in _secrets(databases)),
    ]
    return [
        {
            **_container(names.OPA, settings.opa_image, settings, opa_arguments(settings.trust)),
            "restartPolicy": "Always",
            "resources": requirements(tuning.opa),
            # The kubelet starts the proxy beside it, as soon as it runs; the proxy waits for its socket.
            "livenessProbe": _probe("/health", names.OPA_PORT, period=10, failures=6),
            "volumeMounts": [
                run,
                no_token,
                _mount(names.OPA_VOLUME, names.OPA_PATH, read_only=True),
            ],
        },
        {
            **_container(names.PROXY, settings.proxy_image, settings, ["run"]),
            "command": ["sluice-sidecar"],
            "restartPolicy": "Always",
            "env": _environment(settings, tuning, databases),
            "resources": requirements(tuning.proxy),
            # The application starts when it has ended. A startup probe would do the same a second or two later: what
            # became of it the kubelet sees when it next looks at all containers, twice.
            "lifecycle": {"postStart": {"exec": {"command": ["sluice-sidecar", "started"]}}},
            "readinessProbe": _probe("/readyz", names.HEALTH_PORT, period=5, failures=3),
            "livenessProbe": _probe("/healthz", names.HEALTH_PORT, period=10, failures=6),
            "volumeMounts": mounts,
        },
    ]


def our_volumes(
    settings: InjectionSettings, databases: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What our containers mount, and nobody else."""
    # The spool stops itself at its own bound; the volume's is where the kubelet would end the pod.
    spool_mib = -(-(settings.spool_bytes_max + settings.spool_bytes_max // 4) // 2**20)
    token = {
        "audience": names.AUDIENCE,
        "expirationSeconds": names.TOKEN_SECONDS,
        "path": "token",
    }
    return [
        {"name": names.RUN_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": RUN_BYTES}},
        {"name": names.EMPTY_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "4Ki"}},
        {"name": names.STATE_VOLUME, "emptyDir": {"sizeLimit": STATE_BYTES}},
        {"name": names.SPOOL_VOLUME, "emptyDir": {"sizeLimit": f"{spool_mib}Mi"}},
        {
            "name": names.TOKEN_VOLUME,
            "projected": {
                "sources": [{"serviceAccountToken": token}],
                "defaultMode": 0o644,
            },
        },
        {
            "name": names.OPA_VOLUME,
            "downwardAPI": {
                "items": [
                    {
                        "path": names.AUTHORIZATION_FILE,
                        "fieldRef": {
                            "apiVersion": "v1",
                            "fieldPath": f"metadata.annotations['{names.OPA_AUTHORIZATION}']",
                        },
                    }
                ],
                "defaultMode": _MODE_READABLE,
            },
        },
        *(
            {
                "name": volume,
                "secret": {"secretName": secret, "optional": True, "defaultMode": _MODE_READABLE},
            }
            for volume, _, secret in _secrets(databases)
        ),
    ]
