# Who asks for what: the database, and the policies that select the identity.
package sluice.scope

import data.sluice_data

manifest := data.system.bundles.sluice.manifest

revision := manifest.revision

sequence := manifest.metadata.sequence

database := sluice_data.databases[input.session.database]

owner_namespace := split(input.session.database, "/")[0]

database_name := split(input.session.database, "/")[1]

# For messages: never more than the names that policies use anyway.
identity_text := sprintf("service account %s/%s with role %s", [
	input.identity.workload.namespace,
	input.identity.workload.service_account,
	input.session.role,
])

observed if {
	database.state == "active"
	database.enforcement == "observe"
}

actor_verified if input.identity.actor.assurance == "verified"

# How each policy selects the identity, by its index:
# - workload: an entry without `actor` matches; the policy's allow rules are rights of the workload.
# - actor: only an entry that names the verified actor matches; its allow rules can only narrow.
# - doubt: it names an actor and nobody is verified; what restricts holds, what allows does not.
selection := {i: how |
	some i, policy in sluice_data.policies
	input.session.database in policy.databases
	how := selected_by(policy)
}

selected_by(policy) := "workload" if {
	selects_workload(policy)
} else := "actor" if {
	actor_verified
	some entry in policy.subjects
	named_actor(entry)
	workload_and_role(entry)
} else := "doubt" if {
	not actor_verified
	some entry in policy.subjects
	workload_and_role(entry)
}

selects_workload(policy) if not policy.subjects

selects_workload(policy) if {
	some entry in policy.subjects
	not entry.actor
	workload_and_role(entry)
}

workload_and_role(entry) if {
	identity := input.identity.workload
	one_of(object.get(entry, ["workload", "namespaces"], null), identity.namespace)
	one_of(object.get(entry, ["workload", "service_accounts"], null), identity.service_account)
	one_of(object.get(entry, ["role", "names"], null), input.session.role)
	every key, value in object.get(entry, ["workload", "pod_labels"], {}) {
		identity.labels[key] == value
	}
}

named_actor(entry) if {
	actor := input.identity.actor
	one_of(object.get(entry.actor, "names", null), actor.name)
	one_of(object.get(entry.actor, "kinds", null), actor.kind)
	in_group(object.get(entry.actor, "groups", null), actor.groups)
}

one_of(null, _)

one_of(values, value) if value in values

in_group(null, _)

in_group(wanted, groups) if {
	some group in groups
	group in wanted
}

# Policies and rules go by index, [policy, rule]: to put them into sets by value would cost more than the decision.
modes := {i: sluice_data.policies[i].mode | some i, _ in selection}

# Enforced policies that select the identity in any way: what restricts comes from here.
restricting contains i if {
	some i, mode in modes
	mode == "enforce"
}

policies := sort([name_of(i) | some i in restricting])

name_of(i) := sluice_data.policies[i].name

# Policies whose allow rules count, and in which of two layers: what the workload may, and, when policies name the actor
# and allow anything, what the actor may. Both layers must admit a statement.
giving := {i: how |
	some i in restricting
	how := selection[i]
	how != "doubt"
}

layers contains how if {
	some i, how in giving
	some rule in sluice_data.policies[i].rules
	rule.effect == "allow"
}

# Rules that give rights.
allows[how] contains [i, j] if {
	some i, how in giving
	some j, rule in sluice_data.policies[i].rules
	rule.effect == "allow"
}

rule_of([i, j]) := sluice_data.policies[i].rules[j]

# Names of the policies whose allow rules make up a layer.
givers[how] contains name_of(i) if some [i, _] in allows[how]

# Refusals that hold for whole sessions and every statement of them.
refusals contains reason(null, null, "deny", message) if {
	not database
	message := sprintf(
		"No DataClassification in force admits namespace %s to database %s; the database's owner can add it to allowedNamespaces.",
		[input.identity.workload.namespace, input.session.database],
	)
}

refusals contains reason(null, null, "deny", message) if {
	database.state == "denied"
	why := object.get(database, "reason", "its DataClassification was deleted while governed pods depend on it")
	message := sprintf("Database %s is closed to everybody: %s.", [input.session.database, trim_suffix(why, ".")])
}

refusals contains reason(null, null, "deny", message) if {
	database.state == "active"
	database.allowed != true
	message := sprintf(
		"Database %s does not admit namespace %s; its owner can add it to allowedNamespaces of the DataClassification.",
		[input.session.database, input.identity.workload.namespace],
	)
}

refusals contains reason(null, null, "deny", message) if {
	database.allowed == true
	not "workload" in layers
	message := sprintf(
		"No policy in force allows %s anything in database %s%s; write a DatabaseAccessPolicy in namespace %s that names database %s, selects this workload and has an allow rule.",
		[identity_text, input.session.database, aside, owner_namespace, database_name],
	)
}

# What comes nearest to a policy that allows, when none does.
aside := sprintf(" (%s, which names an actor, never widens the rights of the workload)", [listed(givers.actor)]) if {
	givers.actor
} else := sprintf(" (%s has no allow rule)", [listed({name | some name in policies})]) if {
	count(policies) > 0
} else := sprintf(" (%s is in mode warn or audit, which allows nothing)", [listed(names)]) if {
	names := {name_of(i) | some i, _ in selection}
	count(names) > 0
} else := ""

# At most three names, so that a message stays readable.
listed(names) := text if {
	count(names) == 1
	text := sprintf("policy %s", [sort(names)[0]])
} else := text if {
	count(names) <= 3
	text := sprintf("each of the policies %s", [concat(", ", sort(names))])
} else := sprintf("each of the policies %s and %d more", [
	concat(", ", array.slice(sort(names), 0, 3)),
	count(names) - 3,
])

reason(policy, rule, effect, message) := {"policy": policy, "rule": rule, "effect": effect, "message": message}

# Doubt denies: what does not have the form of the contract is not decided by it.
well_formed if {
	input.contract == 1
	sluice_data.contract == 1
	workload := input.identity.workload
	is_string(workload.namespace)
	is_string(workload.service_account)
	is_object(workload.labels)
	is_actor(input.identity.actor)
	is_string(input.session.database)
	is_string(input.session.role)
	is_number(input.clock.now_ns)
	is_boolean(input.clock.trusted)
}

is_actor(null)

is_actor(actor) if {
	is_string(actor.name)
	is_string(actor.kind)
	is_array(actor.groups)
	is_string(actor.assurance)
}

malformed := [reason(null, null, "deny", "What the proxy asked is not in the form of contract 1; proxy and policy bundle do not fit together.")]
