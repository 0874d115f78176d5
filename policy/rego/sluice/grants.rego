# Which needs of the statement the allow rules meet.
package sluice.grants

import data.sluice.classes
import data.sluice.needs
import data.sluice.rules
import data.sluice.scope
import data.sluice.windows

layers := {how | some how, _ in scope.allows}

# What each rule in force meets, by layer.
met[how][[policy, rule.name]] := grants if {
	some how in layers
	some [policy, rule] in scope.allows[how]
	grants := by_rule(rule)
	grants != set()
	windows.allow_holds(rule)
}

by_rule(rule) := on_tables(rule) | on_statement(rule)

on_tables(rule) := {[i, action, class] |
	some i, actions in needs.by_table
	some action in actions
	rules.has_action(rule, action)
	rules.surely_has_table(rule, input.statement.tables[i].name)
	some class in (needs.read_classes[i] | {""})
	admitted(rule, class)
}

admitted(_, "")

admitted(rule, class) if classes.admits(rule, needs.keys[class])

on_statement(rule) := {need |
	some need in needs.of_statement
	statement_wide(rule, need[1])
}

# Any allow rule carries what belongs to every session.
statement_wide(_, "session")

# No table is named, so a rule for certain tables does not speak of it.
statement_wide(rule, action) if {
	rules.has_action(rule, action)
	rules.unbounded(rule)
}

unmet[how] := needs.all_needs - granted if {
	some how in layers
	granted := union({grants | some grants in object.get(met, how, {})})
}

complete if {
	"workload" in layers
	every how in layers {
		unmet[how] == set()
	}
}

reasons contains reason if {
	some how in layers
	some [policy, rule], _ in met[how]
	message := sprintf("Allowed by rule %s of policy %s.", [rule, policy])
	reason := scope.reason(policy, rule, "allow", message)
}

# Why not: a rule that would allow at another hour, or no rule at all.
shortfalls contains reason if {
	some how in layers
	some need in unmet[how]
	some [policy, rule] in timely[how][need]
	reason := scope.reason(policy, rule.name, "deny", late_message(policy, rule))
}

shortfalls contains reason if {
	some how in layers
	some need in unmet[how]
	not timely[how][need]
	[i, action, class] := need
	told(how, i, action, class)
	message := sprintf("No allow rule of %s %s; %s.", [source[how], deed(i, action, class), advice(class)])
	reason := scope.reason(null, null, "deny", message)
}

# Rules that meet the need but for their hours.
timely[how][need] contains [policy, rule] if {
	some how in layers
	some need in unmet[how]
	some [policy, rule] in scope.allows[how]
	rule.when
	need in by_rule(rule)
}

late_message(policy, rule) := sprintf("Rule %s of policy %s allows this only at %s (%s).", [
	rule.name, policy,
	rule.when.text, rule.when.time_zone,
]) if {
	input.clock.trusted
} else := sprintf("Rule %s of policy %s allows this at certain hours, and the clock cannot be trusted now.", [
	rule.name,
	policy,
])

# A class is not worth a sentence where the table itself is missing.
told(_, _, _, "")

told(how, i, action, class) if {
	class != ""
	not [i, action, ""] in unmet[how]
}

source.workload := scope.listed(names) if {
	names := {policy.name | some policy in scope.enforced.workload}
}

source.actor := sprintf("%s, which names this actor,", [scope.listed(names)]) if {
	names := {name | some [name, _] in scope.allows.actor}
}

deed(-1, action, _) := sprintf("covers %s", [action])

deed(i, action, "") := sprintf("covers %s on table %s", [action, input.statement.tables[i].name]) if i >= 0

deed(i, action, class) := sprintf("admits class %s for %s on table %s", [
	class, action,
	input.statement.tables[i].name,
]) if {
	i >= 0
	class != ""
}

advice("") := "add the action and the table to an allow rule, or ask the policy's owner for access"

advice(class) := "add the class to an allow rule, or leave its columns out" if class != ""
