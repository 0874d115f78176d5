"""Why a session is refused or ended, and how that is told to the data plane."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sluice_proxy import _native
from sluice_proxy.probe import SessionProbe
from sluice_proxy.reports import ClientError, ErrorReport, SqlState

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


def tightened(detail: str) -> ErrorReport:
    """Return why a session ends that the policy now takes something from; ``detail`` says what."""
    return ErrorReport(
        sqlstate=SqlState.ADMIN_SHUTDOWN,
        message="the policy changed, the session must be opened again",
        detail=detail,
        hint="Connect again.",
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
