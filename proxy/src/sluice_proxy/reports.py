"""The closed list of errors that a database user may see (STYLE §4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SqlState(StrEnum):
    """PostgreSQL's error codes, as far as Sluice raises them itself."""

    PROTOCOL_VIOLATION = "08P01"
    CONNECTION_FAILURE = "08006"
    FEATURE_NOT_SUPPORTED = "0A000"
    INSUFFICIENT_PRIVILEGE = "42501"
    SYNTAX_ERROR = "42601"
    UNDEFINED_FUNCTION = "42883"
    UNDEFINED_TABLE = "42P01"
    INVALID_SCHEMA_NAME = "3F000"
    PROGRAM_LIMIT_EXCEEDED = "54000"
    OBJECT_NOT_IN_PREREQUISITE_STATE = "55000"
    QUERY_CANCELED = "57014"
    ADMIN_SHUTDOWN = "57P01"
    CANNOT_CONNECT_NOW = "57P03"
    INTERNAL_ERROR = "XX000"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReport:
    """The fields of one ErrorResponse. Carries names, never row values."""

    sqlstate: SqlState
    message: str
    detail: str | None = None
    hint: str | None = None


class ClientError(Exception):
    """Ends the judging of a statement with an error for the client."""

    def __init__(self, report: ErrorReport) -> None:
        super().__init__(report.message)
        self.report = report
