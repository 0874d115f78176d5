# The level of a session. It does not follow the clock: hours gate statements, and a session that changed its level at
# every opening hour would be closed at each of them.
package sluice.level

import data.sluice.classes
import data.sluice.masks
import data.sluice.rules
import data.sluice.scope
import data.sluice_data

level := "restricted" if {
	hides
} else := "open" if {
	everything_allowed
} else := "guarded"

hides if {
	some class in classes.governed
	masks.by_class[class].kind != "none"
}

hides if count(masks.row_filters) > 0

# A deny that makes tables or classes unreadable: what they hold could be had in roundabout ways, which only a
# restricted session closes.
hides if {
	some rule in denying
	narrow(rule)
	some action in rules.actions_of(rule)
	action in (rules.reading | {"*"})
}

# Tables or classes that no allow rule lets the session read are unreadable just so.
hides if {
	some how
	some ids in regimes[how]
	not all_classes(names_everywhere(ids, {"select", "*"}))
}

denying contains rule if {
	some i in scope.restricting
	some rule in sluice_data.policies[i].rules
	rule.effect != "allow"
}

narrow(rule) if rule.tables

narrow(rule) if rule.classes

# Rights that may be in force alone: those without hours, or else those of each timetable.
regimes[how] := alone(untimed(how), how) if some how in scope.layers

alone(ids, how) := [ids] if {
	count(ids) > 0
} else := [{id | some id in scope.allows[how]; scope.rule_of(id).when == when} |
	some when in {scope.rule_of(id).when | some id in scope.allows[how]}
]

untimed(how) := {id | some id in scope.allows[how]; not scope.rule_of(id).when}

# Names of the classes that these rules admit on all tables for the action, given by its spellings.
names_everywhere(ids, spellings) := {name |
	some id in ids
	rule := scope.rule_of(id)
	rules.unbounded(rule)
	some spelling in rules.actions_of(rule)
	spelling in spellings
	some name in classes.named_by(rule)
}

# Columns without a class come with whatever is admitted.
all_classes(names) if {
	count(names) > 0
	every class in classes.governed {
		classes.covered(class, classes.keys[class], names)
	}
}

everything_allowed if {
	count(denying) == 0
	every i in scope.restricting {
		count(sluice_data.policies[i].guardrails) == 0
		every rule in sluice_data.policies[i].rules {
			not rule.limits
		}
	}
	every how in scope.layers {
		always := untimed(how)
		every action in rules.known_actions {
			all_classes(names_everywhere(always, rules.spellings(action)))
		}
	}
}
