# What the statement needs a right for.
package sluice.needs

import data.sluice.classes
import data.sluice.rules

actions := {action | some action in input.statement.actions}

unknown_actions := actions - rules.known_actions

# Actions that no table stands for.
wide := actions & {"call", "listen", "session"}

# Actions that a statement without any relation shares with every session.
free := {"select", "copyOut", "explain", "session"}

# Actions that a table needs, by its index. A table that is only read always needs a reading action.
by_table[i] := needed(table.access) | (actions & {"explain"}) if some i, table in input.statement.tables

needed("read") := read

needed("write") := written

needed("readwrite") := written | (actions & rules.reading)

read := actions & rules.reading if {
	actions & rules.reading != set()
} else := {"select"}

written := actions & rules.writing if {
	actions & rules.writing != set()
} else := actions

# Classes read, by the table's index: what facts say, and what their columns say.
read_classes[i] := listed | of_columns if {
	some i, table in input.statement.tables
	listed := {class | some class in table.classes}
	of_columns := {column.class |
		some column in table.columns
		column.access == "read"
		column.class != null
	}
}

# Classes touched in any way, for denials.
touched_classes[i] := read_classes[i] | {column.class |
	some column in table.columns
	column.class != null
} if {
	some i, table in input.statement.tables
}

keys[class] := classes.covering(class) if {
	some i
	some class in touched_classes[i]
}

# One need is [table index, action, class]; class "" is the table itself, index -1 the statement itself.
all_needs := (of_tables | of_classes) | of_statement

of_tables := {[i, action, ""] | some i; some action in by_table[i]}

of_classes := {[i, action, class] | some i; some action in by_table[i]; some class in read_classes[i]}

# Some action must be allowed by somebody even when there is no table: BEGIN, SHOW, SELECT 1.
of_statement := {[-1, action, ""] | some action in needed_wide} if {
	count(needed_wide) > 0
} else := {[-1, "session", ""]} if {
	count(input.statement.tables) == 0
} else := set()

needed_wide := (actions - free) - used

used := {action | some i; some action in by_table[i]}
