"""The closed list of what a sidecar may be refused with."""

from __future__ import annotations

from typing import Final


class Refusal(Exception):  # noqa: N818  It is an answer, not a fault of ours.
    """An answer that is no bundle. The text is one sentence for the sidecar's log; it never quotes a token."""

    def __init__(
        self, status: int, reason: str, text: str, *, retry_after_s: int | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s


TOKEN_INVALID: Final = "TokenInvalid"  # noqa: S105
NOT_GOVERNED: Final = "NotGoverned"
BAD_REQUEST: Final = "BadRequest"
TOO_LARGE: Final = "TooLarge"
NOT_FOUND: Final = "NotFound"
TOO_MANY_REQUESTS: Final = "TooManyRequests"
UNAVAILABLE: Final = "Unavailable"


def token_invalid(why: str) -> Refusal:
    """The token does not say who asks."""
    return Refusal(401, TOKEN_INVALID, f"the token is not valid: {why}")


def not_governed(why: str) -> Refusal:
    """The pod is known, and it is not one that the webhook injected."""
    return Refusal(403, NOT_GOVERNED, f"the pod is not governed: {why}")


def too_many(why: str) -> Refusal:
    """More than this replica takes at once."""
    return Refusal(429, TOO_MANY_REQUESTS, why, retry_after_s=1)


def unavailable(why: str) -> Refusal:
    """The service cannot answer now."""
    return Refusal(503, UNAVAILABLE, why, retry_after_s=1)
