package sluice.session_test

import data.sluice.fixtures_test as f

# The truth table of levels.
levels := {
	"everything allowed, every mask none": {"policies": [f.steward], "level": "open"},
	"the design's example": {"policies": [f.support], "level": "restricted"},
	"a limit": {
		"policies": [steward_with({"rules": [object.union(f.allow_all, {"limits": {"statement_seconds": 30}})]})],
		"level": "guarded",
	},
	"a guardrail": {"policies": [steward_with({"guardrails": {"drop": "deny"}})], "level": "guarded"},
	"only reading allowed": {
		"policies": [steward_with({"rules": [{"name": "r", "effect": "allow", "actions": ["select"]}]})],
		"level": "guarded",
	},
	"every action spelled": {
		"policies": [steward_with({"rules": [{"name": "r", "effect": "allow", "tables": ["*.*"], "actions": [
			"select", "insert", "update", "delete", "merge", "truncate", "copyIn", "copyOut",
			"call", "explain", "ddl.*", "listen", "session",
		]}]})],
		"level": "open",
	},
	"a mask": {
		"policies": [f.steward, f.policy({"masks": [{"class": "pci", "mask": {"kind": "hash"}}]})],
		"level": "restricted",
	},
	"a row filter": {
		"policies": [f.steward, f.policy({"row_filters": [{"table": "public.orders", "parts": ["(false)"]}]})],
		"level": "restricted",
	},
	"a table nobody may read": {
		"policies": [f.steward, denying({"tables": ["public.cards"]})],
		"level": "restricted",
	},
	"a class nobody may read": {
		"policies": [f.steward, denying({"classes": ["pci"], "actions": ["select"]})],
		"level": "restricted",
	},
	"a table nobody may read at night": {
		"policies": [f.steward, denying({"tables": ["public.cards"], "when": f.office})],
		"level": "restricted",
	},
	"a table nobody may delete from": {
		"policies": [f.steward, denying({"tables": ["public.cards"], "actions": ["delete"]})],
		"level": "guarded",
	},
	"an action denied": {"policies": [f.steward, denying({"actions": ["copyOut"]})], "level": "guarded"},
	"tables that no rule allows": {
		"policies": [steward_with({"rules": [{"name": "r", "effect": "allow", "tables": ["public.*"]}]})],
		"level": "restricted",
	},
	"classes that no rule admits": {
		"policies": [steward_with({"rules": [{"name": "r", "effect": "allow", "classes": ["pii"]}]})],
		"level": "restricted",
	},
	"classes admitted one by one": {
		"policies": [steward_with({"rules": [
			{"name": "a", "effect": "allow", "classes": ["pii"]},
			{"name": "b", "effect": "allow", "classes": ["pci.pan"]},
		]})],
		"level": "open",
	},
	"everything allowed at office hours": {
		"policies": [steward_with({"rules": [object.union(f.allow_all, {"when": f.office})]})],
		"level": "guarded",
	},
	"a part of it allowed at night too": {
		"policies": [steward_with({"rules": [
			object.union(f.allow_all, {"when": f.office}),
			{"name": "orders", "effect": "allow", "tables": ["public.orders"]},
		]})],
		"level": "restricted",
	},
	"no mask for columns nobody reviewed": {
		"policies": [steward_with({"masks": [
			{"class": "pii", "mask": {"kind": "none"}},
			{"class": "pci", "mask": {"kind": "none"}},
		]})],
		"level": "restricted",
	},
	"a warning policy beside": {
		"policies": [f.steward, object.union(f.support, {"mode": "warn"})],
		"level": "open",
	},
	"an auditing policy beside": {
		"policies": [f.steward, object.union(f.support, {"mode": "audit"})],
		"level": "open",
	},
}

steward_with(changes) := object.union(f.steward, changes)

denying(fields) := f.policy({"rules": [object.union({"name": "no", "effect": "deny"}, fields)]})

test_level[name] if {
	some name, case in levels
	decision := f.decide_session(f.shop, case.policies, f.base)
	decision.allow
	decision.level == case.level
}

# Time changes neither level nor masks.
test_level_at_night[name] if {
	some name, case in levels
	night := f.at(f.monday_ten_ns + (12 * f.hour_ns), true)
	f.decide_session(f.shop, case.policies, night) == f.decide_session(f.shop, case.policies, f.base)
}

test_unreviewed_columns_allowed_leave_the_session_open if {
	relaxed := object.union(f.shop, {"unreviewed": "allow"})
	masks := [{"class": "pii", "mask": {"kind": "none"}}, {"class": "pci", "mask": {"kind": "none"}}]
	f.decide_session(relaxed, [steward_with({"masks": masks})], f.base).level == "open"
}

test_masks_of_the_example if {
	decision := f.decide_session(f.shop, [f.support], f.base)
	decision.masks == {
		"pii.email": {"kind": "email"}, "pii.ssn": {"kind": "last", "count": 4},
		"pci.pan": {"kind": "redact"}, "unreviewed": {"kind": "redact"},
	}
	decision.row_filters == [object.union(f.support.row_filters[0], {"policy": "shop/support"})]
	decision.write_oracles == {"keys": "accept", "row_values": "deny"}
	decision.limits == {"rows_per_statement": 10000, "statement_seconds": null}
	decision.policies == ["shop/support"]
	decision.revision == "r1"
	decision.sequence == 7
}

test_limits_of_every_statement_are_the_sessions if {
	rule := object.union(f.allow_all, {"limits": {"rows_per_statement": 50, "statement_seconds": 2.5}})
	decision := f.decide_session(f.shop, [steward_with({"rules": [rule]}), f.support], f.base)
	decision.limits == {"rows_per_statement": 50, "statement_seconds": 2.5}
}

# Observing changes nothing and denies nothing.
observing := object.union(f.shop, {"enforcement": "observe"})

test_observed_session_is_open if {
	decision := f.decide_session(observing, [f.support], f.base)
	decision.allow
	decision.level == "open"
	decision.enforcement == "observe"
	decision.limits.rows_per_statement == null
	decision.masks["pii.email"] == {"kind": "email"}
}

test_observed_session_tells_what_it_would_have_refused if {
	decision := f.decide_session(observing, [], f.base)
	decision.allow
	decision.level == "open"
	startswith(decision.reasons[0].message, "Observed only, it would have been refused: No policy in force")
}

# Refusals at the door.
refused(decision, part) if {
	not decision.allow
	decision.level == "restricted"
	count(decision.reasons) == 1
	contains(decision.reasons[0].message, part)
}

test_database_without_policy_says_which_to_write if {
	decision := f.decide_session(f.shop, [], f.base)
	refused(decision, "service account support/desk with role app anything in database shop/shop;")
	contains(decision.reasons[0].message, "write a DatabaseAccessPolicy in namespace shop that names database shop")
}

test_no_right_names_what_comes_near[name] if {
	some name, case in {
		"restricting policy": {"policy": f.policy({}), "part": "(policy shop/p has no allow rule)"},
		"warning policy": {
			"policy": object.union(f.steward, {"mode": "warn"}),
			"part": "(policy shop/steward is in mode warn or audit",
		},
		"actor's policy": {
			"policy": object.union(f.steward, {"subjects": [{"actor": {"kinds": ["human"]}}]}),
			"part": "(policy shop/steward, which names an actor, never widens",
		},
		"policy of another database": {"policy": object.union(f.steward, {"databases": ["shop/x"]}), "part": "shop/shop; write"},
	}
	refused(f.decide_session(f.shop, [case.policy], f.as_actor(f.ann)), case.part)
}

test_unknown_database_is_refused if {
	question := object.union(f.base, {"session": {"database": "shop/other", "role": "app", "search_path": []}})
	refused(f.decide_session(f.shop, [f.steward], question), "No DataClassification in force admits namespace support to database shop/other")
}

test_tombstone_denies_even_observed if {
	refused(f.decide_session({"state": "denied"}, [f.steward], f.base), "Database shop/shop is closed to everybody: its")
	refused(f.decide_session({"state": "denied", "reason": "Gone."}, [f.steward], f.base), "everybody: Gone.")
}

test_namespace_not_admitted_is_refused if {
	refused(
		f.decide_session(object.union(f.shop, {"allowed": false}), [f.steward], f.base),
		"does not admit namespace support",
	)
}

test_deny_of_everything_is_said_at_the_door if {
	refused(f.decide_session(f.shop, [f.steward, denying({})], f.base), "Rule no of policy shop/p denies everything")
}

test_malformed_input_is_refused[name] if {
	some name, question in {
		"another contract": object.union(f.base, {"contract": 2}),
		"no clock": object.remove(f.base, ["clock"]),
		"a bare actor": f.as_actor({"name": "ann"}),
		"no input": {},
	}
	refused(f.decide_session(f.shop, [f.steward], question), "not in the form of contract 1")
}
