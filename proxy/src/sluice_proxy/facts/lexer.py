"""Tokens of a statement's text: the only positions at which text is ever put in."""

from __future__ import annotations

import re
from bisect import bisect_left
from functools import cached_property

from sluice_proxy import _native
from sluice_proxy.facts.refusals import not_understood, syntax_error

LITERAL_KINDS = frozenset(
    {
        "integer",
        "float",
        "string",
        "escape_string",
        "unicode_string",
        "national_string",
        "bit_string",
        "hex_string",
        "dollar_string",
    }
)
NAME_KINDS = frozenset({"ident", "quoted_ident", "unicode_ident"})
_CLOSING = {ord("("): ord(")"), ord("["): ord("]")}
_BRACKETS = frozenset(b"()[]")
_ESCAPE = re.compile(r"([0-9A-Fa-f]{4})|\+([0-9A-Fa-f]{6})")


class Tokens:
    """The scanner's view of one text; positions are token numbers, offsets are bytes."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        items = _native.tokens(text)
        self.starts = [token.start for token in items]
        self.ends = [token.end for token in items]
        self.kinds = [_native.TOKEN_KINDS[token.kind] for token in items]
        if "invalid" in self.kinds:
            raise syntax_error("an invalid token")

    def __len__(self) -> int:
        return len(self.starts)

    def raw(self, index: int) -> bytes:
        """Return the token's own bytes, empty outside of the text."""
        if not 0 <= index < len(self.starts):
            return b""
        return self.text[self.starts[index] : self.ends[index]]

    def word(self, index: int) -> str:
        """Return a bare word in lower case; empty for every other token, and for a name behind a dot."""
        if not 0 <= index < len(self.starts) or self.kinds[index] != "ident":
            return ""
        if index > 0 and self.raw(index - 1) == b".":
            return ""
        return self.text[self.starts[index] : self.ends[index]].decode("utf-8", "replace").lower()

    def at(self, offset: int) -> int:
        """Return the token that starts at this byte.

        Raises:
            ClientError: No token starts there: the grammar and the scanner disagree.
        """
        index = bisect_left(self.starts, offset)
        if index >= len(self.starts) or self.starts[index] != offset:
            raise not_understood("parser and scanner disagree about where a name begins")
        return index

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the tokens inside a byte range, without the semicolons around it."""
        first, last = bisect_left(self.starts, start), bisect_left(self.starts, end)
        while first < last and self.raw(first) == b";":
            first += 1
        while last > first and self.raw(last - 1) == b";":
            last -= 1
        return first, last

    @cached_property
    def partner(self) -> dict[int, int]:
        """For each opening bracket its closing one, and the other way round."""
        pairs: dict[int, int] = {}
        stack: list[tuple[int, int]] = []
        text, starts = self.text, self.starts
        for index, kind in enumerate(self.kinds):
            if kind != "punctuation" or (first := text[starts[index]]) not in _BRACKETS:
                continue
            closing = _CLOSING.get(first)
            if closing is not None:
                stack.append((index, closing))
            elif not stack or stack[-1][1] != first:
                raise not_understood("brackets that do not match")
            else:
                opening = stack.pop()[0]
                pairs[opening], pairs[index] = index, opening
        return pairs

    def close(self, index: int) -> int:
        """Return the closing bracket that belongs to the opening one at ``index``."""
        partner = self.partner.get(index)
        if partner is None or partner < index:
            raise not_understood("a bracket was expected")
        return partner

    def name_end(self, index: int) -> int:
        """Return the token behind the identifier at ``index``, its UESCAPE clause included."""
        if index >= len(self.starts) or self.kinds[index] not in NAME_KINDS:
            raise not_understood("a name was expected")
        if self.kinds[index] == "unicode_ident" and self.word(index + 1) == "uescape":
            return index + 3
        return index + 1

    def dotted_end(self, index: int, parts: int) -> int:
        """Return the token behind a dotted name of that many parts."""
        end = self.name_end(index)
        for _ in range(parts - 1):
            if self.raw(end) != b".":
                raise not_understood("parser and scanner disagree about a dotted name")
            end = end + 2 if self.raw(end + 1) == b"*" else self.name_end(end + 1)
        return end

    def name(self, index: int) -> str:
        """Return the identifier as PostgreSQL folds and cuts it."""
        raw = self.raw(index).decode("utf-8", "replace")
        kind = self.kinds[index]
        if kind == "ident":
            return truncated("".join(c.lower() if c.isascii() else c for c in raw))
        if kind == "quoted_ident":
            return truncated(raw[1:-1].replace('""', '"'))
        escape = "\\"
        if self.word(index + 1) == "uescape":
            escape = self.raw(index + 2).decode("utf-8", "replace").strip("'")
        return truncated(_unescaped(raw[3:-1].replace('""', '"'), escape))

    @cached_property
    def uescape(self) -> bool:
        """True when any UESCAPE clause is there: the template cannot tell two of them apart."""
        if b"uescape" not in self.text.lower():
            return False
        return any(self.word(index) == "uescape" for index in range(len(self.starts)))


def truncated(name: str) -> str:
    """Cut a name as PostgreSQL does, at 63 bytes and whole characters."""
    data = name.encode()
    return name if len(data) <= 63 else data[:63].decode("utf-8", "ignore")


def _unescaped(body: str, escape: str) -> str:
    out: list[str] = []
    index = 0
    while index < len(body):
        if body[index] != escape:
            out.append(body[index])
            index += 1
        elif body[index + 1 : index + 2] == escape:
            out.append(escape)
            index += 2
        else:
            match = _ESCAPE.match(body, index + 1)
            if match is None:
                raise not_understood("a Unicode escape in a name")
            out.append(chr(int(match[1] or match[2], 16)))
            index = match.end()
    return "".join(out).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
