# The one mask that holds for each class: the strictest of what the selecting policies say.
package sluice.masks

import data.sluice.classes
import data.sluice.scope

# The published order, the strictest first. Equal ranks are told apart by what they show, then by name, so that the
# order is total.
ranks := {
	"null": 0, "redact": 1, "hash": 2, "year": 3, "bucket": 3,
	"first": 4, "last": 4, "partial": 4, "email": 5, "expression": 6, "none": 7,
}

redact := {"kind": "redact"}

# What a mask is worth in that order: compared as arrays.
order(mask) := [rank(mask), shown(mask), mask.kind, mask]

# An expression stands where it declares, never above email.
rank(mask) := max({ranks.email, object.get(ranks, mask.rank, ranks.expression)}) if {
	mask.kind == "expression"
} else := ranks[mask.kind]

# Characters shown; of buckets the larger one shows less.
shown(mask) := mask.count if {
	mask.kind in {"first", "last"}
} else := mask.first + mask.last if {
	mask.kind == "partial"
} else := 0 - mask.size if {
	mask.kind == "bucket"
} else := 0

strictest(masks) := sort({order(mask) | some mask in masks})[0][3]

# What one policy says for a class: of its most specific entries the strictest.
said(policy, names) := strictest(entries) if {
	specific := [name | some name in names; some entry in policy.masks; entry.class == name]
	entries := {entry.mask | some entry in policy.masks; entry.class == specific[0]}
} else := redact if {
	# Admitted without a mask: showing it raw must be spelled. In doubt about the actor nothing is admitted.
	policy.name in admitting
	some rule in policy.rules
	rule.effect == "allow"
	classes.admits(rule, names)
}

admitting := {name |
	some how in ["workload", "actor"]
	some [name, _] in scope.allows[how]
}

by_class[class] := mask if {
	some class in (classes.governed | {"unreviewed"})
	masks := {said(policy, classes.keys[class]) | some policy in scope.restricting}
	mask := strictest(masks | unreadable_mask(class))
}

# A class that nothing admits is listed too, so that a reader who overlooks the denial still shows nothing.
unreadable_mask(class) := set() if {
	class in readable
} else := {redact}

# Classes that an allow rule admits in every layer, and no deny rule keeps from everybody.
readable contains class if {
	some class in (classes.governed | {"unreviewed"})
	names := classes.keys[class]
	scope.allows.workload
	every _, allowed in scope.allows {
		some [_, rule] in allowed
		classes.admits(rule, names)
	}
	not denied(names)
}

denied(names) if {
	some policy in scope.restricting
	some rule in policy.rules
	rule.effect != "allow"
	not rule.tables
	not rule.actions
	not rule.when
	classes.names_class(rule, names)
}

row_filters := sort({filter |
	some policy in scope.restricting
	some entry in policy.row_filters
	filter := {"table": entry.table, "parts": entry.parts, "policy": policy.name}
})
