"""The scanner against PostgreSQL's own (pglast), on texts of every token class and on junk."""

from __future__ import annotations

import os

import pglast.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_proxy import _native

EXAMPLES = int(os.environ.get("SLUICE_SCANNER_EXAMPLES", "400"))
KIND = {name: number for number, name in enumerate(_native.TOKEN_KINDS)}
INVALID = KIND["invalid"]

# PostgreSQL's own names of what we call by kind. Keywords are the idents that are not listed.
PG_NAMES = {
    "UIDENT": {"unicode_ident"},
    "ICONST": {"integer"},
    "FCONST": {"float"},
    "SCONST": {"string", "escape_string", "dollar_string"},
    "USCONST": {"unicode_string"},
    "BCONST": {"bit_string"},
    "XCONST": {"hex_string"},
    "PARAM": {"param"},
    "Op": {"operator"},
    "NCHAR": {"national_string", "ident"},
    "TYPECAST": {"punctuation"},
    "DOT_DOT": {"punctuation"},
    "COLON_EQUALS": {"punctuation"},
    "EQUALS_GREATER": {"operator"},
    "LESS_EQUALS": {"operator"},
    "GREATER_EQUALS": {"operator"},
    "NOT_EQUALS": {"operator"},
    "IDENT": {"ident", "quoted_ident"},
}
SELF = set(",()[].;:+-*/%^<>=")


def postgres_tokens(text: str) -> list[tuple[int, int, str]] | None:
    """Byte ranges and names of PostgreSQL's tokens, comments left out; None when it cannot scan."""
    try:
        scanned = pglast.parser.scan(text)
    except pglast.parser.ParseError:
        return None
    offsets = [0]
    for character in text:
        offsets.append(offsets[-1] + len(character.encode()))
    return [
        (offsets[token.start], offsets[token.end + 1], token.name)
        for token in scanned
        if token.name not in {"SQL_COMMENT", "C_COMMENT"}
    ]


def doubtful(text: str, start: int) -> bool:
    """Whether PostgreSQL scans on at this byte, and we deny: no statement holds such a text, or majors differ."""
    rest = text.encode()[start:]
    if (
        rest[:1] == b"$"
    ):  # `$1a` is an error to servers, if not to pglast; other lone dollars are to all.
        digits = rest[1:].lstrip(b"0123456789")
        return rest[1:2].isdigit() is False or digits != rest[1:]
    return rest[:1] in b"\\{}\v" or rest[0] < 0x20 or rest[0] == 0x7F


def check(text: str) -> None:
    sql = text.encode()
    ours = _native.tokens(sql)
    theirs = postgres_tokens(text)
    ends_invalid = bool(ours) and ours[-1].kind == INVALID
    if theirs is None:
        # What is wrong inside a string that PostgreSQL and we end at the same place is its error to raise.
        assert ends_invalid or any(_native.TOKEN_KINDS[t.kind] == "escape_string" for t in ours)
        return
    if ends_invalid:
        assert doubtful(text, ours[-1].start), (text, ours[-1], theirs)
        ours = ours[:-1]
        theirs = theirs[: len(ours)]
    assert [(t.start, t.end) for t in ours] == [(start, end) for start, end, _ in theirs], text
    for token, (_, _, name) in zip(ours, theirs, strict=True):
        kind = _native.TOKEN_KINDS[token.kind]
        if name.startswith("ASCII_"):
            character = chr(int(name.removeprefix("ASCII_")))
            assert character in SELF
            assert kind == ("punctuation" if character in ",()[].;:" else "operator")
        else:
            assert kind in PG_NAMES.get(name, {"ident"}), (text, token, name)


fragments = st.sampled_from(
    [
        *[
            "select",
            "N",
            "n",
            "U&",
            "u",
            "e",
            "E",
            "b",
            "x",
            "users",
            "é",
            "naïve€",
            "😀",
            "a$1",
            "_",
            "nchar",
        ],
        *[
            "'",
            "''",
            "'a'",
            "'é😀'",
            "E'",
            "E'\\''",
            "e'\\\\'",
            "E'\\u00e9'",
            "U&'",
            "U&'\\0061'",
            "N'x'",
        ],
        *[
            "n 'x'",
            "B'01'",
            "b'",
            "X'1f'",
            "x'",
            '"',
            '""',
            '"a""b"',
            'U&"',
            'U&"d\\0061t"',
            "UESCAPE '!'",
        ],
        *["$$", "$a$", "$é$", "$b$", "$1", "$12", "$0", "$", "$1a", "$65535", "$65536", "$_1$"],
        *[
            "1",
            "0",
            "12",
            "1_000",
            "1_",
            "_1",
            "0x1F",
            "0X_f",
            "0x",
            "0b01",
            "0o17",
            "0o8",
            "1.5",
            ".5",
            "1.",
        ],
        *[
            "..",
            "1..2",
            "1e5",
            "1e",
            "1e+",
            "1e+5",
            "1.e-5",
            "e5",
            "2147483647",
            "2147483648",
            "0x80000000",
        ],
        *[
            "--",
            "-- x\n",
            "/*",
            "*/",
            "/* a */",
            "/*/",
            "/**/",
            "*/*",
            "\n",
            "\r",
            " ",
            "\t",
            "\f",
            "\v",
        ],
        *list("+-*/<>=~!@#%^&|`?.,:;()[]{}\\"),
        *[
            "::",
            ":=",
            "=>",
            "<=",
            ">=",
            "<>",
            "!=",
            "->>",
            "@-",
            "=-",
            "+--",
            "~/*",
            "|/",
            "||",
            "@+",
            "<-+-",
        ],
        *["+" * 70, "a" * 70, "\x01", "\x7f", "\ufeff", "\u00a0", "\u2028"],
    ]
)
words = st.text(
    alphabet=st.one_of(
        st.sampled_from("ab01_$'\"\\-/*+=<>!.:;,()eExXuUnNbB& \n"),
        st.characters(min_codepoint=1, exclude_categories=["Cs"]),
    ),
    max_size=12,
)
closed = st.sampled_from(
    [
        *[
            "select",
            "N",
            "n",
            "u",
            "e",
            "x",
            "users",
            "é",
            "naïve€",
            "😀",
            "a$1",
            "_",
            "nchar",
            "uu&",
            "eé'x'",
        ],
        *[
            "''",
            "'a'",
            "'é😀'",
            "E'\\''",
            "e'\\\\'",
            "E'a''b'",
            "U&'\\0061'",
            "N'x'",
            "n 'x'",
            "B'01'",
            "X'1f'",
        ],
        *[
            "'\\'",
            "'a' \n 'b'",
            "'a'--c\n'b'",
            "'a' 'b'",
            "'a'/**/\n'b'",
            "E'\\''\n'\\''",
            "b'0'\n'1'",
            "b'0''1'",
        ],
        *[
            '"a""b"',
            'U&"d\\0061t"',
            "U&'x' UESCAPE '!'",
            "$$a$$",
            "$a$ $b$ $$ '$a$",
            "$é$\n$é$",
            "$a$$a$",
        ],
        *[
            "$1",
            "$12",
            "$0",
            "1",
            "0",
            "1_000",
            "0x1F",
            "0X_f",
            "0b01",
            "0o17",
            "1.5",
            ".5",
            "1. ",
            "1..2",
            "1e5",
        ],
        *[
            "1e+5",
            "1.e-5",
            "2147483647",
            "2147483648",
            "0x80000000",
            "0_1",
            "1.5_0",
            "1...2",
            "1.2.3",
            "a.1",
        ],
        *[
            "-- x\n",
            "--\r",
            "/* a */",
            "/*/*/ **/*/",
            "/**/",
            "/* ' */",
            "\n",
            " ",
            " ",
            " ",
            "\t",
            "\f",
        ],
        *[
            "+",
            "-",
            "*",
            "<",
            ">",
            "=",
            "~",
            "!",
            "@",
            "#",
            "%",
            "^",
            "&",
            "|",
            "?",
            ".",
            ",",
            ":",
            ";",
            "()",
            "[]",
        ],
        *[
            "::",
            ":=",
            "=>",
            "<=",
            ">=",
            "<>",
            "!=",
            "->>",
            "@-",
            "=-",
            "+--\n",
            "~/**/",
            "||",
            "@+",
            "<-+-",
            "*/",
        ],
        *["\ufeff", "\u00a0", "a" * 70, "=-1", "1-1", "a<-1", "@-1", "<=-", "=>=", "**/"],
    ]
)
texts = st.one_of(
    st.lists(closed, max_size=20).map("".join),
    st.lists(st.one_of(fragments, fragments, words), max_size=14).map("".join),
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(texts)
def test_tokens_are_those_of_postgresql(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    "text",
    [
        "'a' \n 'b'",
        "'a' -- why\n 'b'",
        "'a' 'b'",
        "'a'\n/* c */ 'b'",
        "E'it\\'s'\n'\\''",
        "U&'!0061'\n'b' UESCAPE '!'",
        "/* a /* b */ c */ select/**/1",
        "select 1 -- no newline",
        "$a$ $b$ $$ $a$",
        "a<-1 and b@-1 and c=-1 and d->>-1",
        "select'a'from t where x::int:=1..2",
        "SELECT 'é😀', id FROM \"naïve\" WHERE ünï = U&'\\00e9'",
        "N'x' n 'x'",
        "select 1.e5, .5e-3, 0x1F, 1_000.5, 0b1_0, 99999999999, 0xFFFFFFFF",
    ],
)
def test_texts_that_were_traps_elsewhere_scan_as_in_postgresql(text: str) -> None:
    assert postgres_tokens(text) is not None
    check(text)
