"""Under which names a database's host is reached: what two classifications may not both claim."""

from __future__ import annotations

import ipaddress

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def host_forms(host: str, namespace: str) -> frozenset[str]:
    """Every spelling of one host, as a pod of the classification's namespace may use it.

    A single label is a Service of that namespace; ``name.namespace`` and ``name.namespace.svc`` are
    one Service. Loopback is one host.
    """
    name = host.lower().rstrip(".")
    if name in LOOPBACK:
        return LOOPBACK
    try:
        return frozenset({str(ipaddress.ip_address(name))})
    except ValueError:
        pass
    bare = name.removesuffix(".cluster.local").removesuffix(".svc")
    labels = bare.split(".")
    if len(labels) == 1:
        bare = f"{bare}.{namespace}"
    elif len(labels) > 2:
        return frozenset({name})
    return frozenset({bare, f"{bare}.svc", f"{bare}.svc.cluster.local"})
