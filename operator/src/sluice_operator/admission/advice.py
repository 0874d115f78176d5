"""Warnings of what is legal and risky in a resource. Pure; each says what follows and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator

from sluice_crds import DatabaseAccessPolicy, DataClassification
from sluice_crds.classifications import VERIFYING_MODES
from sluice_operator.admission.hostnames import is_address, service_name
from sluice_operator.admission.tls import tls_mode


def classification_advice(model: DataClassification, domain: str) -> Iterator[str]:
    """What is risky about one classification."""
    spec = model.spec
    if spec.enforcement == "observe":
        yield "spec.enforcement: observe changes and denies nothing: everything is shown and only recorded"
    if spec.unreviewed_columns == "allow":
        yield (
            "spec.unreviewedColumns: allow shows every column that no entry matches, new ones too; "
            "with mask they stay hidden until somebody looked"
        )
    if not spec.columns:
        effect = "hidden" if spec.unreviewed_columns == "mask" else "shown"
        yield f"spec.columns is empty: no column is classified, and all of them are {effect}"
    if spec.database.catalog_secret_ref is None:
        yield (
            "spec.database.catalogSecretRef is not set: sidecars cannot read the catalog, and "
            "sessions that need a mask or a row filter are denied"
        )
    yield from _tls_advice(model)
    yield from _host_advice(model, domain)


def _tls_advice(model: DataClassification) -> Iterator[str]:
    database = model.spec.database
    mode = tls_mode(model)
    if mode == "require":
        yield (
            "spec.database.tls.mode: require encrypts and verifies nothing: whoever answers in the "
            "server's place reads along; with verify-full and caSecretRef nobody can"
        )
    if database.client_tls_secret_ref is not None and mode != "disable":
        yield (
            "spec.database.clientTLSSecretRef: where the server uses TLS too, clients cannot log in by "
            "SCRAM with channel binding (it binds to the server's certificate, and they see the "
            "sidecar's); write channel_binding=disable in their DSNs"
        )
    if mode in VERIFYING_MODES and model.spec.enforcement == "observe":
        yield (
            "spec.database.tls.caSecretRef: the server is verified with enforcement: observe too, and "
            "pods of namespaces that spec.allowedNamespaces does not name mount no Secret: they cannot "
            "connect"
        )


def _host_advice(model: DataClassification, domain: str) -> Iterator[str]:
    namespace = model.metadata.namespace or ""
    for index, host in enumerate(model.spec.database.hosts):
        place = f"spec.database.hosts[{index}]"
        if is_address(host):
            yield (
                f"{place}: connections to the address {host} itself are not led to the sidecar; "
                "have applications use a name, and name it here"
            )
        elif host.count(".") == 1 and service_name(host, namespace, domain) is None:
            yield (
                f"{place}: {host} is taken as a name of the world; for a Service of another "
                f"namespace write {host}.svc"
            )


def policy_advice(model: DatabaseAccessPolicy) -> Iterator[str]:
    """What is risky about one policy."""
    spec = model.spec
    if spec.mode != "enforce":
        yield f"spec.mode: {spec.mode} adds nothing to the decision, not even an allow: it is only recorded"
    allows = [rule for rule in spec.rules or () if rule.effect == "allow"]
    if allows and spec.subjects is None:
        yield (
            f"spec.subjects is not set: the rule {allows[0].name} allows it to every workload that "
            "the classification admits"
        )
    for index, entry in enumerate(spec.masks or ()):
        if entry.mask.kind == "none":
            yield f"spec.masks[{index}]: mask none shows {_class(entry.class_)} raw"
    for index, row_filter in enumerate(spec.row_filters or ()):
        if row_filter.exempt:
            yield (
                f"spec.rowFilters[{index}]: exempt shows through {row_filter.table} rows that this "
                "policy's filters hide in the tables below"
            )


def _class(name: str) -> str:
    return "every class" if name == "*" else f"the class {name}"
