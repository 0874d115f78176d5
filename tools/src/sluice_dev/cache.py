"""Where built tools are kept, outside the tree: ``$XDG_CACHE_HOME/sluice``."""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
"""The project's folder."""


def cache() -> Path:
    """Return the cache folder (it may not exist yet)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sluice"


def opa_version() -> str:
    """Return the version of OPA pinned in tools/go.mod, without the ``v``."""
    text = (ROOT / "tools" / "go.mod").read_text()
    match = re.search(r"github\.com/open-policy-agent/opa v(\S+)", text)
    if match is None:
        raise RuntimeError("tools/go.mod names no version of github.com/open-policy-agent/opa")
    return match[1]


def opa() -> Path:
    """Return the OPA that `make setup` built.

    Raises:
        FileNotFoundError: It was not built.
    """
    path = Path(os.environ.get("SLUICE_OPA") or cache() / f"opa-{opa_version()}" / "opa")
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there; run `make setup`, or name one in SLUICE_OPA")
    return path
