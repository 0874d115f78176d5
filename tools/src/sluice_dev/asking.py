"""Asking a process over HTTP how it is."""

from __future__ import annotations

import urllib.error
import urllib.request


def get(host: str, port: int, path: str) -> tuple[int, str]:
    """Return status and body, of refusals too; status 0 and the reason when nobody answers within 5 s."""
    try:
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()
    except OSError as error:
        return 0, str(error)
