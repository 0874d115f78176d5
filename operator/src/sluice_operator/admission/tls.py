"""TLS of a database as the pods that come to it have it: mode, names, and the Secrets that they mount."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sluice_crds import DataClassification
from sluice_operator.admission import names
from sluice_operator.admission.hostnames import absolute, is_address, spellings

_FIELDS: Final = ("authorities", "certificate", "clientTls")
"""Of an entry of ``SLUICE_DATABASES`` (``operator/contract/databases.schema.json``)."""


class Folders:
    """Where Secrets are mounted: one folder for each, however many databases name it."""

    def __init__(self) -> None:
        """None so far."""
        self._numbers: dict[str, int] = {}

    def __getitem__(self, secret: str) -> str:
        """The folder of a Secret; a new one for a name that was not asked for before."""
        number = self._numbers.setdefault(secret, len(self._numbers))
        return f"{names.TLS_PATH}/{number}"


def tls_mode(model: DataClassification) -> str:
    """Of the hop to the server, as libpq: ``prefer`` when nothing is said; ``require`` with authorities verifies."""
    tls = model.spec.database.tls
    if tls is None:
        return "prefer"
    return "verify-ca" if tls.mode == "require" and tls.ca_secret_ref is not None else tls.mode


def tls_names(model: DataClassification, domain: str) -> list[str]:
    """The names of which the server's certificate must have one; first the one that is connected to."""
    home = model.metadata.namespace or ""
    found: list[str] = []
    for host in model.spec.database.hosts:
        name = host.lower().rstrip(".")
        if is_address(name):
            found.append(str(ipaddress.ip_address(name)))
        else:
            found += [absolute(name, home, domain), name, *sorted(spellings(name, home, domain))]
    return list(dict.fromkeys(found))


def tls_places(model: DataClassification, folders: Folders) -> dict[str, Any]:
    """The Secrets that a database names and where they are mounted; nothing for those that it does not name."""
    database, tls = model.spec.database, model.spec.database.tls
    found: dict[str, Any] = {}
    if tls is not None and (authorities := tls.ca_secret_ref) is not None:
        file = f"{folders[authorities.name]}/{authorities.key}"
        found["authorities"] = {"file": file, "secret": authorities.name}
    pairs = (
        ("certificate", tls.client_cert_secret_ref if tls is not None else None),
        ("clientTls", database.client_tls_secret_ref),
    )
    for field, reference in pairs:
        if reference is not None:
            found[field] = {"folder": folders[reference.name], "secret": reference.name}
    return found


def tls_secrets(databases: Iterable[Mapping[str, Any]]) -> list[str]:
    """The Secrets of entries, each once, in the order of their folders."""
    named = (entry[field]["secret"] for entry in databases for field in _FIELDS if field in entry)
    return list(dict.fromkeys(named))
