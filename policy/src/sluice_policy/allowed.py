"""The reviewed list of what an expression of a policy may use. Everything else is refused.

Each entry was checked against PostgreSQL 15's ``pg_proc``: not volatile, reads no relation, runs no
SQL text, and raises for no value of a row (what could raise does so only for arguments that are held
to literals here). Functions whose answer follows a setting that a session may change (TimeZone,
DateStyle, extra_float_digits) are left out, because whoever is filtered could turn that knob.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

TEXT, NUMBER, BOOL, TIME, OTHER, ANY = "text", "number", "boolean", "time", "other", "any"
"""What is known of a value's type without a catalog. ``any``: a column, NULL or an untyped literal;
``other``: some value that is no condition."""

LENGTH_MAX = 10_000
"""Characters that lpad, rpad and repeat may make of a short value."""

Check = Callable[[object], str | None]
"""Says what is wrong with a literal argument (a Python str, int, float, bool or None)."""


def _count(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LENGTH_MAX:
        return None
    return f"must be a literal whole number from 0 to {LENGTH_MAX}"


def _place(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LENGTH_MAX:
        return None
    return f"must be a literal whole number from 1 to {LENGTH_MAX}"


def _digits(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and -15 <= value <= 15:
        return None
    return "must be a literal whole number from -15 to 15"


def _integer(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LENGTH_MAX:
        return None
    return f"must be a literal whole number of at most {LENGTH_MAX}"


def nonzero(value: object) -> str | None:
    """For divisors: a value of the row could be zero, and the error would tell."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value != 0:
        return None
    return "must be a literal number other than 0"


def _text(value: object) -> str | None:
    return None if isinstance(value, str) else "must be a literal text"


def like_pattern(value: object) -> str | None:
    """For the right side of LIKE: a pattern that cannot raise."""
    if not isinstance(value, str):
        return "must be a literal pattern"
    if (len(value) - len(value.rstrip("\\"))) % 2:
        return "must not end in a single backslash"
    return None


def _flags(value: object) -> str | None:
    return None if isinstance(value, str) and set(value) <= set("gin") else "must be of g, i, n"


@dataclass(frozen=True, slots=True)
class Function:
    """One allowed function of pg_catalog."""

    least: int
    most: int
    gives: str
    literals: Mapping[int, Check] = field(default_factory=dict[int, Check])
    """Arguments (from 0) that must be literals, and which ones."""
    emitted: str | None = None
    """Its name when another spelling of the same is emitted."""


FUNCTIONS: Mapping[str, Function] = {
    "lower": Function(1, 1, TEXT),
    "upper": Function(1, 1, TEXT),
    "initcap": Function(1, 1, TEXT),
    "left": Function(2, 2, TEXT, {1: _integer}),
    "right": Function(2, 2, TEXT, {1: _integer}),
    "length": Function(1, 1, NUMBER),
    "char_length": Function(1, 1, NUMBER, emitted="length"),
    "character_length": Function(1, 1, NUMBER, emitted="length"),
    "octet_length": Function(1, 1, NUMBER),
    "btrim": Function(1, 2, TEXT, {1: _text}),
    "ltrim": Function(1, 2, TEXT, {1: _text}),
    "rtrim": Function(1, 2, TEXT, {1: _text}),
    "substr": Function(2, 3, TEXT, {1: _integer, 2: _count}),
    "substring": Function(2, 3, TEXT, {1: _integer, 2: _count}, emitted="substr"),
    "position": Function(2, 2, NUMBER, emitted="strpos"),
    "strpos": Function(2, 2, NUMBER),
    "split_part": Function(3, 3, TEXT, {1: _text, 2: _place}),
    "replace": Function(3, 3, TEXT),
    "translate": Function(3, 3, TEXT, {1: _text, 2: _text}),
    "reverse": Function(1, 1, TEXT),
    "lpad": Function(2, 3, TEXT, {1: _count, 2: _text}),
    "rpad": Function(2, 3, TEXT, {1: _count, 2: _text}),
    "repeat": Function(2, 2, TEXT, {0: _text, 1: _count}),
    "starts_with": Function(2, 2, BOOL),
    "textcat": Function(2, 2, TEXT),
    "regexp_replace": Function(3, 4, TEXT, {1: _text, 2: _text, 3: _flags}),
    "abs": Function(1, 1, NUMBER),
    "ceil": Function(1, 1, NUMBER),
    "ceiling": Function(1, 1, NUMBER, emitted="ceil"),
    "floor": Function(1, 1, NUMBER),
    "round": Function(1, 2, NUMBER, {1: _digits}),
    "trunc": Function(1, 2, NUMBER, {1: _digits}),
    "sign": Function(1, 1, NUMBER),
    "mod": Function(2, 2, NUMBER, {1: nonzero}),
}
"""Immutable, for filters and masks."""

SETTING = "current_setting"
"""Stable, for filters only; one call for each statement, never one for each row."""

REASONS: Mapping[str, str] = {
    "md5": "an unkeyed hash can be searched; use mask: hash",
    "sha256": "an unkeyed hash can be searched; use mask: hash",
    "sha512": "an unkeyed hash can be searched; use mask: hash",
    "hashtext": "an unkeyed hash can be searched; use mask: hash",
    "concat": "its result follows session settings; use ||",
    "concat_ws": "its result follows session settings; use ||",
    "format": "its result follows session settings; use ||",
    "to_char": "its result follows session settings",
    "date_trunc": "its result follows the session's TimeZone; use mask: year",
    "date_part": "its result follows the session's TimeZone; use mask: year",
    "extract": "its result follows the session's TimeZone; use mask: year",
    "timezone": "its result follows the session's TimeZone",
    "like_escape": "LIKE takes no ESCAPE here; write the backslash",
    "random": "it is volatile",
    "nextval": "it is volatile",
    "set_config": "it is volatile",
    "pg_sleep": "it is volatile",
    "clock_timestamp": "it is volatile",
}
"""Why well-known functions are not on the list."""

COMPARISONS = frozenset({"=", "<>", "<", "<=", ">", ">="})
LIKES = frozenset({"~~", "!~~", "~~*", "!~~*"})
REGEXES = frozenset({"~", "!~", "~*", "!~*"})
ARITHMETIC = frozenset({"+", "-", "*", "/", "%"})
DIVISIONS = frozenset({"/", "%"})
CONTAINMENTS = frozenset({"@>", "<@", "&&", "?"})
JSON_STEPS: Mapping[str, str] = {"->": OTHER, "->>": TEXT}
OPERATORS = frozenset(
    {*COMPARISONS, *LIKES, *REGEXES, *ARITHMETIC, *CONTAINMENTS, *JSON_STEPS, "||"}
)

TYPES: Mapping[str, str] = {
    "text": TEXT,
    "varchar": TEXT,
    "bpchar": TEXT,
    "int2": NUMBER,
    "int4": NUMBER,
    "int8": NUMBER,
    "numeric": NUMBER,
    "float4": NUMBER,
    "float8": NUMBER,
    "bool": BOOL,
    "date": TIME,
    "timestamp": TIME,
    "timestamptz": TIME,
    "time": TIME,
    "interval": TIME,
    "uuid": OTHER,
    "jsonb": OTHER,
    "inet": OTHER,
    "cidr": OTHER,
}
"""Types of pg_catalog that a literal may be given, and a value of the same class cast to."""

_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
TIME_LITERALS: Mapping[str, str] = {
    "date": _DAY,
    "timestamp": rf"{_DAY}[ T]{_CLOCK}",
    "timestamptz": rf"{_DAY}[ T]{_CLOCK} ?(Z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)",
    "time": _CLOCK,
    "interval": r"[0-9]{1,6} (second|minute|hour|day|week|month|year)s?",
}
"""Forms of time that read the same whatever DateStyle, TimeZone and IntervalStyle a session sets."""

TIME_EXAMPLES: Mapping[str, str] = {
    "date": "2024-01-31",
    "timestamp": "2024-01-31 12:00",
    "timestamptz": "2024-01-31 12:00+00",
    "time": "12:00",
    "interval": "90 days",
}

AMBIGUOUS_DATE = r"[0-9]{1,2}/[0-9]{1,2}/[0-9]{2,4}.*"
"""A literal that DateStyle turns into one day or another."""

TYPMODS: Mapping[str, int] = {"varchar": 1, "bpchar": 1, "numeric": 2}
"""How many modifiers (lengths, digits) a type may carry here."""

SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "oid"})

HIDDEN_SCHEMAS = ("pg_", "information_schema")
"""Schemas (by prefix) whose relations no sub-select may read."""
