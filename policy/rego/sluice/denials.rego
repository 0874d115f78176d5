# What a policy denies of the statement: its deny rules, guardrails and write oracles. Used for policies in force and,
# beside the decision, for those in mode warn or audit.
package sluice.denials

import data.sluice.classes
import data.sluice.needs
import data.sluice.rules
import data.sluice.scope
import data.sluice.windows

by_mode[mode] := {reason | some policy in policies; some reason in of_policy(policy)} if {
	some mode, policies in scope.selected
}

in_force := (object.get(by_mode, "enforce", set()) | unspelled) | unknown

of_policy(policy) := (of_rules(policy) | of_guardrails(policy)) | of_oracles(policy)

of_rules(policy) := {scope.reason(policy.name, rule.name, "deny", message) |
	some rule in policy.rules
	rule.effect != "allow"
	matches(rule)
	windows.deny_holds(rule)
	message := sprintf("Denied by rule %s of policy %s.", [rule.name, policy.name])
}

matches(rule) if {
	not rule.tables
	not rule.classes
	some action in all_actions
	rules.has_action(rule, action)
}

matches(rule) if {
	rule_is_narrow(rule)
	some i, table in input.statement.tables
	rules.has_table(rule, table.name)
	some action in ((needs.by_table[i] | needs.wide) | needs.unknown_actions)
	rules.has_action(rule, action)
	touches(rule, i)
}

rule_is_narrow(rule) if rule.tables

rule_is_narrow(rule) if rule.classes

touches(rule, _) if not rule.classes

touches(rule, i) if {
	some class in needs.touched_classes[i]
	classes.names_class(rule, needs.keys[class])
}

# What the statement names, and what it needs without naming it (reading a table is `select`).
all_actions := needs.actions | needs.used

of_guardrails(policy) := {reason |
	some name, sentence in broken_guardrails
	policy.guardrails[name] == "deny"
	message := sprintf("%s Guardrail of policy %s.", [sentence, policy.name])
	reason := scope.reason(policy.name, sprintf("guardrails.%s", [spelled[name]]), "deny", message)
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

of_oracles(policy) := {scope.reason(policy.name, sprintf("writeOracles.%s", [oracle]), "deny", message) |
	some oracle in input.statement.write_oracles
	policy.write_oracles[oracle_fields[oracle]] == "deny"
	message := sprintf("%s Denied by policy %s.", [oracle_texts[oracle], policy.name])
}

# Defaults: keys are accepted, row values are denied. To accept must be spelled by a policy that allows something:
# a policy that only restricts opens nothing.
write_oracles := {"keys": oracle("keys", "accept"), "row_values": oracle("row_values", "deny")}

oracle(field, _) := "deny" if {
	some policy in scope.restricting
	policy.write_oracles[field] == "deny"
} else := "accept" if {
	some policy in scope.enforced.workload
	policy.write_oracles[field] == "accept"
	some rule in policy.rules
	rule.effect == "allow"
} else := otherwise if {
	otherwise := oracle_defaults[field]
}

oracle_defaults := {"keys": "accept", "row_values": "deny"}

unspelled contains scope.reason(null, "writeOracles.rowValues", "deny", message) if {
	"rowValues" in input.statement.write_oracles
	write_oracles.row_values == "deny"
	every policy in scope.restricting {
		not policy.write_oracles.row_values == "deny"
	}
	message := sprintf("%s No policy accepts that; one may with writeOracles.rowValues: accept.", [oracle_texts.rowValues])
}

unknown contains scope.reason(null, null, "deny", message) if {
	some action in needs.unknown_actions
	message := sprintf("The action %s is not known to this policy bundle.", [action])
}
