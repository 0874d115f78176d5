# Limits take the minimum of everything that speaks of the statement or session.
package sluice.limits

import data.sluice.grants
import data.sluice.scope
import data.sluice_data

none := {"rows_per_statement": null, "statement_seconds": null}

of_statement := least(grants.used)

# What holds for each statement of the session, whatever it does.
of_session := least({id |
	some how in scope.layers
	some id in scope.allows[how]
	rule := scope.rule_of(id)
	not rule.actions
	not rule.tables
	not rule.when
})

least(ids) := {
	"rows_per_statement": smallest(bulk_rows | of_rules(ids, "rows_per_statement")),
	"statement_seconds": smallest(of_rules(ids, "statement_seconds")),
}

of_rules(ids, field) := {value | some [i, j] in ids; value := sluice_data.policies[i].rules[j].limits[field]}

bulk_rows := {sluice_data.policies[i].guardrails.bulk_export.rows | some i in scope.restricting}

smallest(values) := min(values) if {
	count(values) > 0
} else := null
