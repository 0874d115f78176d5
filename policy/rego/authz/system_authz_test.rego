package system.authz_test

import data.system.authz

ask(method, path) := {"method": method, "path": path, "params": {}}

session := ["v1", "data", "sluice", "session", "decision"]

test_admitted[name] if {
	some name, request in {
		"session": ask("POST", session),
		"statement": ask("POST", ["v1", "data", "sluice", "statement", "decision"]),
		"health": ask("GET", ["health"]),
	}
	authz.allow with input as request
}

test_refused[name] if {
	some name, request in {
		"read a decision": ask("GET", session),
		"overwrite a decision": ask("PUT", session),
		"patch": ask("PATCH", ["v1", "data"]),
		"delete": ask("DELETE", ["v1", "data", "sluice_data"]),
		"all data": ask("POST", ["v1", "data"]),
		"library": ask("POST", ["v1", "data", "sluice", "scope"]),
		"below": ask("POST", array.concat(session, ["allow"])),
		"empty part": ask("POST", array.concat(session, [""])),
		"trace": object.union(ask("POST", session), {"params": {"explain": ["full"]}}),
		"health's plugins": ask("GET", ["health", "custom"]),
		"nothing": {},
	}
	not authz.allow with input as request
}
