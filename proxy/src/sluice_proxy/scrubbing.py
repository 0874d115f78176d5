"""Errors of the server whose primary text may reach a restricted client: it names things, never values. Data."""

from __future__ import annotations

from typing import Final

# Triggers raise these with texts of their own; PostgreSQL's own routines name column, constraint and table only.
_CONSTRAINTS: Final = frozenset(
    {
        ("23502", "ExecConstraints"),
        ("23502", "ReportNotNullViolationError"),
        ("23502", "ExecEvalConstraintNotNull"),
        ("23503", "ri_ReportViolation"),
        ("23505", "_bt_check_unique"),
        ("23514", "ExecConstraints"),
        ("23514", "ExecPartitionCheckEmitError"),
        ("23514", "ExecEvalConstraintCheck"),
        ("23P01", "check_exclusion_or_unique_constraint"),
    }
)

_FIXED: Final = frozenset(
    (sqlstate, "*")
    for sqlstate in (
        "22012",  # division by zero
        "25P02",  # in failed transaction
        "40001",  # serialization failure
        "40P01",  # deadlock
        "53100",  # disk full
        "53200",  # out of memory
        "53300",  # too many connections
        "54001",  # statement too complex
        "57014",  # query canceled
        "57P01",  # admin shutdown
        "57P02",  # crash shutdown
        "57P03",  # cannot connect now
        "57P05",  # idle session timeout
        "25P03",  # idle in transaction timeout
    )
)

KEEP_PRIMARY: Final[frozenset[tuple[str, str]]] = (
    _CONSTRAINTS
    | _FIXED
    | frozenset(
        (sqlstate, "")
        for sqlstate in (
            "02000",  # no data
            "08P01",  # protocol violation
            "0A000",  # feature not supported
            "0LP01",  # invalid grant
            "25001",  # active transaction
            "25006",  # read-only transaction
            "25P01",  # no active transaction
            "26000",  # prepared statement does not exist
            "28000",  # invalid authorization
            "28P01",  # invalid password
            "2BP01",  # dependent objects
            "34000",  # cursor does not exist
            "3B001",  # savepoint does not exist
            "3D000",  # database does not exist
            "3F000",  # schema does not exist
            "42501",  # insufficient privilege
            "42601",  # syntax error: quotes the client's own statement
            "42701",  # duplicate column
            "42702",  # ambiguous column
            "42703",  # undefined column
            "42704",  # undefined object
            "42710",  # duplicate object
            "42712",  # duplicate alias
            "42723",  # duplicate function
            "42725",  # ambiguous function
            "42803",  # grouping error
            "42804",  # datatype mismatch
            "42809",  # wrong object type
            "42830",  # invalid foreign key
            "42846",  # cannot coerce
            "42883",  # undefined function
            "42P01",  # undefined table
            "42P02",  # undefined parameter
            "42P03",  # duplicate cursor
            "42P05",  # duplicate prepared statement
            "42P06",  # duplicate schema
            "42P07",  # duplicate table
            "42P10",  # invalid column reference
            "42P18",  # indeterminate datatype
            "42P19",  # invalid recursion
            "42P20",  # windowing error
            "53000",  # insufficient resources
            "54000",  # program limit
            "55000",  # object not in prerequisite state
            "55006",  # object in use
            "55P03",  # lock not available
        )
    )
)
"""(SQLSTATE, routine) pairs. All others get a text of Sluice's: 22P02 quotes values.

An empty routine is any, where the error speaks of the client's own statement: a function may build names of values.
``*`` is any, everywhere: the text is always the same.
"""
