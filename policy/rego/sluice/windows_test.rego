package sluice.windows_test

import data.sluice.fixtures_test as f

utc(text) := time.parse_rfc3339_ns(text)

window(days, from, to) := {"days": days, "from": from, "to": to}

every_day := [1, 2, 3, 4, 5, 6, 7]

hours(zone, windows) := {"text": "as written", "time_zone": zone, "windows": windows}

allowing(when) := f.policy({"rules": [object.union(f.allow_all, {"when": when})]})

denying(when) := [f.steward, f.policy({"rules": [{"name": "no", "effect": "deny", "actions": ["select"], "when": when}]})]

night := hours("UTC", [window(every_day, 1320, 360)])

friday_night := hours("UTC", [window([5], 1320, 360)])

two := hours("UTC", [window([1], 480, 720), window([1], 780, 1080)])

whole_day := hours("UTC", [window([6, 7], 0, 1440)])

berlin_night := hours("Europe/Berlin", [window([7], 90, 150)])

moments := {
	"before the morning": {"when": f.office, "at": "2026-11-23T06:59:59Z", "inside": false, "until": "2026-11-23T07:00:00Z"},
	"the first moment": {"when": f.office, "at": "2026-11-23T07:00:00Z", "inside": true, "until": "2026-11-23T17:00:00Z"},
	"the last moment": {"when": f.office, "at": "2026-11-23T16:59:59Z", "inside": true, "until": "2026-11-23T17:00:00Z"},
	"the first moment after": {"when": f.office, "at": "2026-11-23T17:00:00Z", "inside": false, "until": "2026-11-24T07:00:00Z"},
	"saturday": {"when": f.office, "at": "2026-11-28T10:00:00Z", "inside": false, "until": "2026-11-28T17:00:00Z"},
	"summer time": {"when": f.office, "at": "2026-07-01T06:00:00Z", "inside": true, "until": "2026-07-01T16:00:00Z"},
	"before midnight": {"when": night, "at": "2026-11-23T23:30:00Z", "inside": true, "until": "2026-11-24T06:00:00Z"},
	"after midnight": {"when": night, "at": "2026-11-23T05:59:00Z", "inside": true, "until": "2026-11-23T06:00:00Z"},
	"by day": {"when": night, "at": "2026-11-23T06:00:00Z", "inside": false, "until": "2026-11-23T22:00:00Z"},
	"friday's night on saturday": {"when": friday_night, "at": "2026-11-28T03:00:00Z", "inside": true, "until": "2026-11-28T06:00:00Z"},
	"saturday's night": {"when": friday_night, "at": "2026-11-28T23:00:00Z", "inside": false, "until": "2026-11-29T06:00:00Z"},
	"sunday's night on monday": {"when": hours("UTC", [window([7], 1320, 360)]), "at": "2026-11-23T03:00:00Z", "inside": true, "until": "2026-11-23T06:00:00Z"},
	"lunch": {"when": two, "at": "2026-11-23T12:30:00Z", "inside": false, "until": "2026-11-23T13:00:00Z"},
	"afternoon": {"when": two, "at": "2026-11-23T13:30:00Z", "inside": true, "until": "2026-11-23T18:00:00Z"},
	"whole day": {"when": whole_day, "at": "2026-11-28T23:59:59Z", "inside": true, "until": "2026-11-29T00:00:00Z"},
	"not that day": {"when": whole_day, "at": "2026-11-23T12:00:00Z", "inside": false, "until": "2026-11-24T00:00:00Z"},
	"before clocks go forward": {"when": berlin_night, "at": "2026-03-29T00:50:00Z", "inside": true, "until": "2026-03-29T01:00:00Z"},
	"after clocks went forward": {"when": berlin_night, "at": "2026-03-29T01:00:00Z", "inside": false, "until": "2026-03-29T23:30:00Z"},
	"before clocks go back": {"when": berlin_night, "at": "2026-10-25T00:20:00Z", "inside": true, "until": "2026-10-25T00:30:00Z"},
	"between": {"when": berlin_night, "at": "2026-10-25T00:40:00Z", "inside": false, "until": "2026-10-25T00:45:00Z"},
	"the hour again": {"when": berlin_night, "at": "2026-10-25T01:00:00Z", "inside": true, "until": "2026-10-25T01:30:00Z"},
}

test_timed_allow[name] if {
	some name, case in moments
	decision := f.decide(f.shop, [allowing(case.when)], f.at(utc(case.at), true))
	decision.allow == case.inside
	decision.valid_until == utc(case.until)
}

test_timed_deny[name] if {
	some name, case in moments
	decision := f.decide(f.shop, denying(case.when), f.at(utc(case.at), true))
	decision.allow != case.inside
	decision.valid_until == utc(case.until)
}

test_doubtful_clock_refuses_timed_allows_and_holds_timed_denies[name] if {
	some name, case in moments
	asked := f.at(utc(case.at), false)
	decision := f.decide(f.shop, [allowing(case.when)], asked)
	not decision.allow
	contains(decision.reasons[0].message, "the clock cannot be trusted now")
	not f.decide(f.shop, denying(case.when), asked).allow
	f.decide(f.shop, [f.steward], asked).allow
}

test_unknown_zone_refuses_allows_and_holds_denies if {
	nowhere := hours("Europe/Nowhere", [window(every_day, 0, 1440)])
	decision := f.decide(f.shop, [allowing(nowhere)], f.base)
	not decision.allow
	decision.valid_until == null
	not f.decide(f.shop, denying(nowhere), f.base).allow
}

test_refusal_out_of_hours_names_rule_and_hours if {
	decision := f.decide(f.shop, [f.support], f.at(utc("2026-11-23T20:00:00Z"), true))
	decision.reasons == [{
		"policy": "shop/support", "rule": "read", "effect": "deny",
		"message": "Rule read of policy shop/support allows this only at Mon-Fri 08:00-18:00 (Europe/Berlin).",
	}]
}

test_hours_of_policies_for_others_do_not_count if {
	other := object.union(allowing(f.office), {"name": "shop/q", "subjects": [{"workload": {"namespaces": ["x"]}}]})
	f.decide(f.shop, [f.steward, other], f.base).valid_until == null
}
