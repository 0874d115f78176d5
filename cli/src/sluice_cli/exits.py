"""Exit codes. Stable: scripts and unit files depend on them (docs/reference/cli.md)."""

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    PROBLEMS = 1
    """Something was checked and is not in order; the problems were printed."""
    USAGE = 2
    """The command line or the environment is wrong."""
    POLICIES = 3
    """Cannot start: the policies cannot be used."""
    OPA = 4
    """Cannot start: Open Policy Agent is missing, too old or does not run."""
    ADDRESS = 5
    """Cannot start: an address cannot be bound."""
    SPOOL = 6
    """Cannot start: the audit spool cannot be opened."""
    INTERNAL = 70
    """A bug; the log has it."""


class UsageError(Exception):
    """The command line or the environment is wrong. The message says what."""
