"""What the scanner does not understand: all that follows is invalid."""

from __future__ import annotations

import pytest

from sluice_proxy import _native

INVALID = _native.TOKEN_KINDS.index("invalid")


@pytest.mark.parametrize(
    "text",
    [
        *["'a", '"a', '""', "$a$ $b$", "/* /* */", "E'a\\'", "B'0", "U&'x", 'U&""', "'a' \n 'b"],
        *[
            "1a",
            "0x",
            "0b2",
            "1__0",
            "1_",
            "1e",
            "1e+",
            "1e5$1",
            "1_0$1",
            "0x1G",
            "$1a",
            "$65536",
            "$4294967297",
        ],
        *["$", "\\", "{", "\x00", "\v", "\x01", "@" * 64],
    ],
)
def test_doubtful_text_is_invalid_to_the_end(text: str) -> None:
    scanned = _native.tokens(f"select {text} , 1".encode())
    assert scanned[-1].kind == INVALID
    assert scanned[-1].end == len(f"select {text} , 1".encode())
