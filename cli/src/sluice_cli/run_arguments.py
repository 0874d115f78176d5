"""The options of ``sluice run``, checked and turned into values."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sluice_cli.exits import UsageError
from sluice_cli.run_options import DEFAULT_LISTEN
from sluice_crds import DataClassification
from sluice_proxy.databases import Database
from sluice_proxy.settings import Listener
from sluice_proxy.tls import ServerTls, TlsFile, TlsPair

ANY: Final = ""
"""Key of options that name no database."""

_ENVIRONMENT: Final = ("SLUICE_CATALOG_DSN", "SLUICE_OPA", "SLUICE_LOG_LEVEL")
_DEVELOPMENT: Final = "SLUICE_DEV_"
_CATALOG_DSN: Final = "SLUICE_CATALOG_DSN"
_DATABASE: Final = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?\Z")
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\s\[\]]+):(\d{1,5})\Z")
_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)?\Z")
_AGE_UNITS_S: Final[Mapping[str, float]] = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseOptions:
    """Options by database: a DataClassification's name, with or without its namespace, or ANY."""

    listeners: tuple[tuple[str, str], ...]
    upstreams: Mapping[str, str]
    catalog_dsns: Mapping[str, str]
    authorities: Mapping[str, str]
    """Files, and folders of the two that follow."""
    certificates: Mapping[str, str]
    client_certificates: Mapping[str, str]

    def check(self, names: Iterable[str], namespace: str) -> None:
        """Refuse options that name a database which no file classifies.

        Raises:
            UsageError: Naming the option.
        """
        known = set(names)
        used = [("--listen", key) for key, _ in self.listeners]
        used += [("--upstream", key) for key in self.upstreams]
        used += [("--catalog", key) for key in self.catalog_dsns]
        used += [("--upstream-ca", key) for key in self.authorities]
        used += [("--upstream-certificate", key) for key in self.certificates]
        used += [("--client-certificate", key) for key in self.client_certificates]
        for option, key in used:
            if key != ANY and qualified(key, namespace) not in known:
                raise UsageError(
                    f"{option} {key}=…: there is no DataClassification of that name; "
                    f"there are {', '.join(sorted(known)) or 'none'}"
                )

    def database(self, name: str, model: DataClassification, namespace: str) -> Database:
        """Return one classified database as the sidecar reaches it."""

        def pick(options: Mapping[str, str]) -> str | None:
            for key, value in options.items():
                if key != ANY and qualified(key, namespace) == name:
                    return value
            return options.get(ANY)

        spec = model.spec.database
        host = spec.hosts[0]
        authorities, certificate = pick(self.authorities), pick(self.certificates)
        canonical = f"[{host}]:{spec.port}" if ":" in host else f"{host}:{spec.port}"
        return Database(
            name=name,
            database_name=spec.name,
            upstream=pick(self.upstreams) or canonical,
            catalog_dsn=pick(self.catalog_dsns),
            tls=ServerTls(
                mode=spec.tls.mode if spec.tls else "prefer",
                names=(host,),
                authorities=TlsFile(Path(authorities)) if authorities else None,
                certificate=TlsPair(Path(certificate)) if certificate else None,
            ),
        )

    def listening(self, namespace: str) -> tuple[Listener, ...]:
        """Return the listeners by the full names of their databases."""
        folders = self.client_certificates
        return tuple(
            Listener(
                name=ANY if key == ANY else qualified(key, namespace),
                address=address,
                certificate=TlsPair(Path(folders[key])) if key in folders else None,
            )
            for key, address in self.listeners
        )


def qualified(key: str, namespace: str) -> str:
    """Return ``namespace/name`` of a database as an option names it."""
    return key if "/" in key else f"{namespace}/{key}"


def database_options(
    arguments: argparse.Namespace, environment: Mapping[str, str], names: Iterable[str]
) -> DatabaseOptions:
    """Read the options that may be given for each database.

    Raises:
        UsageError: One is malformed, or a file cannot be read.
    """
    listeners = [_keyed("--listen", item) for item in _given(arguments.listen) or [DEFAULT_LISTEN]]
    for _, address in listeners:
        _check_address("--listen", address)
    upstreams: dict[str, str] = {}
    for item in _given(arguments.upstream):
        key, address = _keyed("--upstream", item)
        _check_address("--upstream", address)
        _put("--upstream", upstreams, key, address)
    return DatabaseOptions(
        listeners=tuple(listeners),
        upstreams=upstreams,
        catalog_dsns=_catalog_dsns(arguments, environment, names),
        authorities=_paths("--upstream-ca", arguments.upstream_ca),
        certificates=_paths("--upstream-certificate", arguments.upstream_certificate),
        client_certificates=_paths("--client-certificate", arguments.client_certificate),
    )


def _paths(option: str, items: list[str] | None) -> dict[str, str]:
    paths: dict[str, str] = {}
    for item in _given(items):
        key, path = _keyed(option, item)
        _put(option, paths, key, path)
        if not Path(path).exists():
            raise UsageError(f"{option} {path}: there is no such file or folder")
    return paths


def _catalog_dsns(
    arguments: argparse.Namespace, environment: Mapping[str, str], names: Iterable[str]
) -> dict[str, str]:
    dsns: dict[str, str] = {}
    if environment.get(_CATALOG_DSN):
        dsns[ANY] = environment[_CATALOG_DSN]
    for name in names:
        for spelled in (name.rpartition("/")[2], name):
            variable = f"{_CATALOG_DSN}_{re.sub(r'[^A-Z0-9]', '_', spelled.upper())}"
            if environment.get(variable):
                dsns[name] = environment[variable]
    from_files: dict[str, str] = {}
    for item in _given(arguments.catalog):
        if "://" in item or "password=" in item:
            raise UsageError(
                "--catalog takes the name of a file that holds the DSN: on the command line everybody could read it"
            )
        key, path = _keyed("--catalog", item)
        _put("--catalog", from_files, key, _read_dsn(Path(path)))
    return dsns | from_files


def _read_dsn(path: Path) -> str:
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"--catalog {path} cannot be read: {reason}") from error
    if not text or "\n" in text:
        raise UsageError(f"--catalog {path} must hold one line, the DSN of the catalog role")
    return text


def host_port(option: str, text: str) -> tuple[str, int]:
    """Return host (without brackets) and port.

    Raises:
        UsageError: It is not ADDR:PORT.
    """
    match = _ADDRESS.match(text)
    if match is None or int(match[2]) > 65535:
        raise UsageError(f"{option} {text}: an address is written ADDR:PORT, IPv6 as [ADDR]:PORT")
    return match[1].strip("[]"), int(match[2])


def duration_s(option: str, text: str) -> float:
    """Return seconds of ``90``, ``15m``, ``24h`` or ``7d``.

    Raises:
        UsageError: It is none of these, or 0.
    """
    match = _AGE.match(text)
    seconds = float(match[1]) * _AGE_UNITS_S[match[2] or "s"] if match else 0.0
    if seconds <= 0:
        raise UsageError(f"{option} {text}: a time is written like 90s, 15m, 24h or 7d")
    return seconds


def check_environment(environment: Mapping[str, str]) -> None:
    """Refuse mistyped variables: what is not known would silently do nothing.

    Raises:
        UsageError: Naming the variable, and the one that may have been meant.
    """
    for name in sorted(environment):
        if not name.startswith("SLUICE_") or name.startswith(_DEVELOPMENT):
            continue
        if name in _ENVIRONMENT or name.startswith(f"{_CATALOG_DSN}_"):
            continue
        near = difflib.get_close_matches(name, _ENVIRONMENT, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(_ENVIRONMENT)}"
        raise UsageError(f"unknown environment variable {name}{hint}")


def _given(values: list[str] | None) -> list[str]:
    return values or []


def _keyed(option: str, item: str) -> tuple[str, str]:
    """Split ``[DATABASE=]VALUE``. A value may hold ``=`` itself when what stands before is no database's name."""
    head, equals, tail = item.partition("=")
    if equals and _DATABASE.match(head) and not item.startswith(("unix:", "/", ".")):
        if not tail:
            raise UsageError(f"{option} {item}: nothing stands behind {head}=")
        return head, tail
    return ANY, item


def _check_address(option: str, address: str) -> None:
    if address.startswith("unix:"):
        if not address.removeprefix("unix:"):
            raise UsageError(f"{option} {address}: the path is missing")
        return
    host_port(option, address)


def _put(option: str, options: dict[str, str], key: str, value: str) -> None:
    if key in options:
        raise UsageError(f"{option} is given twice for {key or 'all databases'}")
    options[key] = value
