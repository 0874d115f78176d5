"""Why a session is refused or ended, and how that is told to the data plane."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sluice_proxy import _native, admission
from sluice_proxy.databases import Database
from sluice_proxy.decisions import Level, SessionDecision
from sluice_proxy.probe import SessionProbe
from sluice_proxy.reports import ClientError, ErrorReport, SqlState
from sluice_proxy.tls import TlsError

NO_POLICY: Final = ErrorReport(
    sqlstate=SqlState.CANNOT_CONNECT_NOW,
    message="no policy is in force yet",
    detail="The sidecar has not loaded a policy bundle.",
    hint="Try again; /readyz of the sidecar says what it waits for.",
)
RECONNECT: Final = ErrorReport(
    sqlstate=SqlState.ADMIN_SHUTDOWN,
    message="the session is not known any more",
    hint="Connect again.",
)


def error_fields(report: ErrorReport, severity: str = "ERROR") -> _native.ErrorFields:
    """Return the report in the data plane's form."""
    return _native.ErrorFields(
        sqlstate=report.sqlstate.value,
        message=report.message,
        detail=report.detail,
        hint=report.hint,
        severity=severity,
    )


def server_tls(database: Database) -> _native.UpstreamTls | None:
    """Return how the hop to a database's server is encrypted; None: not at all.

    Raises:
        ClientError: Certificates are missing or cannot be used: no session goes on in the clear instead.
    """
    try:
        return None if database.tls is None else database.tls.current()
    except TlsError as error:
        raise ClientError(
            ErrorReport(
                sqlstate=SqlState.CONNECTION_FAILURE,
                message=f'TLS to the server of "{database.name}" cannot be set up',
                detail=f"{str(error)[:1].upper()}{str(error)[1:]}.",
                hint="Put the certificates in place and connect again; a changed Secret is seen within about a minute.",
            )
        ) from error


def tightened(detail: str) -> ErrorReport:
    """Return why a session ends that the policy now takes something from; ``detail`` says what."""
    return ErrorReport(
        sqlstate=SqlState.ADMIN_SHUTDOWN,
        message="the policy changed, the session must be opened again",
        detail=detail,
        hint="Connect again.",
    )


def reason_to_close(
    before: SessionDecision,
    decision: SessionDecision,
    probe: SessionProbe | None,
    *,
    works: bool,
    outdated: bool,
) -> ErrorReport | None:
    """Return why a session must end instead of going on under another decision.

    Args:
        before: What held for it until now.
        decision: What holds from now on.
        probe: What the session said of itself; None when it was not asked.
        works: The client works under ``before`` already.
        outdated: A statement may have begun under the policy before, when this one was in force already, and have
            made a table.
    """
    if not decision.allow:
        return ErrorReport(
            sqlstate=SqlState.ADMIN_SHUTDOWN,
            message="the policy does not admit this session any more",
            detail=admission.reasons_text(decision.reasons),
        )
    if decision.level > Level.OPEN and probe is None:
        return tightened("The policy governs statements now, and the session began without that.")
    if decision.level == Level.RESTRICTED and before.level < Level.RESTRICTED:
        return tightened("The policy masks columns or filters rows now.")
    if probe is None or not works:
        return None
    holds_results = bool(probe.temporary) or probe.holdable_cursors > 0
    if holds_results and (outdated or _obligations(before) != _obligations(decision)):
        return tightened(
            "Masks or filters changed, and the session holds results in temporary tables or cursors."
        )
    return None


def _obligations(decision: SessionDecision) -> tuple[object, ...]:
    return (
        decision.masks,
        decision.row_filters,
        decision.entries,
        decision.unreviewed_masked,
        decision.level,
    )


def check_users(probe: SessionProbe, role: str) -> None:
    """Check that a session still acts for the role that was admitted.

    Raises:
        ClientError: It does not.
    """
    if not probe.session_user == role == probe.current_user:
        said = f'session_user "{probe.session_user}", current_user "{probe.current_user}"'
        raise _other_role(role, said)


def check_reported_user(reported: Iterable[tuple[str, str]], role: str) -> None:
    """Check that the server took the session for the role that was admitted: it cuts long names, and may add to them.

    Raises:
        ClientError: It did not.
    """
    said = dict(reported).get("session_authorization")
    if said not in (None, role):
        raise _other_role(role, f'session_authorization "{said}"')


def _other_role(role: str, said: str) -> ClientError:
    return ClientError(
        ErrorReport(
            sqlstate=SqlState.INSUFFICIENT_PRIVILEGE,
            message="the session acts for another role than it began with",
            detail=f'It began as "{role}"; the server says {said}.',
            hint="Connect as the role that is meant, and remove any default of the setting role.",
        )
    )
