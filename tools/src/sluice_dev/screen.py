"""Plain lines on a terminal: headings, small tables, facts; colours only where somebody looks."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence

WIDTH = 100


class Screen:
    """Prints the steps and remembers which did not show what they must."""

    def __init__(self) -> None:
        """Look at standard output once."""
        self._colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.failures: list[str] = []

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text

    def heading(self, text: str) -> None:
        """Begin a step."""
        print(self._paint("1", text), flush=True)

    def line(self, text: str) -> None:
        """Print one indented line, cut to the screen."""
        print("  " + (text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"), flush=True)

    def wrapped(self, text: str, indent: int) -> None:
        """Print a text on as many lines as it needs."""
        for line in textwrap.wrap(text, WIDTH - indent, subsequent_indent="  "):
            self.line(" " * indent + line)

    def rows(self, who: str, columns: Sequence[Sequence[object]]) -> None:
        """Print rows aligned, the first with the identity's name before it."""
        cells = [[("" if cell is None else str(cell)) for cell in row] for row in columns]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)] if cells else []
        for number, row in enumerate(cells or [["(no rows)"]]):
            text = "  ".join(
                cell.ljust(width) for cell, width in zip(row, widths or [9], strict=True)
            )
            self.line(f"{who if number == 0 else '':<11}{text.rstrip()}")

    def check(self, holds: bool, what: str) -> None:
        """Remember what should have been seen and was not."""
        if not holds:
            self.failures.append(what)
            print("  " + self._paint("31", f"NOT AS IT SHOULD BE: {what}"), flush=True)
