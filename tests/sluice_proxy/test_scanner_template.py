"""Templates and splices: what they keep, and what they refuse."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_proxy import _native
from sluice_proxy._native import Edit

KINDS = _native.TOKEN_KINDS
LITERALS = {
    KINDS.index(name)
    for name in KINDS
    if (name.endswith("string") and name != "national_string") or name in {"integer", "float"}
}

pieces = st.sampled_from(
    [
        *[
            "select",
            "FROM",
            '"Users"',
            "users",
            "$1",
            "=",
            "<-",
            "(",
            ")",
            ",",
            "::",
            "é",
            'U&"x"',
            "n",
            "N'x'",
        ],
        *[
            "'a'",
            "'b''c'",
            "E'\\''",
            "$$a$$",
            "1",
            "23",
            "1.5",
            "99999999999",
            "B'1'",
            "X'f'",
            "U&'x'",
        ],
    ]
)
blanks = st.sampled_from([" ", "\n", "\t", " -- c\n", "/* ' */", " /* /* */ */ "])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(pieces, blanks, blanks), max_size=12))
def test_template_forgets_blanks_and_comments(parts: list[tuple[str, str, str]]) -> None:
    # A blank keeps adjacent strings apart; a newline among blanks would join them.
    one = " , ".join(piece for piece, _, _ in parts)
    other = "".join(f"{piece}{first},{second}" for piece, first, second in parts)
    other = other.rstrip() if not parts else other[: other.rindex(",")]
    assert _native.template(one.encode()) == _native.template(other.encode())


@settings(max_examples=200, deadline=None)
@given(st.lists(pieces, max_size=12), st.lists(pieces, max_size=12))
def test_template_tells_everything_but_literals_apart(left: list[str], right: list[str]) -> None:
    def shape(parts: list[str]) -> list[tuple[int, bytes]]:
        sql = " , ".join(parts).encode()
        return [
            (token.kind, b"" if token.kind in LITERALS else sql[token.start : token.end])
            for token in _native.tokens(sql)
        ]

    same = _native.template(" , ".join(left).encode()) == _native.template(
        " , ".join(right).encode()
    )
    assert same == (shape(left) == shape(right))


def test_template_blanks_values_and_keeps_their_kinds() -> None:
    assert _native.template(b"select 1, 'a'") == _native.template(b"select 22,'it''s' -- x")
    assert _native.template(b"select 1") != _native.template(b"select 1.0")
    assert _native.template(b"select 1") != _native.template(b"select 2147483648")
    assert _native.template(b"select 'a'") != _native.template(b"select E'a'")
    assert _native.template(b"select n 'a'") != _native.template(b"select N'a'")
    assert _native.template(b"select a") != _native.template(b"select A")
    assert _native.template(b"select $1") != _native.template(b"select $2")


def test_template_keeps_what_cannot_be_scanned() -> None:
    assert _native.template(b"select 'a") != _native.template(b"select 'b")


def test_edits_replace_and_insert_by_token() -> None:
    sql = "select /* x */ é, email -- mail\nfrom users".encode()
    edits = [Edit(0, 0, b"/* front */ "), Edit(3, 4, b" null "), Edit(6, 6, b" s")]
    expected = "/* front */ select /* x */ é,  null  -- mail\nfrom users s".encode()
    assert _native.apply_edits(sql, edits) == expected


def test_insertion_before_a_line_comment_stays_outside_it() -> None:
    assert (
        _native.apply_edits(b"select 1 -- x", [Edit(2, 2, b"\nlimit 1")])
        == b"select 1\nlimit 1 -- x"
    )


@pytest.mark.parametrize(
    "edits",
    [
        [Edit(1, 0, b"x")],
        [Edit(0, 5, b"x")],
        [Edit(5, 5, b"x")],
        [Edit(0, 2, b"x"), Edit(1, 2, b"x")],
        [Edit(2, 2, b"x"), Edit(0, 1, b"x")],
    ],
)
def test_edits_that_do_not_fit_are_refused(edits: list[Edit]) -> None:
    with pytest.raises(ValueError, match="edit"):
        _native.apply_edits(b"select a from t", edits)


def test_edits_of_text_that_cannot_be_scanned_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be scanned"):
        _native.apply_edits(b"select 'a", [Edit(1, 2, b"x")])


@settings(max_examples=200, deadline=None)
@given(st.lists(pieces, min_size=1, max_size=10), st.data())
def test_edits_change_only_what_they_name(parts: list[str], data: st.DataObject) -> None:
    sql = " , ".join(parts).encode()
    tokens = _native.tokens(sql)
    bounds = sorted(data.draw(st.lists(st.integers(0, len(tokens)), min_size=2, max_size=6)))
    ranges = list(zip(bounds[::2], bounds[1::2], strict=False))
    edited = _native.apply_edits(sql, [Edit(start, end, b" edited ") for start, end in ranges])
    expected: list[bytes] = []
    for number, token in enumerate(tokens):
        expected += [b"edited" for start, _ in ranges if start == number]
        if not any(start <= number < end for start, end in ranges):
            expected.append(sql[token.start : token.end])
    expected += [b"edited" for start, _ in ranges if start == len(tokens)]
    assert [edited[t.start : t.end] for t in _native.tokens(edited)] == expected
