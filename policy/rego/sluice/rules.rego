# What a rule speaks of: actions and tables.
package sluice.rules

known_actions := (reading | writing) | {"call", "explain", "listen", "session"}

reading := {"select", "copyOut"}

writing := {
	"insert", "update", "delete", "merge", "truncate", "copyIn",
	"ddl.create", "ddl.alter", "ddl.drop", "ddl.grant", "ddl.other",
}

has_action(rule, _) if not rule.actions

has_action(rule, action) if action in rule.actions

has_action(rule, action) if {
	startswith(action, "ddl.")
	"ddl.*" in rule.actions
}

unbounded(rule) if not rule.tables

unbounded(rule) if {
	some pattern in rule.tables
	pattern in {"*", "*.*"}
}

# Is the table among the rule's? Decided against an allow, for a deny, when a name holds more than one dot: then nobody
# can tell schema from table.
has_table(rule, _) if unbounded(rule)

has_table(rule, name) if {
	some pattern in rule.tables
	like(pattern, name)
}

surely_has_table(rule, _) if unbounded(rule)

surely_has_table(rule, name) if {
	has_table(rule, name)
	count(split(name, ".")) == 2
}

like(pattern, text) if pattern == text

like(pattern, text) if {
	parts := split(pattern, "*")
	fits(parts, text)
}

# One star is by far the most frequent.
fits(parts, text) if {
	count(parts) == 2
	startswith(text, parts[0])
	endswith(text, parts[1])
	count(text) >= count(parts[0]) + count(parts[1])
}

fits(parts, text) if {
	count(parts) > 2
	glob.match(concat("*", [glob.quote_meta(part) | some part in parts]), null, text)
}
