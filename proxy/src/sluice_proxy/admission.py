"""Judging a StartupMessage: which database is meant, and which settings a governed session may bring along. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sluice_proxy.databases import Database
from sluice_proxy.decisions import Level, SessionDecision
from sluice_proxy.facts.settings import settings_allowed
from sluice_proxy.reports import ClientError, ErrorReport, SqlState

ANY_DATABASE: Final = ""
"""Name of a listener that serves every database of the sidecar; others are named after their one database."""

_CUSTOM: Final = re.compile(r"app\.[a-z_][a-z0-9_]*\Z")
_IDENTITY: Final = frozenset({"user", "database", "options", "replication"})
_OPTION: Final = re.compile(r"(?:-c|--)\s*([A-Za-z0-9_.\-]+)=(.*)\Z", re.DOTALL)


def choose_database(listener: str, database_name: str, databases: Iterable[Database]) -> Database:
    """Return the classified database that a startup message means.

    Args:
        listener: ANY_DATABASE, the ``namespace/name`` that the listener serves alone, or the group that it serves.
        database_name: As the client names it.
        databases: All of the sidecar.

    Raises:
        ClientError: None, or more than one, is meant: what no classification names is refused.
    """
    known = [item for item in databases if listener in (ANY_DATABASE, item.name, item.group)]
    found = [item for item in known if item.database_name == database_name]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(sorted(item.name for item in found))
        raise ClientError(
            ErrorReport(
                sqlstate=SqlState.INSUFFICIENT_PRIVILEGE,
                message=f'database "{database_name}" is classified more than once here',
                detail=f"It is meant by {names}.",
                hint="Give each its own listener: --listen DATABASE=ADDR:PORT.",
            )
        )
    here = ", ".join(sorted(f'"{item.database_name}" ({item.name})' for item in known))
    raise ClientError(
        ErrorReport(
            sqlstate=SqlState.INSUFFICIENT_PRIVILEGE,
            message=f'database "{database_name}" is not classified, connection refused',
            detail=f"This listener serves {here}."
            if here
            else "This listener serves no database now.",
            hint="Write a DataClassification whose spec.database.name is this database.",
        )
    )


def refusal(database: Database, role: str, decision: SessionDecision) -> ErrorReport:
    """Return what a session that the policy does not admit is told."""
    return ErrorReport(
        sqlstate=SqlState.INSUFFICIENT_PRIVILEGE,
        message=f'role "{role}" may not connect to database "{database.database_name}"',
        detail=reasons_text(decision.reasons),
        hint=f"Ask the owner of {database.name} for a DatabaseAccessPolicy that admits this workload.",
    )


def reasons_text(reasons: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the messages of a decision's reasons as one line; None without any."""
    return " ".join(dict.fromkeys(str(reason["message"]) for reason in reasons)) or None


def check_startup(parameters: Iterable[tuple[str, str]], level: Level) -> None:
    """Refuse what a session of this level must not be started with.

    Raises:
        ClientError: Naming the parameter.
    """
    items = list(parameters)
    if any(
        name == "replication" and value.lower() not in {"false", "off", "no", "0"}
        for name, value in items
    ):
        raise ClientError(
            ErrorReport(
                sqlstate=SqlState.FEATURE_NOT_SUPPORTED,
                message="replication connections do not go through Sluice",
                hint="Connect to the database itself, with a role that may replicate.",
            )
        )
    if level == Level.OPEN:
        return
    for name, value in items:
        if name == "options":
            for setting, given in parse_options(value):
                _check_setting(setting, given)
        elif name not in _IDENTITY and not name.startswith("_pq_."):
            _check_setting(name, value)


def parse_options(text: str) -> list[tuple[str, str]]:
    """Return the settings of the ``options`` parameter, split as PostgreSQL splits it (backslash escapes).

    Raises:
        ClientError: It holds another switch than ``-c name=value`` or ``--name=value``.
    """
    words: list[str] = []
    for raw in re.findall(r"(?:\\.|[^\s\\])+", text, re.DOTALL):
        word = re.sub(r"\\(.)", r"\1", raw, flags=re.DOTALL)
        if words and words[-1] == "-c":
            words[-1] = f"-c{word}"
        else:
            words.append(word)
    settings: list[tuple[str, str]] = []
    for word in words:
        match = _OPTION.match(word)
        if match is None:
            raise ClientError(
                ErrorReport(
                    sqlstate=SqlState.FEATURE_NOT_SUPPORTED,
                    message=f'startup option "{word[:40]}" is not allowed in a governed session',
                    hint="Use -c name=value only.",
                )
            )
        settings.append((match[1].replace("-", "_"), match[2]))
    return settings


def _check_setting(name: str, value: str) -> None:
    if _CUSTOM.match(name.lower()):
        return
    problem = settings_allowed(name, value)
    if problem is not None:
        raise ClientError(
            ErrorReport(
                sqlstate=SqlState.FEATURE_NOT_SUPPORTED,
                message=f'the setting "{name[:63]}" is not allowed in the startup of a governed session',
                detail=f"{problem[0].upper()}{problem[1:]}.",
                hint="Leave it out of the connection's parameters, or give the value that is allowed.",
            )
        )
