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
by_table[t] := needed(table.access) | (actions & {"explain"}) if some t, table in input.statement.tables

needed("read") := read

needed("write") := written

needed("readwrite") := written | (actions & rules.reading)

read := actions & rules.reading if {
	actions & rules.reading != set()
} else := {"select"}

written := actions & rules.writing if {
	actions & rules.writing != set()
} else := actions

# Tables by the action that they need.
tables_by_action := {action: {t | some t, also in by_table; action in also} | some needed_actions in by_table; some action in needed_actions}

# Classes read, by the table's index: what facts say, and what their columns say. "" stands for the table itself.
read_classes[t] := ({""} | listed) | of_columns if {
	some t, table in input.statement.tables
	listed := {class | some class in table.classes}
	of_columns := {column.class |
		some column in table.columns
		column.access == "read"
		column.class != null
	}
}

# Patterns that are sure to mean the table. Where a name holds more than one dot nobody can tell schema from table, and
# only `*.*` is sure.
sure[t] := {"*", "*.*", table.name, sprintf("%s.*", [schema]), sprintf("*.%s", [name])} if {
	some t, table in input.statement.tables
	[schema, name] := split(table.name, ".")
}

sure[t] := {"*", "*.*"} if {
	some t, table in input.statement.tables
	count(split(table.name, ".")) != 2
}

surely_like(pattern, t) if {
	pattern in sure[t]
} else if {
	sure[t][input.statement.tables[t].name]
	rules.like(pattern, input.statement.tables[t].name)
}

# One need is [table index, action, class]; index -1 is the statement itself.
all_needs := of_tables | of_statement

of_tables := {[t, action, class] | some t; some action in by_table[t]; some class in read_classes[t]}

# Some action must be allowed by somebody even when there is no table: BEGIN, SHOW, SELECT 1.
of_statement := {[-1, action, ""] | some action in needed_wide} if {
	count(needed_wide) > 0
} else := {[-1, "session", ""]} if {
	count(input.statement.tables) == 0
} else := set()

needed_wide := (actions - free) - used

used := {action | some t; some action in by_table[t]}

# What denials look at: every table that an action may concern, and the statement itself (index -1), by action.
touched_by_action := {action: {t | some [t, also] in touched; also == action} | some [_, action] in touched}

touched := on_tables | on_statement

on_tables := {[t, action] |
	some t, needed_actions in by_table
	some action in ((needed_actions | wide) | unknown_actions)
}

on_statement := {[-1, action] | some action in (actions | used)}

# Names that cover classes touched in any way, read or written, by the table's index.
touched_names[t] := {name |
	some class in (read_classes[t] | {column.class | some column in table.columns; column.class != null})
	class != ""
	some name in classes.covering(class)
} if {
	some t, table in input.statement.tables
}
