# Hours of rules, in the wall-clock time of their zone. The clock is the caller's, never OPA's own.
package sluice.windows

import data.sluice.scope
import data.sluice_data

minute_ns := 60000000000

quarter_ns := 900000000000

day_minutes := 1440

weekdays := {
	"Monday": 1, "Tuesday": 2, "Wednesday": 3, "Thursday": 4,
	"Friday": 5, "Saturday": 6, "Sunday": 7,
}

# Timetables of every rule that selects the identity, in whatever mode.
timetables contains sluice_data.policies[i].rules[_].when if some i, _ in scope.selection

zones := {when.time_zone | some when in timetables}

# Wall-clock time by zone. A zone that OPA does not know has none.
wall[zone] := {"minute": minute_of_day(input.clock.now_ns, zone), "day": day} if {
	some zone in zones
	day := weekdays[time.weekday([input.clock.now_ns, zone])]
}

minute_of_day(ns, zone) := (hour * 60) + minute if {
	[hour, minute, _] := time.clock([ns, zone])
}

# Hours at which allow rules hold (null: all): inside for certain.
open contains null

open contains when if {
	input.clock.trusted
	some when in timetables
	inside(when)
}

# Hours at which deny rules do not hold: outside for certain.
shut contains when if {
	input.clock.trusted
	some when in timetables
	wall[when.time_zone]
	not inside(when)
}

inside(when) if {
	now := wall[when.time_zone]
	some window in when.windows
	in_window(window, now.minute, now.day)
}

in_window(window, minute, day) if {
	window.from < window.to
	day in window.days
	minute >= window.from
	minute < window.to
}

# Over midnight: the evening belongs to the day it began on.
in_window(window, minute, day) if {
	window.from >= window.to
	day in window.days
	minute >= window.from
}

in_window(window, minute, day) if {
	window.from >= window.to
	(((day + 5) % 7) + 1) in window.days
	minute < window.to
}

# The next moment at which a window opens or closes; never later than the true one.
valid_until := min(next_changes) if {
	count(next_changes) > 0
} else := null

next_changes contains change if {
	some when in timetables
	zone := when.time_zone
	now := wall[zone]
	some window in when.windows
	some edge in [window.from, window.to]
	change := next_change(edge % day_minutes, now.minute, zone)
}

next_change(edge, minute, zone) := change if {
	elapsed := (((edge - minute) + day_minutes) - 1) % day_minutes
	this_minute := input.clock.now_ns - (input.clock.now_ns % minute_ns)
	straight := this_minute + ((elapsed + 1) * minute_ns)
	change := before_shift(straight, edge, zone)
}

# When daylight saving shifts the wall clock before the edge, ask again at every quarter of an hour: that is where
# zones shift.
before_shift(straight, edge, zone) := straight if {
	minute_of_day(straight, zone) == edge
} else := (input.clock.now_ns - (input.clock.now_ns % quarter_ns)) + quarter_ns
