# What OPA's own API answers: the two entry points and its health. Given to OPA beside the bundle, never inside one, and
# never under `sluice` or `sluice_data`: a bundle that owned this package could open the door again.
package system.authz

default allow := false

allow if {
	input.method == "POST"
	input.path in entry_points
	no_switches
}

allow if {
	input.method == "GET"
	input.path == ["health"]
}

entry_points := {
	["v1", "data", "sluice", "session", "decision"],
	["v1", "data", "sluice", "statement", "decision"],
}

# No `explain`, `instrument` or `strict-builtin-errors`: an answer is a decision, never its trace.
no_switches if count(object.get(input, "params", {})) == 0
