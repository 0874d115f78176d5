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

keys[class] := covering(class) if some class in (governed | {"unreviewed"})

# Does an allow rule admit a class? `names` is covering(class). Columns that nobody reviewed come with the table, as
# unclassified ones do; their mask hides them.
admits(rule, _) if not rule.classes

admits(_, ["unreviewed", "*"])

admits(rule, names) if names_class(rule, names)

# Does a rule name a class, or one above it?
names_class(rule, names) if {
	some name in names
	name in rule.classes
}
