"""The names by which pods reach a database's host."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from sluice_policy.hosts import LOOPBACK, host_forms

API_SERVER = "kubernetes.default"
"""No database, whatever a classification says: every governed pod would lose it."""
_POLICY_DOMAIN = "cluster.local"
"""The domain that ``sluice_policy.hosts`` writes Services with."""


def is_address(host: str) -> bool:
    """Whether a host is an address: no name that a pod's hosts file could map."""
    try:
        ipaddress.ip_address(host.rstrip("."))
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host is the pod itself."""
    name = host.lower().rstrip(".")
    if name in LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def service_name(host: str, namespace: str, domain: str) -> str | None:
    """``name.namespace`` of the Service that a host is (``pod.name.namespace`` for one of its pods).

    Two labels are a Service of the classification's own namespace or a name of the world
    (``example.com``): only the former is told from the text.
    """
    name = host.lower().rstrip(".")
    if is_address(name) or is_loopback(name):
        return None
    short = name.removesuffix(f".{domain}")
    if short.endswith(".svc"):
        bare = short.removesuffix(".svc")
        return bare if "." in bare else None
    labels = name.split(".")
    if len(labels) == 1:
        return f"{name}.{namespace}"
    return name if len(labels) == 2 and labels[1] == namespace else None


def absolute(host: str, namespace: str, domain: str) -> str:
    """The one name that means the host everywhere; an address stays what it is."""
    service = service_name(host, namespace, domain)
    return f"{service}.svc.{domain}" if service is not None else host.lower().rstrip(".")


def spellings(host: str, namespace: str, domain: str) -> frozenset[str]:
    """Every name that a pod of any namespace may use; none for an address or the pod itself."""
    name = host.lower().rstrip(".")
    if is_address(name) or is_loopback(name):
        return frozenset()
    service = service_name(name, namespace, domain)
    if service == API_SERVER:
        return frozenset()
    if service is not None:
        return frozenset({service, f"{service}.svc", f"{service}.svc.{domain}"})
    forms = host_forms(name, namespace)
    return frozenset(form for form in forms if domain == _POLICY_DOMAIN or not _foreign(form, name))


def _foreign(form: str, name: str) -> bool:
    """A spelling in a domain that this cluster does not have."""
    return form != name and form.endswith(f".svc.{_POLICY_DOMAIN}")


def shortened(name: str, searches: Iterable[str]) -> frozenset[str]:
    """What a resolver with these search domains completes to ``name``."""
    found: set[str] = set()
    for search in searches:
        suffix = "." + search.lower().strip(".")
        if len(suffix) > 1 and name.endswith(suffix) and len(name) > len(suffix):
            found.add(name.removesuffix(suffix))
    return frozenset(found)
