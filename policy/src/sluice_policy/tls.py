"""What a classification says of TLS and cannot mean: refused, so that nothing that is written is without effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sluice_crds import DataClassification
from sluice_crds.classifications import TLS_NEEDS_CA, VERIFYING_MODES, UpstreamTls
from sluice_policy.problems import Problem
from sluice_policy.resources import Resource


def tls_contradictions(resource: Resource, model: DataClassification) -> list[Problem]:
    """One problem for each field of ``spec.database.tls`` that contradicts the mode."""
    tls = model.spec.database.tls
    found = () if tls is None else _contradictions(tls)
    return [
        resource.problem(("spec", "database", "tls", field), message) for field, message in found
    ]


_IGNORED: Final = (
    "has no effect with mode disable, which never uses TLS; write another mode, or leave it out"
)
_SKIPPED: Final = (
    "mode prefer goes on without TLS where the server offers none, so whoever answers in its place "
    "is never verified; write mode verify-full (or verify-ca, or require, which verifies the chain "
    "where there is a caSecretRef), or leave it out"
)
_MISSING: Final = (
    f"{TLS_NEEDS_CA}: name the Secret and the key with the certificates of the authorities that may "
    "sign the server's"
)


def _contradictions(tls: UpstreamTls) -> Iterator[tuple[str, str]]:
    if tls.ca_secret_ref is None:
        if tls.mode in VERIFYING_MODES:
            yield "caSecretRef", _MISSING
    elif tls.mode == "disable":
        yield "caSecretRef", _IGNORED
    elif tls.mode == "prefer":
        yield "caSecretRef", _SKIPPED
    if tls.mode == "disable" and tls.client_cert_secret_ref is not None:
        yield "clientCertSecretRef", _IGNORED
