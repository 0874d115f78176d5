"""All classifications of the cluster as a pod meets them: servers, their loopback addresses, their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from sluice_crds import DataClassification
from sluice_operator.admission import names
from sluice_operator.admission.hostnames import absolute, shortened, spellings
from sluice_operator.admission.identity import compact
from sluice_operator.admission.tls import Folders, tls_mode, tls_names, tls_places

SERVERS_MAX: Final = names.LOOPBACK_LAST - names.LOOPBACK_FIRST + 1

VARIABLE_BYTES_MAX: Final = 120 * 1024
"""Linux takes no variable above 128 KiB: the container would not start."""
ALIASES_BYTES_MAX: Final = 256 * 1024
"""etcd takes objects of 1.5 MiB, and a pod has more to say."""
_ANSWERS_MAX: Final = 512
_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class Server:
    """Hosts that databases share, so that one loopback address stands for all of them."""

    canonical: str
    names: frozenset[str]
    databases: tuple[DataClassification, ...]

    @property
    def hosts(self) -> Iterable[str]:
        """Names, sorted."""
        return sorted(self.names)


@dataclass(slots=True)
class _Group:
    """A server while it is found."""

    names: set[str] = field(default_factory=set[str])
    databases: list[DataClassification] = field(default_factory=list[DataClassification])
    taken: set[tuple[int, str]] = field(default_factory=set[tuple[int, str]])
    """Ports and names of databases: what the StartupMessage tells apart behind one address."""


def full_name(model: DataClassification) -> str:
    """``namespace/name``."""
    return f"{model.metadata.namespace}/{model.metadata.name}"


def _seniority(model: DataClassification) -> tuple[bool, str, str]:
    created = model.metadata.creation_timestamp
    return created is None, created or "", full_name(model)


def host_names(model: DataClassification, domain: str) -> set[str]:
    """Every name by which pods of any namespace reach its hosts."""
    namespace = model.metadata.namespace or ""
    found: set[str] = set()
    for host in model.spec.database.hosts:
        found |= spellings(host, namespace, domain)
    return found


def _servers(models: Iterable[DataClassification], domain: str) -> list[Server]:
    """Group by shared names, the older first.

    A younger classification that would put two databases of one name behind one address stands
    alone: with the names that nobody older has.
    """
    groups: list[_Group] = []
    for model in sorted(models, key=_seniority):
        own = host_names(model, domain)
        database = (model.spec.database.port, model.spec.database.name)
        near = [group for group in groups if group.names & own]
        taken = [pair for group in near for pair in group.taken]
        if database in taken or len(set(taken)) != len(taken):
            for group in near:
                own -= group.names
            groups.append(_Group(own, [model], {database}))
            continue
        merged = _Group(own, [model], {database})
        for group in near:
            merged.names |= group.names
            merged.databases = [*group.databases, *merged.databases]
            merged.taken |= group.taken
            groups.remove(group)
        groups.append(merged)
    return sorted(
        (_server(group, domain) for group in groups), key=lambda s: (s.canonical, *s.hosts)
    )


def _server(group: _Group, domain: str) -> Server:
    databases = tuple(sorted(group.databases, key=_seniority))
    first = databases[0]
    canonical = absolute(first.spec.database.hosts[0], first.metadata.namespace or "", domain)
    return Server(canonical, frozenset(group.names), databases)


@dataclass(frozen=True, slots=True)
class Estate:
    """Made once for each change of the classifications, read for each pod."""

    domain: str
    servers: tuple[Server, ...] = ()
    _known: dict[Any, Any] = field(default_factory=dict[Any, Any], compare=False, repr=False)
    """Answers given before: the pods of a namespace ask the same."""

    def _remembered(self, key: tuple[str, ...], make: Callable[[], _Made]) -> _Made:
        if key not in self._known:
            if len(self._known) >= _ANSWERS_MAX:
                self._known.clear()
            self._known[key] = make()
        return cast("_Made", self._known[key])

    @classmethod
    def of(cls, models: Iterable[DataClassification], *, domain: str = "cluster.local") -> Estate:
        """Group classifications, whose namespace must be filled in, into servers."""
        return cls(domain, tuple(_servers(models, domain)))

    def server_of(self, name: str) -> Server:
        """The server of a classification, by full name.

        Raises:
            KeyError: There is no such classification.
        """
        for server in self.servers:
            if any(full_name(model) == name for model in server.databases):
                return server
        raise KeyError(name)

    @property
    def generations(self) -> Mapping[str, int]:
        """``namespace/name`` → generation of each classification, sorted."""
        return self._remembered(("generations",), self._generations)

    def _generations(self) -> Mapping[str, int]:
        found = {
            full_name(m): m.metadata.generation or 0 for s in self.servers for m in s.databases
        }
        return dict(sorted(found.items()))

    def overflow(self) -> str | None:
        """Why a pod cannot hold all of it; None when it can."""
        return self._remembered(("overflow",), self._overflow)

    def _overflow(self) -> str | None:
        if len(self.servers) > SERVERS_MAX:
            return (
                f"there are {len(self.servers)} classified database servers, more than the "
                f"{SERVERS_MAX} that a pod has addresses for"
            )
        # As if all admitted one namespace: Secrets are named for those that do.
        size = len(compact(_entries(self, lambda _: True)))
        if size > VARIABLE_BYTES_MAX:
            return (
                f"the classified databases take {size} bytes to name, more than the "
                f"{VARIABLE_BYTES_MAX} that a container's variable may have"
            )
        size = len(compact(self.aliases("")))
        if size > ALIASES_BYTES_MAX:
            return (
                f"the hosts of classified databases take {size} bytes to name, more than the "
                f"{ALIASES_BYTES_MAX} that a pod may have"
            )
        return None

    def address(self, index: int) -> str:
        """Loopback address of the server at an index."""
        return f"127.0.0.{names.LOOPBACK_FIRST + index}"

    def aliases(self, namespace: str, searches: Iterable[str] = ()) -> list[dict[str, Any]]:
        """``hostAliases`` for a pod of a namespace, which may shorten names by search domains.

        The answer is shared: it must not be changed.
        """
        domains = tuple(searches)
        return self._remembered(
            ("aliases", namespace, *domains), lambda: self._aliases(namespace, domains)
        )

    def _aliases(self, namespace: str, searches: Iterable[str]) -> list[dict[str, Any]]:
        own = (f"{namespace}.svc.{self.domain}", *searches)
        mapped = {name for server in self.servers for name in server.names}
        out: list[dict[str, Any]] = []
        for index, server in enumerate(self.servers):
            short: set[str] = set()
            for name in server.names:
                short |= shortened(name, own) - mapped
            mapped |= short
            if hosts := sorted(server.names | short):
                out.append({"ip": self.address(index), "hostnames": hosts})
        return out

    def admits(self, namespace: str) -> list[str]:
        """Full names of the classifications that admit workloads of a namespace."""
        return self._remembered(("admits", namespace), lambda: self._admits(namespace))

    def _admits(self, namespace: str) -> list[str]:
        return sorted(
            full_name(model)
            for server in self.servers
            for model in server.databases
            if admits(model, namespace)
        )

    def entries(self, namespace: str) -> list[dict[str, Any]]:
        """``SLUICE_DATABASES`` for a pod of a namespace, in the order of full names.

        Secrets are those of admitted databases only: whoever writes a classification must not choose
        which Secret a foreign namespace's pods mount. The answer is shared.
        """
        return self._remembered(
            ("entries", namespace), lambda: _entries(self, lambda model: admits(model, namespace))
        )


def admits(model: DataClassification, namespace: str) -> bool:
    """Whether workloads of a namespace may come."""
    return namespace == model.metadata.namespace or namespace in (
        model.spec.allowed_namespaces or ()
    )


def _entries(
    estate: Estate, admitted: Callable[[DataClassification], bool]
) -> list[dict[str, Any]]:
    places = [
        (model, f"{estate.address(index)}:{model.spec.database.port}")
        for index, server in enumerate(estate.servers)
        for model in server.databases
    ]
    folders = Folders()
    out: list[dict[str, Any]] = []
    catalogs = 0
    for model, listen in sorted(places, key=lambda place: full_name(place[0])):
        database = model.spec.database
        entry: dict[str, Any] = {
            "name": full_name(model),
            "database": database.name,
            "upstream": [
                absolute(database.hosts[0], model.metadata.namespace or "", estate.domain),
                database.port,
            ],
            "listen": listen,
            "tls": tls_mode(model),
            "catalog": None,
            "secret": None,
        }
        if entry["tls"] == "verify-full":
            entry["tlsNames"] = tls_names(model, estate.domain)
        if admitted(model):
            entry |= tls_places(model, folders)
            if (reference := database.catalog_secret_ref) is not None:
                entry |= {"catalog": f"{names.CATALOG_PATH}/{catalogs}", "secret": reference.name}
                catalogs += 1
        out.append(entry)
    return out
