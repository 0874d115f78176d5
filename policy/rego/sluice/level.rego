# The level of a session. It does not follow the clock: hours gate statements, and a session that changed its level at
# every opening hour would be closed at each of them.
package sluice.level

import data.sluice.classes
import data.sluice.denials
import data.sluice.masks
import data.sluice.rules
import data.sluice.scope

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
	some policy in scope.restricting
	some rule in policy.rules
	rule.effect != "allow"
	denials.rule_is_narrow(rule)
	some action in rules.reading
	rules.has_action(rule, action)
}

# Tables or classes that no allow rule lets the session read are unreadable just so.
hides if {
	some how, _ in scope.allows
	some rights in regimes[how]
	some class in (classes.governed | {""})
	not permits(rights, "select", class)
}

# Rights that may be in force alone: those without hours, or else those of each timetable.
regimes[how] := alone(untimed(rights), rights) if some how, rights in scope.allows

alone(always, rights) := [always] if {
	count(always) > 0
} else := [{rule | some [_, rule] in rights; rule.when == when} |
	some when in {rule.when | some [_, rule] in rights}
]

untimed(rights) := {rule | some [_, rule] in rights; not rule.when}

permits(rights, action, class) if {
	some rule in rights
	rules.has_action(rule, action)
	rules.unbounded(rule)
	admitted(rule, class)
}

admitted(_, "")

admitted(rule, class) if classes.admits(rule, classes.keys[class])

everything_allowed if {
	every policy in scope.restricting {
		count(policy.guardrails) == 0
		every rule in policy.rules {
			rule.effect == "allow"
			not rule.limits
		}
	}
	every rights in scope.allows {
		always := untimed(rights)
		every action in rules.known_actions {
			every class in classes.governed | {""} {
				permits(always, action, class)
			}
		}
	}
}
