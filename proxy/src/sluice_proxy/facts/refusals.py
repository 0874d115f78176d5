"""Errors by which the reading of a statement ends."""

from __future__ import annotations

import re

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


_SAID = re.compile(
    r"""(syntax error)( at end of input| at or near "(\w{1,63}|[^\w\s'"$]{1,2})")?"""
)
_NUMBER = re.compile(r"\d")


def syntax_error(said: str) -> ClientError:
    """Tell of a text that PostgreSQL's own parser does not take, as the server would (42601).

    Args:
        said: The parser's message; what it quotes of the text is kept where it is a word, never a literal.
    """
    known = _SAID.match(said)
    literal = known is not None and _NUMBER.match(known[3] or "")
    return ClientError(
        ErrorReport(
            sqlstate=SqlState.SYNTAX_ERROR,
            message="syntax error" if known is None or literal else known[0],
            detail="PostgreSQL's grammar, as Sluice has it, does not accept this text.",
            hint="Check the statement's syntax.",
        )
    )


_NEXT = "Ask the policy's owner, or use a database role that no policy restricts."


def refused(message: str, *, detail: str | None = None, hint: str | None = None) -> ClientError:
    """A restricted session may not do this (42501)."""
    return ClientError(
        ErrorReport(
            sqlstate=SqlState.INSUFFICIENT_PRIVILEGE,
            message=message,
            detail=detail or "Sluice refuses this in sessions that a policy restricts.",
            hint=hint or _NEXT,
        )
    )
