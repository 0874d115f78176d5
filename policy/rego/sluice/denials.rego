# What a policy denies of the statement: its deny rules, guardrails and write oracles. Used for policies in force and,
# beside the decision, for those in mode warn or audit.
package sluice.denials

import data.sluice.needs
import data.sluice.rules
import data.sluice.scope
import data.sluice.windows
import data.sluice_data

by_mode := {mode: {reason | some [other, reason] in found; other == mode} |
	some mode in {mode | some [mode, _] in found}
}

in_force := (object.get(by_mode, "enforce", set()) | unspelled) | unknown

found contains [scope.modes[i], scope.reason(policy, rule.name, "deny", message)] if {
	some [i, j] in matching
	rule := scope.rule_of([i, j])
	not object.get(rule, "when", null) in windows.shut
	policy := scope.name_of(i)
	message := sprintf("Denied by rule %s of policy %s.", [rule.name, policy])
}

# Deny rules that speak of the statement. Without tables and classes a rule speaks of its actions wherever they are.
matching contains [i, j] if {
	some i, _ in scope.selection
	some j, rule in sluice_data.policies[i].rules
	rule.effect != "allow"
	some action, ts in needs.touched_by_action
	rules.acts(rule, action)
	some t in ts
	has_table(object.get(rule, "tables", null), t)
	has_class(object.get(rule, "classes", null), t)
}

has_table(null, _)

has_table(patterns, t) if {
	t >= 0
	some pattern in patterns
	rules.like(pattern, input.statement.tables[t].name)
}

has_class(null, _)

has_class(names, t) if {
	t >= 0
	some name in names
	name in needs.touched_names[t]
}

found contains [scope.modes[i], scope.reason(policy, sprintf("guardrails.%s", [spelled[name]]), "deny", message)] if {
	some name, sentence in broken_guardrails
	some i, _ in scope.selection
	sluice_data.policies[i].guardrails[name] == "deny"
	policy := scope.name_of(i)
	message := sprintf("%s Guardrail of policy %s.", [sentence, policy])
}

spelled := {"unfiltered_writes": "unfilteredWrites", "drop": "drop", "truncate": "truncate"}

broken_guardrails["unfiltered_writes"] := "The UPDATE or DELETE has no WHERE that selects rows." if {
	input.statement.unfiltered_write
}

broken_guardrails["drop"] := "DROP is not allowed here." if "ddl.drop" in needs.actions

broken_guardrails["truncate"] := "TRUNCATE is not allowed here." if "truncate" in needs.actions

oracle_fields := {"keys": "keys", "rowValues": "row_values"}

oracle_texts := {
	"keys": "Its outcome would tell whether a hidden value is taken (unique or foreign key).",
	"rowValues": "Its outcome would tell about hidden values of the row it changes.",
}

found contains [scope.modes[i], scope.reason(policy, sprintf("writeOracles.%s", [oracle]), "deny", message)] if {
	some oracle in input.statement.write_oracles
	some i, _ in scope.selection
	sluice_data.policies[i].write_oracles[oracle_fields[oracle]] == "deny"
	policy := scope.name_of(i)
	message := sprintf("%s Denied by policy %s.", [oracle_texts[oracle], policy])
}

# Defaults: keys are accepted, row values are denied. To accept must be spelled by a policy that allows something:
# a policy that only restricts opens nothing.
write_oracles := {"keys": chosen("keys"), "row_values": chosen("row_values")}

chosen(field) := "deny" if {
	some i in scope.restricting
	sluice_data.policies[i].write_oracles[field] == "deny"
} else := "accept" if {
	some [i, _] in scope.allows.workload
	sluice_data.policies[i].write_oracles[field] == "accept"
} else := oracle_defaults[field]

oracle_defaults := {"keys": "accept", "row_values": "deny"}

unspelled contains scope.reason(null, "writeOracles.rowValues", "deny", message) if {
	"rowValues" in input.statement.write_oracles
	write_oracles.row_values == "deny"
	every i in scope.restricting {
		not sluice_data.policies[i].write_oracles.row_values == "deny"
	}
	message := sprintf("%s No policy accepts that; one may with writeOracles.rowValues: accept.", [oracle_texts.rowValues])
}

unknown contains scope.reason(null, null, "deny", message) if {
	some action in needs.unknown_actions
	message := sprintf("The action %s is not known to this policy bundle.", [action])
}
