# Limits take the minimum of everything that speaks of the statement or session.
package sluice.limits

import data.sluice.grants
import data.sluice.scope

none := {"rows_per_statement": null, "statement_seconds": null}

bulk_rows contains rows if {
	some policy in scope.restricting
	rows := policy.guardrails.bulk_export.rows
}

of_statement := {
	"rows_per_statement": least(bulk_rows | {rows | some rows in statement_values.rows_per_statement}),
	"statement_seconds": least({seconds | some seconds in statement_values.statement_seconds}),
}

statement_values[field] contains value if {
	some how in grants.layers
	some [policy, rule] in scope.allows[how]
	[policy, rule.name] in object.keys(grants.met[how])
	some field, value in rule.limits
}

# What holds for each statement of the session, whatever it does.
of_session := {
	"rows_per_statement": least(bulk_rows | {rows | some rows in session_values.rows_per_statement}),
	"statement_seconds": least({seconds | some seconds in session_values.statement_seconds}),
}

session_values[field] contains value if {
	some how, _ in scope.allows
	some [_, rule] in scope.allows[how]
	not rule.actions
	not rule.tables
	not rule.when
	some field, value in rule.limits
}

least(values) := min(values) if {
	count(values) > 0
} else := null
