"""Why a sidecar cannot start, in words for whoever started it."""

from __future__ import annotations


class StartError(Exception):
    """The sidecar cannot start. The message says why and what to do."""


class PolicyStartError(StartError):
    """No policy came into force."""


class ListenError(StartError):
    """An address cannot be bound."""


class SpoolError(StartError):
    """The audit spool cannot be opened."""


class NotStartedError(Exception):
    """A sidecar was ended before it had been ready in its pod. The message says what it waited for."""
