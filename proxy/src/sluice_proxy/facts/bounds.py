"""How much of SQL one statement may be: what is longer is not read in full.

The bound is on the tree, not on the text: a literal of megabytes is one node, and a list of a hundred thousand numbers
is cheaper than as many conditions. Reading up to the bound takes less than a second of one processor and 250 MiB.
"""

from __future__ import annotations

from typing import Final

from sluice_proxy import _native
from sluice_proxy.reports import ClientError, ErrorReport, SqlState

TREE_CHARACTERS_MAX: Final = 7_500_000
"""Of the tree as JSON, beyond the text's own length: 35,000 conditions, 150,000 numbers, or a megabyte of INSERT."""
RELATION_CHARACTERS: Final = 600
"""What a FROM item, a join, a sub-select or an arm of UNION counts for beside its own text."""
CODE_BYTES_MAX: Final = 2 << 20
"""Of the tokens without what is inside of literals, above which nothing is parsed: the parser itself has no bound."""
TEXT_BYTES_FREE: Final = 768 << 10
"""Shorter texts have fewer tokens than that anyway."""
CHANGED_CHARACTERS_MAX: Final = 32 << 20
"""Of all that is put into one text."""
ROWS_HELD_MAX: Final = 20_000
"""New rows of one INSERT that are held against a row filter."""


def too_much_code(text: bytes) -> bool:
    """Say whether a text is not to be parsed at all."""
    if len(text) <= TEXT_BYTES_FREE:
        return False
    # What has so much code has it at its beginning, mostly; looking at all of 16 MiB would take a fifth of a second.
    return _code(text[: 2 * CODE_BYTES_MAX]) > CODE_BYTES_MAX or (
        len(text) > 2 * CODE_BYTES_MAX and _code(text) > CODE_BYTES_MAX
    )


def _code(text: bytes) -> int:
    template = _native.template(text)
    invalid = template.find(
        _INVALID
    )  # A literal without its end: as long as the text, and the last token.
    return len(template) if invalid < 0 else invalid


_INVALID: Final = bytes([0, _native.TOKEN_KINDS.index("invalid")])


def too_large(document: str, text: bytes) -> bool:
    """Say whether a tree is not to be walked."""
    weight = len(document) - len(text)
    if weight > TREE_CHARACTERS_MAX:
        return True
    if weight * 8 < TREE_CHARACTERS_MAX:
        return False  # A relation and a sub-select are a hundred characters themselves.
    items = sum(document.count(key) for key in ('"relname":', '"SelectStmt":', '"larg":'))
    return weight + items * RELATION_CHARACTERS > TREE_CHARACTERS_MAX


def refused_as_too_large(what: str = "the statement is too large to be judged") -> ClientError:
    """Tell of a statement above a bound (54000)."""
    return ClientError(
        ErrorReport(
            sqlstate=SqlState.PROGRAM_LIMIT_EXCEEDED,
            message=what,
            detail="Above that size Sluice does not read statements in full, so nothing is known to be masked in them.",
            hint="Send it in parts: several INSERTs, a shorter list, or the values as one array parameter (= ANY ($1)) "
            "or through COPY.",
        )
    )
