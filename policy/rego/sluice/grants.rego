# Which needs of the statement the allow rules meet.
package sluice.grants

import data.sluice.classes
import data.sluice.needs
import data.sluice.rules
import data.sluice.scope
import data.sluice.windows
import data.sluice_data

# What each rule in force meets, by layer: [policy, rule, need]. One complete document: asked for by layer and as a whole,
# a partial one would be worked out twice.
met := {how: {[i, j, need] |
	some i, also in scope.giving
	also == how
	some j, rule in sluice_data.policies[i].rules
	rule.effect == "allow"
	object.get(rule, "when", null) in windows.open
	some need in meets(rule)
} |
	some how in scope.layers
}

meets(rule) := on_tables(rule) if {
	count(needs.of_statement) == 0
} else := on_tables(rule) | on_statement(rule)

on_tables(rule) := {[t, action, class] |
	some action, ts in needs.tables_by_action
	rules.acts(rule, action)
	some t in ts
	speaks_of(rule, t)
	some class in needs.read_classes[t]
	admits(rule, class)
}

speaks_of(rule, _) if not rule.tables

speaks_of(rule, t) if {
	some pattern in rule.tables
	needs.surely_like(pattern, t)
}

# Columns without a class, and those that nobody reviewed, come with the table; their mask hides them.
admits(_, class) if class in {"", "unreviewed"}

admits(rule, _) if not rule.classes

admits(rule, class) if {
	some name in rule.classes
	name in classes.covering(class)
}

on_statement(rule) := {need |
	some need in needs.of_statement
	statement_wide(rule, need[1])
}

# Any allow rule carries what belongs to every session.
statement_wide(_, "session")

# No table is named, so a rule for certain tables does not speak of it.
statement_wide(rule, action) if {
	rules.unbounded(rule)
	some spelling in rules.actions_of(rule)
	spelling in rules.spellings(action)
}

unmet[how] := needs.all_needs - granted if {
	some how in scope.layers
	granted := {need | some [_, _, need] in met[how]}
}

complete if {
	"workload" in scope.layers
	every how in scope.layers {
		unmet[how] == set()
	}
}

# Rules that the statement stands on.
used := {[i, j] | some how; some [i, j, _] in met[how]}

reasons contains scope.reason(policy, rule, "allow", message) if {
	some [i, j] in used
	policy := scope.name_of(i)
	rule := scope.rule_of([i, j]).name
	message := sprintf("Allowed by rule %s of policy %s.", [rule, policy])
}

# Why not: a rule that would allow at another hour, or no rule at all.
shortfalls contains scope.reason(policy, rule.name, "deny", late_message(policy, rule)) if {
	some how, ids in timely
	some need in unmet[how]
	some [i, j] in ids[need]
	policy := scope.name_of(i)
	rule := scope.rule_of([i, j])
}

shortfalls contains scope.reason(null, null, "deny", message) if {
	some how in scope.layers
	some need in unmet[how]
	not timely[how][need]
	[t, action, class] := need
	told(how, t, action, class)
	message := sprintf("No allow rule of %s %s; %s.", [replace(source[how], "each of the", "any of the"), deed(t, action, class), advice(class)])
}

# Rules that meet the need but for their hours.
timely[how][need] contains id if {
	some how in scope.layers
	some need in unmet[how]
	some id in scope.allows[how]
	rule := scope.rule_of(id)
	rule.when
	need in meets(rule)
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

told(how, t, action, class) if {
	class != ""
	not [t, action, ""] in unmet[how]
}

source.workload := scope.listed({scope.name_of(i) | some i in scope.restricting; scope.selection[i] == "workload"})

source.actor := sprintf("%s, which names this actor,", [scope.listed(scope.givers.actor)])

deed(-1, action, _) := sprintf("covers %s", [action])

deed(t, action, "") := sprintf("covers %s on table %s", [action, input.statement.tables[t].name]) if t >= 0

deed(t, action, class) := sprintf("admits class %s for %s on table %s", [
	class, action,
	input.statement.tables[t].name,
]) if {
	t >= 0
	class != ""
}

advice("") := "add the action and the table to an allow rule, or ask the policy's owner for access"

advice(class) := "add the class to an allow rule, or leave its columns out" if class != ""
