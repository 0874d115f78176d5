# The decision about a session: may it be, at which level, and what is hidden from it.
package sluice.session

import data.sluice.denials
import data.sluice.level
import data.sluice.limits
import data.sluice.masks
import data.sluice.rules
import data.sluice.scope
import data.sluice_data

# METADATA
# description: Once per connection and whenever the policy changes.
# entrypoint: true
decision := made if {
	scope.well_formed
} else := refused(scope.malformed, [])

made := refused(sort(scope.refusals), scope.policies) if {
	count(scope.refusals) > 0
	not scope.observed
} else := refused(sort(denied_whole), scope.policies) if {
	count(denied_whole) > 0
	not scope.observed
} else := {
	"contract": 1,
	"revision": scope.revision,
	"sequence": scope.sequence,
	"valid_until": null,
	"allow": true,
	"level": level_in_force,
	"enforcement": scope.database.enforcement,
	"policies": scope.policies,
	"reasons": reasons,
	"classification": {"columns": scope.database.columns, "unreviewed": scope.database.unreviewed},
	"masks": masks.by_class,
	"row_filters": masks.row_filters,
	"limits": limits_in_force,
	"trusted": scope.database.trusted,
	"write_oracles": denials.write_oracles,
}

level_in_force := "open" if {
	scope.observed
} else := level.level

limits_in_force := limits.none if {
	scope.observed
} else := limits.of_session

# A deny of everything at all hours: better said at the door.
denied_whole contains scope.reason(policy, rule.name, "deny", message) if {
	some i in scope.restricting
	some rule in sluice_data.policies[i].rules
	rule.effect != "allow"
	not rule.actions
	not rule.when
	not rule.classes
	rules.unbounded(rule)
	policy := scope.name_of(i)
	message := sprintf("Rule %s of policy %s denies everything to %s.", [rule.name, policy, scope.identity_text])
}

reasons := sort({scope.reason(name, null, "allow", message) |
	some name in scope.givers.workload
	message := sprintf("Policy %s gives rights to %s.", [name, scope.identity_text])
} | observed_reasons)

# What would have happened, told with the connection that enforcement: observe lets in.
observed_reasons := {scope.reason(refusal.policy, refusal.rule, "allow", message) |
	scope.observed
	some refusal in (scope.refusals | denied_whole)
	message := sprintf("Observed only, it would have been refused: %s", [refusal.message])
}

refused(why, policies) := {
	"contract": 1,
	"revision": scope.revision,
	"sequence": scope.sequence,
	"valid_until": null,
	"allow": false,
	"level": "restricted",
	"enforcement": "enforce",
	"policies": policies,
	"reasons": why,
	"classification": {"columns": [], "unreviewed": "mask"},
	"masks": {"unreviewed": masks.redact},
	"row_filters": [],
	"limits": limits.none,
	"trusted": {"functions": [], "channels": []},
	"write_oracles": {"keys": "deny", "row_values": "deny"},
}
