"""Structured logs of the operator's processes."""

from __future__ import annotations

from typing import TextIO

from sluice_crds import logs
from sluice_crds.logs import LEVELS

__all__ = ["LEVELS", "configure"]

CHATTY = ("aiohttp.access", "asyncio", "kopf", "uvicorn.access", "httpx")


def configure(level: str, stream: TextIO | None = None) -> None:
    """Begin to log: from this level on (one of LEVELS), to a stream; None is standard error."""
    logs.configure(level, CHATTY, stream)
