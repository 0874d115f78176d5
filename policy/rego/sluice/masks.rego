# The one mask that holds for each class: the strictest of what the selecting policies say.
package sluice.masks

import data.sluice.classes
import data.sluice.scope
import data.sluice_data

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

strictest(masks) := mask if {
	count(masks) == 1
	some mask in masks
} else := sort({order(mask) | some mask in masks})[0][3]

# Masks of a policy by the class it spells; of equals the strictest.
spelled := {i: by_name |
	some i in scope.restricting
	entries := sluice_data.policies[i].masks
	by_name := {name: strictest({entry.mask | some entry in entries; entry.class == name}) |
		some name in {entry.class | some entry in entries}
	}
}

# Policies that spell a class. A complete document, as all that is looked up by many keys: OPA evaluates a partial one
# anew for each key.
spellers := {name: {i | some i, by_name in spelled; by_name[name]} |
	some name in {name | some by_name in spelled; some name, _ in by_name}
}

# The strictest that any policy spells for a name.
strictest_spelled := {name: strictest({spelled[i][name] | some i in ids}) | some name, ids in spellers}

# What policies say for a class: the most specific of their entries.
said(names) := {mask |
	some depth, name in names
	ids := spellers[name]
	nearer := union({spellers[other] | some other in array.slice(names, 0, depth)})
	mask := strictest_of(name, ids, ids & nearer)
}

# Among the policies that spell the name, but for those that spell a more specific one.
strictest_of(name, ids, more_specific) := strictest_spelled[name] if {
	count(more_specific) == 0
} else := strictest({spelled[i][name] | some i in (ids - more_specific)}) if {
	count(ids - more_specific) > 0
}

# Admitted without a mask is redact: showing a class raw must be spelled.
unspelled(class, names) := {redact} if {
	silent := admitters(class, names) - union({spellers[name] | some name in names})
	count(silent) > 0
} else := set()

# Policies whose allow rules admit a class. In doubt about the actor nothing is admitted.
admitters("unreviewed", _) := {i | some ids in admitting; some i in ids}

admitters(class, names) := union({admitting[name] | some name in names}) if class != "unreviewed"

# Policies by the names that their allow rules admit.
admitting := {name: {i | some [i, other] in admissions; other == name} | some name in {name | some [_, name] in admissions}}

admissions := {[i, name] |
	some how in scope.layers
	some [i, j] in scope.allows[how]
	some name in classes.named_by(scope.rule_of([i, j]))
}

by_class := {class: strictest(((said(names) | unspelled(class, names)) | unreadable_mask(class))) |
	some class, names in classes.keys
}

# A class that nothing admits is listed too, so that a reader who overlooks the denial still shows nothing.
unreadable_mask(class) := set() if {
	class in readable
} else := {redact}

# Classes that an allow rule admits in every layer, and no deny rule keeps from everybody.
readable contains class if {
	some class, names in classes.keys
	"workload" in scope.layers
	every how in scope.layers {
		classes.covered(class, names, layer_names[how])
	}
	not denied(names)
}

layer_names[how] := {name | some id in scope.allows[how]; some name in classes.named_by(scope.rule_of(id))} if {
	some how in scope.layers
}

denied(names) if {
	some name in names
	name in denied_names
}

denied_names contains name if {
	some i in scope.restricting
	some rule in sluice_data.policies[i].rules
	rule.effect != "allow"
	not rule.tables
	not rule.actions
	not rule.when
	some name in rule.classes
}

row_filters := sort({filter |
	some i in scope.restricting
	some entry in sluice_data.policies[i].row_filters
	filter := {"table": entry.table, "parts": entry.parts, "policy": scope.name_of(i)}
})
