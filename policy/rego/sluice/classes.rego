# Classes are dotted; a name covers itself and what is below it, `*` covers all.
package sluice.classes

import data.sluice.scope

# Names that cover a class, the most specific first: ["pii.email", "pii", "*"]. `unreviewed` has no parent but `*`.
covering(class) := array.concat(names, ["*"]) if {
	parts := split(class, ".")
	size := count(parts)
	names := [concat(".", array.slice(parts, 0, n)) | some n in numbers.range(size, 1)]
}

# Classes whose columns need a mask to be decided. Where unreviewed columns are allowed they are public.
governed := named | unreviewed

named := {entry.class | some entry in scope.database.columns; entry.class != "public"}

unreviewed := {"unreviewed"} if {
	scope.database.unreviewed != "allow"
} else := set()

# Classes that get a mask in the answer.
listed := governed | {"unreviewed"}

keys[class] := covering(class) if some class in listed

# The other way round: what a name covers.
below[name] contains class if {
	some class, names in keys
	some name in names
}

# Classes that an allow rule admits, and "" for columns without one. Columns that nobody reviewed come with the table,
# as unclassified ones do; their mask hides them.
admitted(rule) := {"", "unreviewed"} | {class |
	some name in object.get(rule, "classes", ["*"])
	some class in below[name]
}
