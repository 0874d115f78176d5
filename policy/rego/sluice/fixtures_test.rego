# What the tests of this library share: one invented shop, and small makers of documents.
package sluice.fixtures_test

import data.sluice.session
import data.sluice.statement

bundles := {"sluice": {"manifest": {"revision": "r1", "metadata": {"sequence": 7}}}}

# Monday 2026-11-23 10:00 UTC, 11:00 in Berlin.
monday_ten_ns := 1795428000000000000

hour_ns := 3600000000000

columns := [
	{"table": "public.users", "column": "email", "class": "pii.email"},
	{"table": "*.*", "column": "*ssn*", "class": "pii.ssn"},
	{"table": "public.cards", "column": "pan", "class": "pci.pan"},
	{"table": "public.orders", "column": "*", "class": "public"},
]

shop := {
	"state": "active", "enforcement": "enforce", "allowed": true,
	"columns": columns, "unreviewed": "mask", "trusted": {"functions": [], "channels": []},
}

documents(database, policies) := {
	"contract": 1, "profile": "p",
	"databases": {"shop/shop": database},
	"policies": policies,
}

policy(changes) := object.union(
	{
		"name": "shop/p", "mode": "enforce", "databases": ["shop/shop"],
		"rules": [], "masks": [], "row_filters": [], "guardrails": {}, "write_oracles": {},
	},
	changes,
)

allow_all := {"name": "all", "effect": "allow"}

show_all := [{"class": "*", "mask": {"kind": "none"}}]

steward := policy({"name": "shop/steward", "rules": [allow_all], "masks": show_all})

# The policy of the design's example.
support := policy({
	"name": "shop/support",
	"subjects": [{"workload": {"namespaces": ["support"], "service_accounts": ["desk"], "pod_labels": {"team": "support"}}}],
	"rules": [{
		"name": "read", "effect": "allow", "actions": ["select"], "tables": ["public.*"], "classes": ["pii"],
		"limits": {"rows_per_statement": 1000, "statement_seconds": 30}, "when": office,
	}],
	"masks": [
		{"class": "pii.email", "mask": {"kind": "email"}},
		{"class": "pii.ssn", "mask": {"kind": "last", "count": 4}},
		{"class": "pii", "mask": {"kind": "redact"}},
	],
	"row_filters": [{"table": "public.orders", "parts": ["(", {"column": "region"}, " OPERATOR(pg_catalog.=) 'eu')"]}],
	"guardrails": {
		"unfiltered_writes": "deny", "drop": "deny", "truncate": "deny",
		"bulk_export": {"rows": 10000},
	},
	"write_oracles": {"keys": "accept", "row_values": "deny"},
})

office := {
	"text": "Mon-Fri 08:00-18:00", "time_zone": "Europe/Berlin",
	"windows": [{"days": [1, 2, 3, 4, 5], "from": 480, "to": 1080}],
}

workload := {
	"namespace": "support", "service_account": "desk", "pod": null,
	"labels": {"team": "support"}, "assurance": "verified",
}

ann := {"name": "ann", "kind": "human", "groups": ["support"], "assurance": "verified"}

robot := {"name": "helper", "kind": "agent", "groups": ["tools"], "assurance": "verified"}

base := {
	"contract": 1,
	"identity": {"workload": workload, "actor": null},
	"clock": {"now_ns": monday_ten_ns, "trusted": true},
	"session": {"database": "shop/shop", "role": "app", "search_path": ["public"]},
	"statement": select_email,
}

at(ns, trusted) := object.union(base, {"clock": {"now_ns": ns, "trusted": trusted}})

as_actor(actor) := object.union(base, {"identity": {"workload": workload, "actor": actor}})

doing(parts) := object.union(base, {"statement": parts})

shape(kind, actions, tables) := {
	"kind": kind, "actions": actions, "tables": tables, "functions": [],
	"unfiltered_write": false, "limit": null, "write_oracles": [],
}

column(name, class, access) := {"name": name, "class": class, "access": access}

table(name, access, listed) := {
	"name": name, "access": access, "columns": listed,
	"classes": sort({class | some {"class": class, "access": "read"} in listed; class != null}),
}

select_email := shape("select", ["select"], [table(
	"public.users", "read",
	[column("id", null, "read"), column("email", "pii.email", "read")],
)])

select_orders := shape("select", ["select"], [table("public.orders", "read", [column("id", null, "read")])])

decide_session(database, policies, question) := got if {
	got := session.decision with input as question
		with data.sluice_data as documents(database, policies)
		with data.system.bundles as bundles
}

decide(database, policies, question) := got if {
	got := statement.decision with input as question
		with data.sluice_data as documents(database, policies)
		with data.system.bundles as bundles
}

rule_names(decision) := {reason.rule | some reason in decision.reasons}
