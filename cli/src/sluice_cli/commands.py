"""How commands are put into the parser."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
else:
    Commands = argparse.Action
"""What ``add_subparsers`` returns."""

Handler = Callable[[argparse.Namespace], int]


def later(module: str, function: str) -> Handler:
    """Return a handler whose module is imported when the command is run, so that ``--help`` stays quick."""

    def handle(arguments: argparse.Namespace) -> int:
        return getattr(importlib.import_module(module), function)(arguments)

    return handle
