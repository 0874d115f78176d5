# What a rule speaks of: actions and tables.
package sluice.rules

known_actions := (reading | writing) | {"call", "explain", "listen", "session"}

reading := {"select", "copyOut"}

writing := {
	"insert", "update", "delete", "merge", "truncate", "copyIn",
	"ddl.create", "ddl.alter", "ddl.drop", "ddl.grant", "ddl.other",
}

# How a rule may spell an action; "*" stands for a rule that names no actions.
spellings(action) := {action, "ddl.*", "*"} if {
	startswith(action, "ddl.")
} else := {action, "*"}

actions_of(rule) := object.get(rule, "actions", ["*"])

# A rule that names no actions speaks of all.
acts(rule, _) if not rule.actions

acts(rule, action) if {
	some spelling in spellings(action)
	spelling in rule.actions
}

# A rule without tables speaks of all of them, and of statements without any.
unbounded(rule) if not rule.tables

unbounded(rule) if {
	some pattern in rule.tables
	pattern in {"*", "*.*"}
}

like(pattern, name) if pattern == name

like(pattern, name) if {
	parts := split(pattern, "*")
	fits(parts, name)
}

# One star is by far the most frequent.
fits([head, tail], name) if {
	startswith(name, head)
	endswith(name, tail)
	count(name) >= count(head) + count(tail)
}

fits(parts, name) if {
	count(parts) > 2
	glob.match(concat("*", [glob.quote_meta(part) | some part in parts]), null, name)
}
