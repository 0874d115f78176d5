"""AdmissionReview v1: what the API server asks, and how it is answered."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

from sluice_operator.admission.model import Injection, Refusal

API_VERSION: Final = "admission.k8s.io/v1"

WARNING_CHARS_MAX: Final = 256
WARNINGS_MAX: Final = 12
"""The API server drops what is longer than 4096 characters together."""
MESSAGE_CHARS_MAX: Final = 4000


class ReviewError(ValueError):
    """A request that no API server sends."""


@dataclass(frozen=True, slots=True)
class Review:
    """One question."""

    uid: str
    operation: str
    kind: str
    namespace: str
    name: str
    object: dict[str, Any]
    """The new one; empty when it is deleted."""
    old: dict[str, Any]
    """The present one; empty when it is created."""


def read_review(body: bytes) -> Review:
    """Read the question.

    Raises:
        ReviewError: It is none.
    """
    try:
        document = json.loads(body)
    except ValueError as error:
        raise ReviewError("the body is no JSON") from error
    request = _object(_object(document).get("request"))
    uid = request.get("uid")
    if document.get("apiVersion") != API_VERSION or not isinstance(uid, str):
        raise ReviewError(f"the body is no AdmissionReview of {API_VERSION}")
    return Review(
        uid=uid,
        operation=str(request.get("operation", "")),
        kind=str(_object(request.get("kind")).get("kind", "")),
        namespace=str(request.get("namespace") or ""),
        name=str(request.get("name") or ""),
        object=_object(request.get("object")),
        old=_object(request.get("oldObject")),
    )


def _object(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ReviewError("an object was expected")
    return cast("dict[str, Any]", value)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to the API server."""

    allowed: bool
    message: str = ""
    code: int = 403
    reason: str = "Forbidden"
    warnings: tuple[str, ...] = ()
    patch: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, result: Injection | Refusal) -> Answer:
        """The answer to a pod."""
        if isinstance(result, Refusal):
            return cls(False, result.message)
        return cls(True, warnings=result.warnings, patch=result.patch)

    @classmethod
    def starting(cls, what: str) -> Answer:
        """Not yet: the caller tries again."""
        message = f"Sluice is starting ({what}); try again in a few seconds"
        return cls(False, message, 503, "ServiceUnavailable")

    def document(self, uid: str) -> dict[str, Any]:
        """The AdmissionReview."""
        response: dict[str, Any] = {"uid": uid, "allowed": self.allowed}
        if not self.allowed:
            response["status"] = {
                "status": "Failure",
                "message": _short(self.message, MESSAGE_CHARS_MAX),
                "reason": self.reason,
                "code": self.code,
            }
        if self.warnings:
            response["warnings"] = list(_bounded(self.warnings))
        if self.patch:
            text = json.dumps(list(self.patch), separators=(",", ":"))
            response["patchType"] = "JSONPatch"
            response["patch"] = base64.b64encode(text.encode()).decode()
        return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}


def _bounded(warnings: Iterable[str]) -> Iterable[str]:
    found = list(dict.fromkeys(warnings))
    for warning in found[:WARNINGS_MAX]:
        yield _short(warning, WARNING_CHARS_MAX)
    if len(found) > WARNINGS_MAX:
        yield f"and {len(found) - WARNINGS_MAX} more warnings"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
