"""What Events say to whoever reads `kubectl describe`."""

from __future__ import annotations

import pytest

from sluice_operator.reconcile.model import Denial
from sluice_operator.reconcile.notes import denial_note


@pytest.mark.parametrize(
    ("policy", "rule", "told"),
    [
        ("shop/app", "read", "database shop/shop: It is denied. (policy shop/app, rule read)"),
        ("shop/app", "", "database shop/shop: It is denied. (policy shop/app)"),
        ("", "", "database shop/shop: It is denied."),
    ],
)
def test_denial_names_policy_and_rule_where_one_denied_it(policy, rule, told):
    denial = Denial(
        number=1,
        namespace="support",
        pod="desk-0",
        database="shop/shop",
        policy=policy,
        rule=rule,
        message="It is denied.",
        count=3,
    )
    note = denial_note(denial, {("support", "desk-0"): "uid"})
    assert note is not None
    assert note.note == told
    assert denial_note(denial, {}) is None
