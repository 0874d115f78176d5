"""Asking DNS, and never the hosts file: there, the databases' names lead back to the sidecar itself."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final

RESOLV_CONF: Final = Path("/etc/resolv.conf")
LIFETIME_S: Final = 5.0


async def addresses(host: str, configuration: Path = RESOLV_CONF) -> list[str]:
    """Return the addresses of a host, IPv4 before IPv6; of an address, itself.

    Short names are completed by the search list, as everywhere in the pod.

    Raises:
        OSError: DNS knows none, or does not answer.
    """
    try:
        return [str(ipaddress.ip_address(host.strip("[]")))]
    except ValueError:
        pass
    # Imported here: most sidecars ask once, for the catalog.
    from dns.asyncresolver import Resolver  # noqa: PLC0415
    from dns.exception import DNSException  # noqa: PLC0415

    try:
        resolver = Resolver(filename=str(configuration))
        answers = await resolver.resolve_name(host, lifetime=LIFETIME_S, search=True)
        found = sorted(answers.addresses(), key=lambda address: ":" in address)
    except DNSException as error:
        raise OSError(f"DNS does not know {host}: {type(error).__name__}") from error
    if not found:
        raise OSError(f"DNS knows no address of {host}")
    return found
