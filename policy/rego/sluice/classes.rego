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

keys := {class: covering(class) | some class in listed}

# Names by which an allow rule admits classes.
named_by(rule) := object.get(rule, "classes", ["*"])

# Is a class admitted by one of these names? `names` is covering(class). Columns that nobody reviewed come with the
# table, as unclassified ones do; their mask hides them.
covered("unreviewed", _, _)

covered(_, names, admitting) if {
	some name in names
	name in admitting
}
