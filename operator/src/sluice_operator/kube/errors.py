"""What can go wrong between us and the API server."""

from __future__ import annotations

import json
from typing import Any, Self, cast


class KubeError(Exception):
    """Anything that went wrong between us and the API server."""


class UnavailableError(KubeError):
    """The API server could not be reached, or did not answer in time."""


class ApiError(KubeError):
    """The API server refused a request."""

    def __init__(
        self, status: int, reason: str, message: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{status} {reason}: {message}" if reason else f"{status}: {message}")
        self.status = status
        """HTTP status."""
        self.reason = reason
        """Kubernetes' word: NotFound, AlreadyExists, Conflict, Expired …"""
        self.message = message
        """Kubernetes' sentence."""
        self.retry_after_s = retry_after_s
        """Seconds to wait, when it was said."""

    @classmethod
    def of(cls, status: int, data: bytes, retry_after: str | None = None) -> Self:
        """Read the error from an answer's body."""
        reason, message = "", data[:200].decode(errors="replace")
        try:
            fields: Any = json.loads(data)
        except ValueError:
            fields = None
        if isinstance(fields, dict):
            known = cast("dict[str, Any]", fields)
            reason, message = str(known.get("reason", "")), str(known.get("message", message))
        seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
        return cls(status, reason, message, seconds)
