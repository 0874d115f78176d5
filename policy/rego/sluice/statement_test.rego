package sluice.statement_test

import data.sluice.fixtures_test as f

plain := [f.column("id", null, "read")]

reader(fields) := f.policy({"name": "shop/reader", "rules": [object.union({"name": "r", "effect": "allow"}, fields)]})

denier(fields) := f.policy({"name": "shop/denier", "rules": [object.union({"name": "no", "effect": "deny"}, fields)]})

ask(policies, kind, actions, tables) := f.decide(f.shop, policies, f.doing(f.shape(kind, actions, tables)))

# Matching: fields AND, items OR, omitted matches any; what is written down is what one rule allows.
matching := {
	"everything omitted": {"rule": {}, "allow": true},
	"the action": {"rule": {"actions": ["insert", "select"]}, "allow": true},
	"another action": {"rule": {"actions": ["insert"]}, "allow": false},
	"the table": {"rule": {"tables": ["x.y", "public.users"]}, "allow": true},
	"the table by pattern": {"rule": {"tables": ["public.*"]}, "allow": true},
	"the table by its end": {"rule": {"tables": ["*.users"]}, "allow": true},
	"the table by two stars": {"rule": {"tables": ["pub*.us*rs"]}, "allow": true},
	"all tables": {"rule": {"tables": ["*"]}, "allow": true},
	"another table": {"rule": {"tables": ["public.user", "public.users2", "audit.*"]}, "allow": false},
	"a pattern too long": {"rule": {"tables": ["public.users*users"]}, "allow": false},
	"signs of other pattern languages": {"rule": {"tables": ["public.[u]sers", "public.{users}", "*.?ser*"]}, "allow": false},
	"the class": {"rule": {"classes": ["pci", "pii.email"]}, "allow": true},
	"the class above": {"rule": {"classes": ["pii"]}, "allow": true},
	"all classes": {"rule": {"classes": ["*"]}, "allow": true},
	"a class below": {"rule": {"classes": ["pii.email.work"]}, "allow": false},
	"another class": {"rule": {"classes": ["pci"]}, "allow": false},
	"a class that begins alike": {"rule": {"classes": ["pi"]}, "allow": false},
	"all but the class": {"rule": {"actions": ["select"], "tables": ["public.*"], "classes": ["pci"]}, "allow": false},
	"all but the table": {"rule": {"actions": ["select"], "tables": ["audit.*"], "classes": ["pii"]}, "allow": false},
	"all of them": {"rule": {"actions": ["select"], "tables": ["public.*"], "classes": ["pii"]}, "allow": true},
}

test_allow_matching[name] if {
	some name, case in matching
	f.decide(f.shop, [reader(case.rule)], f.base).allow == case.allow
}

test_deny_matching[name] if {
	some name, case in matching
	f.decide(f.shop, [f.steward, denier(case.rule)], f.base).allow != case.allow
}

test_deny_wins_and_names_policy_and_rule if {
	decision := f.decide(f.shop, [f.steward, denier({"actions": ["select"]})], f.base)
	not decision.allow
	decision.policies == ["shop/denier", "shop/steward"]
	decision.reasons == [{
		"policy": "shop/denier", "rule": "no", "effect": "deny",
		"message": "Denied by rule no of policy shop/denier.",
	}]
}

test_allow_names_policy_and_rule if {
	decision := f.decide(f.shop, [f.steward], f.base)
	decision.reasons == [{
		"policy": "shop/steward", "rule": "all", "effect": "allow",
		"message": "Allowed by rule all of policy shop/steward.",
	}]
	decision.revision == "r1"
	decision.sequence == 7
	decision.valid_until == null
}

users_write := f.table("public.users", "write", [f.column("email", "pii.email", "write")])

users_both := f.table("public.users", "readwrite", [
	f.column("email", "pii.email", "write"),
	f.column("ssn", "pii.ssn", "read"),
])

orders_read := f.table("public.orders", "read", plain)

# What a statement needs: every table its actions, every class that is read.
needs := {
	"write needs no class": {"actions": ["update"], "tables": [users_write], "rules": [{"actions": ["update"], "classes": ["pci"]}], "allow": true},
	"read in a write needs its class": {"actions": ["update"], "tables": [users_both], "rules": [{"actions": ["update"], "classes": ["pii.email"]}], "allow": false},
	"its class is admitted": {"actions": ["update"], "tables": [users_both], "rules": [{"actions": ["update"], "classes": ["pii.ssn"]}], "allow": true},
	"a table that is only read needs select": {"actions": ["update"], "tables": [users_write, orders_read], "rules": [{"actions": ["update"]}], "allow": false},
	"two rules together": {
		"actions": ["insert", "select"], "tables": [users_write, orders_read], "rules": [
			{"actions": ["insert"], "tables": ["public.users"]},
			{"actions": ["select"], "tables": ["public.orders"]},
		],
		"allow": true,
	},
	"two rules crossed": {
		"actions": ["insert", "select"], "tables": [users_write, orders_read], "rules": [
			{"actions": ["select"], "tables": ["public.users"]},
			{"actions": ["insert"], "tables": ["public.orders"]},
		],
		"allow": false,
	},
	"reading the target needs select when it is listed": {"actions": ["insert", "select"], "tables": [users_both], "rules": [{"actions": ["insert"]}], "allow": false},
	"copy out of a table": {"actions": ["copyOut"], "tables": [orders_read], "rules": [{"actions": ["copyOut"]}], "allow": true},
	"copy out of a query needs both": {"actions": ["copyOut", "select"], "tables": [orders_read], "rules": [{"actions": ["copyOut"]}], "allow": false},
	"explain needs explain": {"actions": ["explain", "select"], "tables": [orders_read], "rules": [{"actions": ["select"]}], "allow": false},
	"explain needs what it explains": {"actions": ["explain"], "tables": [orders_read], "rules": [{"actions": ["explain"]}], "allow": false},
	"explain and select": {"actions": ["explain", "select"], "tables": [orders_read], "rules": [{"actions": ["explain", "select"]}], "allow": true},
	"ddl pattern": {"actions": ["ddl.alter"], "tables": [users_write], "rules": [{"actions": ["ddl.*"]}], "allow": true},
	"another ddl": {"actions": ["ddl.alter"], "tables": [users_write], "rules": [{"actions": ["ddl.create"]}], "allow": false},
	"ddl of no table yet": {"actions": ["ddl.create"], "tables": [], "rules": [{"actions": ["ddl.create"]}], "allow": true},
	"ddl of no table yet, rule for tables": {"actions": ["ddl.create"], "tables": [], "rules": [{"actions": ["ddl.create"], "tables": ["public.*"]}], "allow": false},
	"create table as": {"actions": ["ddl.create", "select"], "tables": [orders_read], "rules": [{"actions": ["select"]}], "allow": false},
	"call": {"actions": ["call"], "tables": [], "rules": [{"actions": ["call"]}], "allow": true},
	"call not allowed": {"actions": ["call"], "tables": [], "rules": [{"actions": ["select"]}], "allow": false},
	"call that reads": {"actions": ["call", "select"], "tables": [orders_read], "rules": [{"actions": ["call"]}, {"actions": ["select"]}], "allow": true},
	"listen not allowed": {"actions": ["listen"], "tables": [], "rules": [{"actions": ["select", "session"]}], "allow": false},
	"session by any allow rule": {"actions": ["session"], "tables": [], "rules": [{"actions": ["insert"], "tables": ["public.orders"]}], "allow": true},
	"select without relations by any allow rule": {"actions": ["select"], "tables": [], "rules": [{"actions": ["insert"], "tables": ["a.b"]}], "allow": true},
	"session words on a table": {"actions": ["session"], "tables": [users_write], "rules": [{"actions": ["select"]}], "allow": false},
	"unknown action under a rule for all": {"actions": ["vacuum"], "tables": [users_write], "rules": [{}], "allow": false},
	"unknown action without table": {"actions": ["vacuum"], "tables": [], "rules": [{}], "allow": false},
	"a name with two dots, schema pattern": {"actions": ["select"], "tables": [f.table("public.a.b", "read", plain)], "rules": [{"tables": ["public.*"]}], "allow": false},
	"a name with two dots, all tables": {"actions": ["select"], "tables": [f.table("public.a.b", "read", plain)], "rules": [{"tables": ["*.*"]}], "allow": true},
	"unreviewed comes with the table": {"actions": ["select"], "tables": [f.table("public.users", "read", [f.column("new", "unreviewed", "read")])], "rules": [{"classes": ["pci"]}], "allow": true},
}

test_needs[name] if {
	some name, case in needs
	rules := [object.union({"name": sprintf("r%d", [i]), "effect": "allow"}, rule) | some i, rule in case.rules]
	decision := ask([f.policy({"rules": rules})], "x", case.actions, case.tables)
	decision.allow == case.allow
	count(decision.reasons) > 0
}

# What a deny rule speaks of.
denials := {
	"written class": {"actions": ["update"], "tables": [users_write], "rule": {"classes": ["pii"]}, "denied": true},
	"action on another table": {"actions": ["insert", "select"], "tables": [users_write, orders_read], "rule": {"actions": ["insert"], "tables": ["public.orders"]}, "denied": false},
	"select nobody wrote": {"actions": ["update"], "tables": [users_write, orders_read], "rule": {"actions": ["select"]}, "denied": true},
	"class of another table": {"actions": ["select"], "tables": [orders_read, users_both], "rule": {"tables": ["public.orders"], "classes": ["pii"]}, "denied": false},
	"session words": {"actions": ["session"], "tables": [], "rule": {"actions": ["session"]}, "denied": true},
	"call that reads the table": {"actions": ["call", "select"], "tables": [orders_read], "rule": {"actions": ["call"], "tables": ["public.orders"]}, "denied": true},
	"name with two dots": {"actions": ["select"], "tables": [f.table("public.a.b", "read", plain)], "rule": {"tables": ["public.a*"]}, "denied": true},
	"ddl pattern": {"actions": ["ddl.drop"], "tables": [], "rule": {"actions": ["ddl.*"]}, "denied": true},
	"unreviewed by name": {"actions": ["select"], "tables": [f.table("a.b", "read", [f.column("new", "unreviewed", "read")])], "rule": {"classes": ["unreviewed"]}, "denied": true},
	"unreviewed by a class": {"actions": ["select"], "tables": [f.table("a.b", "read", [f.column("new", "unreviewed", "read")])], "rule": {"classes": ["pii"]}, "denied": false},
}

test_denials[name] if {
	some name, case in denials
	ask([f.steward, denier(case.rule)], "x", case.actions, case.tables).allow != case.denied
}

# Messages of the default denial.
only_message(decision, part) if {
	not decision.allow
	count(decision.reasons) == 1
	decision.reasons[0].policy == null
	contains(decision.reasons[0].message, part)
}

test_missing_action_is_named if {
	decision := ask([reader({"actions": ["select"]})], "delete", ["delete"], [users_write])
	only_message(decision, "No allow rule of policy shop/reader covers delete on table public.users; add the action")
}

test_missing_class_is_named if {
	decision := f.decide(f.shop, [reader({"classes": ["pci"]})], f.base)
	only_message(decision, "policy shop/reader admits class pii.email for select on table public.users; add the class")
}

test_missing_statement_action_is_named if {
	only_message(ask([reader({"actions": ["select"]})], "call", ["call"], []), "shop/reader covers call; add")
}

test_unknown_action_is_named if {
	only_message(ask([reader({})], "x", ["vacuum"], []), "The action vacuum is not known to this policy bundle.")
}

test_many_policies_are_not_all_listed if {
	policies := [object.union(reader({"actions": ["insert"]}), {"name": sprintf("shop/p%d", [i])}) | some i in numbers.range(1, 5)]
	only_message(f.decide(f.shop, policies, f.base), "of any of the policies shop/p1, shop/p2, shop/p3 and 2 more covers")
	only_message(f.decide(f.shop, array.slice(policies, 0, 2), f.base), "of any of the policies shop/p1, shop/p2 covers")
}

test_no_policy_denies_statements_too if {
	only_message(f.decide(f.shop, [], f.base), "No policy in force allows service account support/desk")
	only_message(f.decide({"state": "denied"}, [f.steward], f.base), "closed to everybody")
}

test_statements_to_what_the_bundle_does_not_name_are_refused if {
	question := object.union(f.base, {"session": {"database": "shop/other", "role": "app", "search_path": []}})
	only_message(f.decide(f.shop, [f.steward], question), "admits namespace support to database shop/other")
}

# Guardrails.
guarded(guardrails) := object.union(f.steward, {"guardrails": guardrails})

test_guardrails[name] if {
	some name, case in {
		"unfilteredWrites": {"guardrails": {"unfiltered_writes": "deny"}, "actions": ["delete"]},
		"drop": {"guardrails": {"drop": "deny"}, "actions": ["ddl.drop"]},
		"truncate": {"guardrails": {"truncate": "deny"}, "actions": ["truncate"]},
	}
	statement := object.union(f.shape("x", case.actions, [users_write]), {"unfiltered_write": true})
	f.decide(f.shop, [f.steward], f.doing(statement)).allow
	decision := f.decide(f.shop, [guarded(case.guardrails)], f.doing(statement))
	not decision.allow
	decision.reasons[0].policy == "shop/steward"
	decision.reasons[0].rule == sprintf("guardrails.%s", [name])
	f.decide(f.shop, [guarded(case.guardrails)], f.base).allow
}

# Limits take the minimum of what speaks of the statement.
test_limits_take_the_minimum if {
	rules := [
		{"name": "a", "effect": "allow", "limits": {"rows_per_statement": 100}},
		{"name": "b", "effect": "allow", "actions": ["select"], "limits": {"rows_per_statement": 70, "statement_seconds": 9}},
		{"name": "c", "effect": "allow", "actions": ["insert"], "limits": {"rows_per_statement": 1}},
		{"name": "d", "effect": "deny", "actions": ["delete"], "limits": {"rows_per_statement": 2}},
	]
	policies := [f.policy({"rules": rules})]
	f.decide(f.shop, policies, f.base).limits == {"rows_per_statement": 70, "statement_seconds": 9}
	with_export := array.concat(policies, [f.policy({"name": "shop/q", "guardrails": {"bulk_export": {"rows": 50}}})])
	f.decide(f.shop, with_export, f.base).limits == {"rows_per_statement": 50, "statement_seconds": 9}
	ask(policies, "begin", ["session"], []).limits == {"rows_per_statement": 1, "statement_seconds": 9}
}

test_a_denied_statement_has_no_limits if {
	decision := f.decide(f.shop, [f.support], f.doing(f.shape("delete", ["delete"], [users_write])))
	decision.limits == {"rows_per_statement": null, "statement_seconds": null}
}

# Write oracles: the defaults, and who may change them.
suspicious(oracles) := f.doing(object.union(f.shape("update", ["update"], [users_write]), {"write_oracles": oracles}))

spelling(values) := object.union(f.steward, {"write_oracles": values})

test_write_oracles[name] if {
	some name, case in {
		"keys by default": {"policies": [f.steward], "asked": ["keys"], "allow": true},
		"row values by default": {"policies": [f.steward], "asked": ["rowValues"], "allow": false},
		"keys denied": {"policies": [spelling({"keys": "deny"})], "asked": ["keys"], "allow": false},
		"row values accepted": {"policies": [spelling({"row_values": "accept"})], "asked": ["keys", "rowValues"], "allow": true},
		"accepted by a policy that only restricts": {
			"policies": [f.steward, f.policy({"write_oracles": {"row_values": "accept"}})],
			"asked": ["rowValues"], "allow": false,
		},
		"accepted and denied": {
			"policies": [spelling({"row_values": "accept"}), f.policy({"write_oracles": {"row_values": "deny"}})],
			"asked": ["rowValues"], "allow": false,
		},
	}
	decision := f.decide(f.shop, case.policies, suspicious(case.asked))
	decision.allow == case.allow
}

test_write_oracle_denial_names_field if {
	f.decide(f.shop, [f.steward], suspicious(["rowValues"])).reasons[0].rule == "writeOracles.rowValues"
	decision := f.decide(f.shop, [spelling({"row_values": "deny", "keys": "deny"})], suspicious(["rowValues", "keys"]))
	f.rule_names(decision) == {"writeOracles.keys", "writeOracles.rowValues"}
}

# Modes: beside the decision, never in it.
in_mode(policy, mode) := object.union(policy, {"mode": mode})

test_warn_and_audit_change_nothing_but_the_record if {
	alone := f.decide(f.shop, [f.steward], f.base)
	warned := f.decide(f.shop, [f.steward, in_mode(denier({}), "warn")], f.base)
	audited := f.decide(f.shop, [f.steward, in_mode(denier({}), "audit")], f.base)
	changed := {"warnings", "would"}
	object.remove(warned, changed) == object.remove(alone, changed)
	object.remove(audited, changed) == object.remove(alone, changed)
	warned.warnings == warned.would
	warned.would[0].policy == "shop/denier"
	audited.warnings == []
	audited.would == warned.would
}

test_warn_and_audit_do_not_allow[mode] if {
	some mode in ["warn", "audit"]
	not f.decide(f.shop, [in_mode(f.steward, mode), reader({"actions": ["insert"]})], f.base).allow
}

test_observe_allows_and_records if {
	observing := object.union(f.shop, {"enforcement": "observe"})
	denied := f.decide(observing, [f.steward, denier({})], f.base)
	denied.allow
	denied.would[0].rule == "no"
	denied.warnings == []
	denied.reasons[0].message == "Database shop/shop is observed only; otherwise the statement would be denied."
	fine := f.decide(observing, [f.steward], f.base)
	fine.would == []
	fine.reasons[0].rule == "all"
	without := f.decide(observing, [], f.base)
	without.allow
	contains(without.would[0].message, "write a DatabaseAccessPolicy")
}

# What is not in the form of the contract is denied.
test_malformed_statement_is_denied[name] if {
	some name, statement in {
		"no action": f.shape("x", [], []),
		"tables missing": object.remove(f.select_email, ["tables"]),
		"strange access": f.shape("x", ["select"], [{"name": "a.b", "access": "all", "columns": [], "classes": []}]),
		"class not a string": f.shape("x", ["select"], [f.table("a.b", "read", [f.column("c", 5, "write")])]),
		"unknown oracle": object.union(f.select_email, {"write_oracles": ["other"]}),
	}
	decision := f.decide(f.shop, [f.steward], object.union(object.remove(f.base, ["statement"]), {"statement": statement}))
	not decision.allow
	contains(decision.reasons[0].message, "not in the form of contract 1")
}

# Classes are taken from columns too, should the list forget them.
test_classes_of_columns_count if {
	forgetful := object.union(f.table("public.users", "read", [f.column("ssn", "pii.ssn", "read")]), {"classes": []})
	not ask([reader({"classes": ["pii.email"]})], "select", ["select"], [forgetful]).allow
}
