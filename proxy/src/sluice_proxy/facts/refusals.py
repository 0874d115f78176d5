"""Errors by which the reading of a statement ends."""

from __future__ import annotations

from sluice_proxy.reports import ClientError, ErrorReport, SqlState


def not_understood(what: str, hint: str | None = None) -> ClientError:
    """Sluice does not know how to hold this safely, whoever asks (0A000)."""
    return ClientError(
        ErrorReport(
            sqlstate=SqlState.FEATURE_NOT_SUPPORTED,
            message=f"statement not supported by Sluice: {what}",
            detail="What Sluice cannot follow is refused in sessions that a policy restricts.",
            hint=hint
            or "Write the statement in another way, or ask the policy's owner for unrestricted access.",
        )
    )


def refused(message: str, *, detail: str | None = None, hint: str | None = None) -> ClientError:
    """A restricted session may not do this (42501)."""
    return ClientError(
        ErrorReport(
            sqlstate=SqlState.INSUFFICIENT_PRIVILEGE,
            message=message,
            detail=detail or "Sluice refuses this in sessions that a policy restricts.",
            hint=hint,
        )
    )
