"""The table of masks: its published order, its parameters, its types."""

import json
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_crds.masks import KINDS, MaskSpec, parse_mask, strictness

REGO = Path(__file__).parents[2] / "policy" / "rego" / "sluice"

PUBLISHED = [
    {"kind": "null"},
    {"kind": "redact"},
    {"kind": "hash"},
    {"kind": "year"},
    {"kind": "first", "count": 1},
    {"kind": "partial", "first": 1, "last": 1},
    {"kind": "last", "count": 4},
    {"kind": "email"},
    {"kind": "expression", "parts": ["(1)"], "rank": "expression"},
    {"kind": "none"},
]


def test_order_is_the_published_one():
    for stricter, laxer in pairwise(PUBLISHED):
        assert strictness(stricter) > strictness(laxer)


def test_fewer_shown_is_stricter():
    assert strictness({"kind": "last", "count": 2}) > strictness({"kind": "last", "count": 4})
    assert strictness({"kind": "last", "count": 2}) > strictness({"kind": "first", "count": 3})
    assert strictness({"kind": "bucket", "size": 1000}) > strictness({"kind": "bucket", "size": 10})


def test_expression_never_ranks_above_email():
    expression = {"kind": "expression", "parts": ["(1)"], "rank": "email"}
    assert strictness({"kind": "email"}) > strictness(expression) > strictness({"kind": "none"})


@pytest.mark.parametrize(
    "written",
    ["null", "redact", "hash", "year", "email", "none", {"first": 1}, {"last": 4},
     {"partial": {"first": 1, "last": 4}}, {"bucket": 1000}, {"bucket": 0.5},
     {"expression": "left(value, 1)", "rank": "email"}],
)  # fmt: skip
def test_written_form_is_read_back(written):
    assert parse_mask(written).written() == written


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (None, "in quotes"),
        ("mail", "unknown mask 'mail'"),
        ("last", "{last: 4}"),
        ("expression", "needs its parameter"),
        (4, "a mask is a name"),
        ([], "a mask is a name"),
        ({}, "exactly one"),
        ({"last": 4, "first": 1}, "exactly one"),
        ({"email": True}, "takes no parameter"),
        ({"last": 0}, "from 1 to"),
        ({"last": True}, "from 1 to"),
        ({"last": "4"}, "from 1 to"),
        ({"last": 65}, "from 1 to"),
        ({"partial": {}}, "first and last"),
        ({"partial": {"first": 0, "last": 0}}, "write redact"),
        ({"partial": {"middle": 1}}, "nothing else"),
        ({"partial": 3}, "takes {first: n, last: n}"),
        ({"bucket": 0}, "above 0"),
        ({"bucket": -5}, "above 0"),
        ({"bucket": "10"}, "above 0"),
        ({"bucket": float("inf")}, "above 0"),
        ({"expression": ""}, "takes SQL text"),
        ({"expression": "x" * 5000}, "takes SQL text"),
        ({"expression": "x", "rank": "redact"}, "never above email"),
        ({"expression": "x", "mask": "redact"}, "nothing else"),
        ({"scramble": 1}, "unknown mask"),
    ],
)
def test_malformed_mask_says_what_is_right(written, reason):
    with pytest.raises(ValueError, match=r".+") as caught:
        parse_mask(written)
    assert reason in str(caught.value)


def test_types_follow_the_table():
    assert KINDS["email"].applies("pg_catalog.varchar")
    assert KINDS["email"].applies("extensions.citext")
    assert not KINDS["email"].applies("pg_catalog.int4")
    assert KINDS["year"].applies("pg_catalog.date")
    assert not KINDS["year"].applies("pg_catalog.text")
    assert not KINDS["bucket"].applies("pg_catalog.money")
    assert KINDS["redact"].applies("public.anything")


masks = st.one_of(
    st.sampled_from(["null", "redact", "hash", "year", "email", "none"]).map(
        lambda kind: {"kind": kind}
    ),
    st.builds(
        lambda kind, count: {"kind": kind, "count": count},
        st.sampled_from(["first", "last"]),
        st.integers(1, 5),
    ),
    st.builds(
        lambda first, last: {"kind": "partial", "first": first, "last": last},
        st.integers(0, 4),
        st.integers(1, 4),
    ),
    st.builds(lambda size: {"kind": "bucket", "size": size}, st.sampled_from([1, 10, 0.5])),
    st.builds(
        lambda parts, rank: {"kind": "expression", "parts": parts, "rank": rank},
        st.lists(
            st.text("(a1\u00e9", max_size=3)
            | st.builds(lambda name: {"column": name}, st.sampled_from("ab")),
            min_size=1,
            max_size=3,
        ),
        st.sampled_from(["email", "expression"]),
    ),
)


@given(masks, masks)
def test_order_is_total(left, right):
    assert (strictness(left) == strictness(right)) == (left == right)


@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(masks, min_size=12, max_size=40))
def test_rego_library_orders_masks_alike(opa, several):
    """One process judges every pair; equal masks are equal there too."""
    pairs = [[left, right] for left in several for right in several]
    program = "x := [y | some p in input; y := data.sluice.masks.strictest({p[0], p[1]})]"
    done = subprocess.run(
        [opa, "eval", "--data", REGO / "masks.rego", "--data", REGO / "classes.rego", "--data",
         REGO / "scope.rego", "--stdin-input", "--format=json", program],
        input=json.dumps(pairs), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    answers = json.loads(done.stdout)["result"][0]["bindings"]["x"]
    assert answers == [max(pair, key=strictness) for pair in pairs]


def test_contract_form_of_an_expression_needs_its_parts():
    with pytest.raises(ValueError, match="compiled parts"):
        MaskSpec("expression", expression="1", rank="email").contract()
