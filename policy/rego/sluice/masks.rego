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

strictest(masks) := sort({order(mask) | some mask in masks})[0][3]

# Masks of a policy by the class it spells.
spelled[i][name] contains entry.mask if {
	some i in scope.restricting
	some entry in sluice_data.policies[i].masks
	name := entry.class
}

# Classes that a policy's allow rules admit. In doubt about the actor nothing is admitted.
admitted[i] contains class if {
	some how in scope.layers
	some [i, j] in scope.allows[how]
	some class in classes.admitted(scope.rule_of([i, j]))
}

# What each policy says for a class: of its most specific entries the strictest. Admitted without a mask is redact:
# showing a class raw must be spelled.
said[class] contains mask if {
	some class, names in classes.keys
	some i, by_name in spelled
	mask := strictest([by_name[name] | some name in names; by_name[name]][0])
}

said[class] contains redact if {
	some class, names in classes.keys
	some i, admitted_classes in admitted
	class in admitted_classes
	not names_any(object.get(spelled, i, {}), names)
}

names_any(by_name, names) if {
	some name in names
	by_name[name]
}

by_class[class] := strictest(object.get(said, class, set()) | unreadable_mask(class)) if some class in classes.listed

# A class that nothing admits is listed too, so that a reader who overlooks the denial still shows nothing.
unreadable_mask(class) := set() if {
	class in readable
} else := {redact}

# Classes that an allow rule admits in every layer, and no deny rule keeps from everybody.
readable := (classes.listed & intersection({of_layer | some of_layer in by_layer})) - denied

by_layer[how] := union({classes.admitted(scope.rule_of(id)) | some id in scope.allows[how]}) if some how in scope.layers

denied contains class if {
	some i in scope.restricting
	some rule in sluice_data.policies[i].rules
	rule.effect != "allow"
	not rule.tables
	not rule.actions
	not rule.when
	some name in rule.classes
	some class in classes.below[name]
}

row_filters := sort({filter |
	some i in scope.restricting
	some entry in sluice_data.policies[i].row_filters
	filter := {"table": entry.table, "parts": entry.parts, "policy": scope.name_of(i)}
})
