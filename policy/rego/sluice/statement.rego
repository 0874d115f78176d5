# The decision about one statement shape of one identity.
package sluice.statement

import data.sluice.denials
import data.sluice.grants
import data.sluice.limits
import data.sluice.scope
import data.sluice.windows

# METADATA
# description: Once per statement shape and identity.
# entrypoint: true
decision := made if {
	scope.well_formed
	well_formed
} else := answer(false, null, [], scope.malformed, limits.none, [])

made := answer(false, windows.valid_until, scope.policies, sort(scope.refusals), limits.none, would) if {
	count(scope.refusals) > 0
	not scope.observed
} else := answer(true, windows.valid_until, scope.policies, observed, limits.none, would) if {
	scope.observed
} else := answer(true, windows.valid_until, scope.policies, sort(grants.reasons), limits.of_statement, would) if {
	count(against) == 0
} else := answer(false, windows.valid_until, scope.policies, sort(against), limits.none, would)

# Everything that stands against the statement: explicit denials, or else what no rule allows.
against := scope.refusals if {
	count(scope.refusals) > 0
} else := denials.in_force if {
	count(denials.in_force) > 0
} else := set() if {
	grants.complete
} else := grants.shortfalls

observed := sort(grants.reasons) if {
	count(against) == 0
} else := [scope.reason(null, null, "allow", message)] if {
	message := sprintf("Database %s is observed only; otherwise the statement would be denied.", [input.session.database])
}

warned := object.get(denials.by_mode, "warn", set())

would := sort(((warned | object.get(denials.by_mode, "audit", set())) | observed_against))

observed_against := against if {
	scope.observed
} else := set()

answer(allow, valid_until, policies, reasons, limit, would_deny) := {
	"contract": 1,
	"revision": scope.revision,
	"sequence": scope.sequence,
	"valid_until": valid_until,
	"allow": allow,
	"policies": policies,
	"reasons": reasons,
	"limits": limit,
	"warnings": [reason | some reason in would_deny; reason in warned],
	"would": would_deny,
}

well_formed if {
	statement := input.statement
	is_string(statement.kind)
	count(statement.actions) > 0
	is_array(statement.tables)
	is_boolean(statement.unfiltered_write)
	is_array(statement.write_oracles)
	every action in statement.actions {
		is_string(action)
	}
	every table in statement.tables {
		is_string(table.name)
		table.access in {"read", "write", "readwrite"}
		is_array(table.columns)
		is_array(table.classes)
		every column in table.columns {
			is_column(column)
		}
	}
	every oracle in statement.write_oracles {
		oracle in {"keys", "rowValues"}
	}
}

is_column(column) if {
	column.access in {"read", "write"}
	is_class(column.class)
}

is_class(null)

is_class(class) if is_string(class)
