"""opa-python-client without its synchronous half: that brings an HTTP library of 5 MiB which nothing here uses."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Final

_SYNCHRONOUS: Final = "opa_client.opa"

if _SYNCHRONOUS in sys.modules:
    from opa_client.opa_async import AsyncOpaClient  # pyright: ignore[reportMissingTypeStubs]
else:
    # The package's own __init__ imports both halves.
    _stand_in = ModuleType(_SYNCHRONOUS)
    _stand_in.__dict__["OpaClient"] = None
    sys.modules[_SYNCHRONOUS] = _stand_in
    try:
        from opa_client.opa_async import AsyncOpaClient  # pyright: ignore[reportMissingTypeStubs]
    finally:
        del sys.modules[_SYNCHRONOUS]

__all__ = ["AsyncOpaClient"]
