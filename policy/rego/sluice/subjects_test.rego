# Who is selected: workloads, roles, actors.
package sluice.subjects_test

import data.sluice.fixtures_test as f

for_whom(policy, subjects) := object.union(policy, {"subjects": subjects})

test_subject_matching[name] if {
	some name, case in {
		"namespace": {"subjects": [{"workload": {"namespaces": ["x", "support"]}}], "allow": true},
		"another namespace": {"subjects": [{"workload": {"namespaces": ["x"]}}], "allow": false},
		"service account": {"subjects": [{"workload": {"service_accounts": ["desk"]}}], "allow": true},
		"another service account": {
			"subjects": [{"workload": {"namespaces": ["support"], "service_accounts": ["x"]}}],
			"allow": false,
		},
		"labels": {"subjects": [{"workload": {"pod_labels": {"team": "support"}}}], "allow": true},
		"another label": {"subjects": [{"workload": {"pod_labels": {"team": "support", "tier": "1"}}}], "allow": false},
		"role": {"subjects": [{"role": {"names": ["app"]}}], "allow": true},
		"another role": {
			"subjects": [{"workload": {"namespaces": ["support"]}, "role": {"names": ["admin"]}}],
			"allow": false,
		},
		"entries OR": {"subjects": [{"role": {"names": ["admin"]}}, {"workload": {"namespaces": ["support"]}}], "allow": true},
		"an empty entry": {"subjects": [{}], "allow": true},
	}
	f.decide(f.shop, [for_whom(f.steward, case.subjects)], f.base).allow == case.allow
}

robots := [{"actor": {"kinds": ["agent"]}}]

no_robots := for_whom(f.policy({"rules": [{"name": "no", "effect": "deny", "tables": ["public.users"]}]}), robots)

# An actor whom nobody verified counts as none.
asserted := object.union(f.ann, {"assurance": "asserted"})

test_deny_that_names_an_actor[name] if {
	some name, case in {
		"the actor": {"actor": f.robot, "allow": false},
		"another verified actor": {"actor": f.ann, "allow": true},
		"nobody": {"actor": null, "allow": false},
		"somebody unverified": {"actor": asserted, "allow": false},
	}
	f.decide(f.shop, [f.steward, no_robots], f.as_actor(case.actor)).allow == case.allow
}

test_obligations_that_name_an_actor[name] if {
	some name, case in {
		"the actor": {"actor": f.robot, "mask": "null"},
		"another verified actor": {"actor": f.ann, "mask": "none"},
		"nobody": {"actor": null, "mask": "null"},
		"somebody unverified": {"actor": asserted, "mask": "null"},
	}
	hidden := for_whom(f.policy({"masks": [{"class": "pii", "mask": {"kind": "null"}}]}), robots)
	decision := f.decide_session(f.shop, [f.steward, hidden], f.as_actor(case.actor))
	decision.masks["pii.email"].kind == case.mask
}

reading := {"name": "shop/reading", "rules": [{"name": "read", "effect": "allow", "actions": ["select"]}]}

# The actor's rights are cut out of the workload's.
test_actor_rights_narrow if {
	narrowing := for_whom(f.policy(object.union(reading, {"masks": f.show_all})), robots)
	delete := f.shape("delete", ["delete"], [f.table("public.orders", "write", [])])
	asked := object.union(f.as_actor(f.robot), {"statement": delete})
	f.decide(f.shop, [f.steward], asked).allow
	decision := f.decide(f.shop, [f.steward, narrowing], asked)
	not decision.allow
	contains(decision.reasons[0].message, "of policy shop/reading, which names this actor, covers delete")
	f.decide(f.shop, [f.steward, narrowing], f.as_actor(f.robot)).allow
	f.decide(f.shop, [f.steward, narrowing], object.union(f.base, {"statement": delete})).allow
	f.decide_session(f.shop, [f.steward, narrowing], f.as_actor(f.robot)).level == "guarded"
}

test_actor_rights_never_widen if {
	generous := for_whom(f.steward, [{"actor": {"groups": ["support"]}}, {"actor": {"names": ["ann"]}}])
	narrow := f.policy({"rules": [{"name": "orders", "effect": "allow", "tables": ["public.orders"]}]})
	not f.decide(f.shop, [generous, narrow], f.as_actor(f.ann)).allow
	not f.decide(f.shop, [generous], f.as_actor(f.ann)).allow
	question := object.union(f.as_actor(f.ann), {"statement": f.select_orders})
	f.decide(f.shop, [generous, narrow], question).allow
}

test_an_actors_rights_without_a_mask_redact_for_that_actor_only if {
	maskless := for_whom(f.policy(reading), robots)
	f.decide_session(f.shop, [f.steward, maskless], f.as_actor(f.robot)).masks["pii.email"].kind == "redact"
	f.decide_session(f.shop, [f.steward, maskless], f.base).masks["pii.email"].kind == "none"
}
