package sluice.masks_test

import data.sluice.fixtures_test as f
import data.sluice.masks

# The published order, the strictest first.
published := [
	{"kind": "null"}, {"kind": "redact"}, {"kind": "hash"},
	{"kind": "bucket", "size": 100}, {"kind": "bucket", "size": 10}, {"kind": "year"},
	{"kind": "partial", "first": 0, "last": 0},
	{"kind": "first", "count": 2}, {"kind": "last", "count": 2}, {"kind": "partial", "first": 1, "last": 1},
	{"kind": "first", "count": 3},
	{"kind": "email"}, {"kind": "expression", "rank": "email", "parts": ["a"]},
	{"kind": "expression", "rank": "expression", "parts": ["a"]},
	{"kind": "expression", "rank": "expression", "parts": ["b"]},
	{"kind": "none"},
]

test_order_is_published_and_total if {
	every i, mask in published {
		every j, other in published {
			masks.strictest({mask, other}) == published[min({i, j})]
		}
	}
}

test_expression_never_ranks_above_email if {
	boast := {"kind": "expression", "rank": "null", "parts": ["a"]}
	masks.strictest({boast, {"kind": "email"}}) == {"kind": "email"}
	unknown := {"kind": "expression", "rank": "dazzling", "parts": ["a"]}
	masks.strictest({unknown, {"kind": "none"}}) == unknown
	masks.rank(unknown) == masks.ranks.expression
}

masks_of(policies) := f.decide_session(f.shop, policies, f.base).masks

says(class, mask) := {"class": class, "mask": {"kind": mask}}

reader(entries) := f.policy({"name": "shop/reader", "rules": [f.allow_all], "masks": entries})

test_most_specific_class_wins_within_a_policy if {
	got := masks_of([reader([says("*", "hash"), says("pii.email", "none"), says("pii", "null")])])
	got == {
		"pii.email": {"kind": "none"}, "pii.ssn": {"kind": "null"},
		"pci.pan": {"kind": "hash"}, "unreviewed": {"kind": "hash"},
	}
}

test_strictest_of_equals_within_a_policy if {
	masks_of([reader([says("pii", "none"), says("pii", "hash"), says("*", "none")])])["pii.email"] == {"kind": "hash"}
}

test_strictest_across_policies if {
	other := f.policy({"masks": [says("pii", "hash")]})
	got := masks_of([reader([says("*", "none")]), other])
	got["pii.email"] == {"kind": "hash"}
	got["pci.pan"] == {"kind": "none"}
}

test_admitting_without_a_mask_is_redact if {
	other := f.policy({"rules": [{"name": "r", "effect": "allow", "classes": ["pii"]}]})
	got := masks_of([reader([says("*", "none")]), other])
	got["pii.email"] == {"kind": "redact"}
	got["pci.pan"] == {"kind": "none"}
	got.unreviewed == {"kind": "redact"}
}

test_none_of_a_policy_that_only_restricts_shows_nothing if {
	got := masks_of([reader([]), f.policy({"masks": [says("*", "none")]})])
	every _, mask in got {
		mask == {"kind": "redact"}
	}
}

test_unreviewed_is_covered_by_star_and_its_name_only if {
	masks_of([reader([says("unreviewed", "none")])]).unreviewed == {"kind": "none"}
	masks_of([reader([says("*", "none")])]).unreviewed == {"kind": "none"}
	masks_of([reader([says("pii", "none"), says("pci", "none")])]).unreviewed == {"kind": "redact"}
}

test_denied_class_is_listed_redacted if {
	no := f.policy({"rules": [{"name": "no", "effect": "deny", "classes": ["pci"]}]})
	masks_of([f.steward, no])["pci.pan"] == {"kind": "redact"}
	masks_of([f.steward, no])["pii.ssn"] == {"kind": "none"}
}

test_stricter_than_redact_stays_for_a_denied_class if {
	no := f.policy({
		"rules": [{"name": "no", "effect": "deny", "classes": ["pci"]}],
		"masks": [says("pci", "null")],
	})
	masks_of([f.steward, no])["pci.pan"] == {"kind": "null"}
}

test_a_name_covers_what_is_below_not_beside if {
	database := object.union(f.shop, {"columns": [
		{"table": "public.a", "column": "x", "class": "pii"},
		{"table": "public.a", "column": "y", "class": "pii2"},
		{"table": "public.a", "column": "z", "class": "pii.a.b"},
	]})
	got := f.decide_session(database, [reader([says("pii.a", "none"), says("pii", "hash")])], f.base).masks
	got == {
		"pii": {"kind": "hash"}, "pii2": {"kind": "redact"},
		"pii.a.b": {"kind": "none"}, "unreviewed": {"kind": "redact"},
	}
}
