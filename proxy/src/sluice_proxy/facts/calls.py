"""Function calls and operators: allow-listed names that nothing on the path shadows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sluice_proxy import allowlists
from sluice_proxy.catalog.model import Function
from sluice_proxy.facts import types
from sluice_proxy.facts.absent import is_absent, undefined
from sluice_proxy.facts.analysis import Analysis, constant_string, denied_function
from sluice_proxy.facts.callsites import extent, first_argument, kept_name
from sluice_proxy.facts.naming import Resolved, literal, quoted, resolve
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.rowtypes import aggregated
from sluice_proxy.facts.scopes import Level
from sluice_proxy.facts.setting_calls import setting as setting_call
from sluice_proxy.facts.traits import BOOL, TEXT, Trait, joined, leaking
from sluice_proxy.facts.tree import Node, strings

_Expression = Callable[[Analysis, Node | None, Level], Trait]
_walk: list[_Expression] = []
_free: list[Callable[[Analysis, Any], None]] = []

_ABSENT = "absent"
_TOTAL = frozenset(
    [
        "lower",
        "upper",
        "length",
        "char_length",
        "character_length",
        "octet_length",
        "bit_length",
        "btrim",
        "ltrim",
        "rtrim",
        "left",
        "right",
        "strpos",
        "starts_with",
        "reverse",
        "initcap",
        "ascii",
        "concat",
        "concat_ws",
        "md5",
        "position",
    ]
)
"""Functions over text that raise for no value."""
_CONFIGURED = (
    "to_ts",
    "plainto_ts",
    "phraseto_ts",
    "websearch_to_ts",
    "ts_",
    "json_to_ts",
    "jsonb_to_ts",
)
"""Text search takes the name of a configuration: a name, not a value."""
_RESULTS = dict.fromkeys(
    [
        *("length", "char_length", "character_length", "octet_length", "bit_length"),
        *("strpos", "position", "ascii"),
    ],
    "pg_catalog.int4",
) | {"starts_with": BOOL}
_SIZED_AS = {
    "pg_database_size": "0",
    "pg_stat_get_numscans": "0",
    "pg_tablespace_size": "0",
    "pg_sequence_last_value": "NULL",
}
"""What stands in the place of counts over more than one relation, of use, and of how far a sequence has come."""
_CLOCK = {
    "now": "pg_catalog.timestamptz",
    "transaction_timestamp": "pg_catalog.timestamptz",
    "statement_timestamp": "pg_catalog.timestamptz",
    "current_user": "pg_catalog.name",
    "session_user": "pg_catalog.name",
}


def bind(expression: _Expression, free: Callable[[Analysis, Any], None]) -> None:
    """Give the module its way back to the walker of expressions."""
    _walk[:] = [expression]
    _free[:] = [free]


def check_operator(a: Analysis, names: list[str]) -> None:
    """Check that an operator's name means PostgreSQL's own, or a known extension's.

    Raises:
        ClientError: A schema that is searched has one of that name.
    """
    if not a.enforcing or a.context.catalog is None:
        return
    key = tuple(names)
    if key in a.operators:
        return
    name = names[-1]
    schemas = a.context.catalog.operators.get(name, frozenset())
    searched = {names[0]} if len(names) > 1 else {*a.context.searchable, "pg_temp"}
    if schemas & searched:
        raise refused(
            f"permission denied for operator {'.'.join(names)}",
            detail=f"Schema {min(schemas & searched)} has an operator of this name, which may do anything.",
            hint=f"Write OPERATOR(pg_catalog.{name}), or take the schema off search_path.",
        )
    a.operators.add(key)


def call(a: Analysis, body: Node, level: Level) -> Trait:
    """Walk a call."""
    names = strings(body["funcname"])
    category = a.categories.get(tuple(names)) or _category(a, body, names)
    walk = _walk[0]
    if names[-1] == "array_agg":
        aggregated(a, body)
    parts = [walk(a, item, level) for item in body.get("args", ())]
    if category == _ABSENT:
        raise undefined(a, body, parts)
    parts += [walk(a, item, level) for item in body.get("agg_order", ())]
    if "agg_filter" in body:
        parts.append(walk(a, body["agg_filter"], level))
    if "over" in body:
        window(a, body["over"], level)
    if category == "values" and not names[-1].startswith(_CONFIGURED):
        for item in body.get("args", ()):
            _free[0](a, item)
    if a.enforcing:
        _special(a, body, names[-1], category, level)
    if "over" in body or _aggregate(a, body, names[-1]):
        whole = joined(parts)
        return Trait(
            refs=whole.refs, leaks=whole.leaks | whole.refs, barrier=True, columns=whole.columns
        )
    name = names[-1]
    if name in _CLOCK and not parts:
        return Trait(kind="const", base=_CLOCK[name])
    if (
        name in _TOTAL
        and category in ("values", "plain")
        and all(part.value for part in parts)
        and types.comparable(parts, any_type=True)
        and all(types.ordinary_collation(part) for part in parts)
    ):
        return joined(parts, kind="total", base=_RESULTS.get(name, TEXT))
    if category == "volatile":
        whole = leaking(parts)
        return Trait(refs=whole.refs, leaks=whole.leaks, leaks_anywhere=True, columns=whole.columns)
    return leaking(parts)


def window(a: Analysis, body: Node, level: Level) -> None:
    """Walk a window's definition."""
    walk = _walk[0]
    for name in ("partitionClause", "orderClause"):
        for item in body.get(name, ()):
            walk(a, item, level)
    for name in ("startOffset", "endOffset"):
        if name in body:
            walk(a, body[name], level)


def _aggregate(a: Analysis, body: Node, name: str) -> bool:
    return bool(body.get("agg_star") or body.get("agg_within_group")) or a.allow.is_aggregate(name)


def _category(a: Analysis, body: Node, names: list[str]) -> str:
    """Say what kind of function this is; a trusted or extension function is qualified in the text."""
    name = names[-1]
    if not a.enforcing or a.context.catalog is None:
        a.functions.add(".".join(names) if len(names) > 1 else f"pg_catalog.{name}")
        if a.context.decision.level > 0 and len(names) == 1 and a.allow.function(name) is None:
            a.functions.discard(f"pg_catalog.{name}")
            a.functions.add(name)
        return "plain"
    if len(names) > 2:
        raise not_understood("a function of another database")
    schema = names[0] if len(names) == 2 else None
    category = a.allow.function(name) or _notifying(a, body, name)
    if (category is None or schema not in (None, "pg_catalog")) and is_absent(a, schema, name):
        return _ABSENT
    if schema == "pg_catalog":
        if category is None:
            raise denied_function(f"pg_catalog.{name}")
        a.functions.add(f"pg_catalog.{name}")
        return _kept(a, names, category)
    if schema == "information_schema" and name in a.allow.information_functions:
        a.functions.add(f"information_schema.{name}")
        return "plain"
    catalog = a.context.catalog
    others = [
        function
        for function in catalog.functions.get(name, ())
        if (function.schema == schema if schema else function.schema in a.context.searchable)
    ]
    categories = [_harmless(a, function) for function in others]
    foreign = [function for function, kind in zip(others, categories, strict=True) if kind is None]
    if foreign:
        raise denied_function(f"{foreign[0].schema}.{name}")
    if schema is None and category is not None:
        a.functions.add(f"pg_catalog.{name}")
        return _kept(a, names, category)
    if not others:
        raise denied_function(name if schema is None else f"{schema}.{name}")
    owner = (
        next(item for item in a.context.searchable if any(f.schema == item for f in others))
        if schema is None
        else schema
    )
    a.functions.add(f"{owner}.{name}")
    if schema is None:
        index = a.tokens.at(body["location"])
        a.replace(index, a.tokens.name_end(index), f"{quoted(owner)}.{quoted(name)}")
    return "volatile" if "volatile" in categories else "plain"


def _kept(a: Analysis, names: list[str], category: str) -> str:
    """Remember a category that the name alone decides."""
    if names[-1] != "pg_notify":
        a.categories[tuple(names)] = category
    return category


def _notifying(a: Analysis, body: Node, name: str) -> str | None:
    """Take pg_notify for NOTIFY where it is a result column and its channel a trusted constant."""
    args = body.get("args", [])
    if name != "pg_notify" or len(args) != 2 or id(body) not in a.top_targets:
        return None
    if constant_string(args[0]) not in a.context.decision.trusted_channels:
        return None
    a.actions.add("listen")
    return "volatile"


def _harmless(a: Analysis, function: Function) -> str | None:
    """Return the category of a function outside of pg_catalog; None: denied."""
    if function.signature in a.context.decision.trusted_functions:
        return "volatile"
    return a.allow.extension_function(function)


def _special(a: Analysis, body: Node, name: str, category: str, level: Level) -> None:
    if category == "definition":
        before, after = allowlists.definition_sql("\x00").split("\x00")
        start, end = extent(a, body)
        a.around(start, end, before, after + kept_name(a, body, name))
    elif category == "size":
        _size(a, body, name)
    elif category == "sequence":
        _sequence(a, body, name)
    elif category == "setting":
        setting_call(a, body, name, level)
    elif category == "query_text":
        start, end = extent(a, body)
        text = a.tokens.text.decode("utf-8", "replace")
        a.exact = True
        a.replace(start, end, f"{literal(text)}::pg_catalog.text" + kept_name(a, body, name))


def _size(a: Analysis, body: Node, name: str) -> None:
    """Give a view in the place of governed tables, their indexes and TOAST: nothing is stored for it, its size is 0."""
    start, end = extent(a, body)
    nothing = _SIZED_AS.get(name)
    if nothing is not None:
        before = f"CASE WHEN true THEN {nothing}::pg_catalog.int8 ELSE"
        a.around(start, end, before, " END" + kept_name(a, body, name))
        return
    first, stop = first_argument(a, body)
    if stop == first:
        return
    oids = sorted(
        oid
        for oid, governed in a.governed.items()
        if governed.relation.schema not in ("pg_catalog", "information_schema") and _sized(governed)
    )
    listed = "ARRAY[" + ",".join(str(oid) for oid in oids) + "]::pg_catalog.oid[]"
    empty = "'pg_catalog.pg_views'" if name.endswith("_size") else "NULL"
    eq = "OPERATOR(pg_catalog.=)"
    hidden = (
        f"z.o::pg_catalog.oid {eq} ANY ({listed})"
        f" OR EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indexrelid {eq} z.o::pg_catalog.oid"
        f" AND i.indrelid {eq} ANY ({listed}))"
        f" OR EXISTS (SELECT FROM pg_catalog.pg_class t WHERE t.reltoastrelid {eq} z.o::pg_catalog.oid"
        f" AND t.oid {eq} ANY ({listed}))"
    )
    a.around(
        first,
        stop,
        f"(SELECT CASE WHEN {hidden} THEN {empty}::pg_catalog.regclass ELSE z.o END FROM (SELECT (",
        ")::pg_catalog.regclass AS o) z)",
    )


def _sized(governed: Any) -> bool:
    return bool(governed.filters or governed.masks or governed.denial)


def _sequence(a: Analysis, body: Node, name: str) -> None:
    if name in ("currval", "lastval") or not body.get("args"):
        return  # What this session's own nextval gave: RETURNING shows it as well.
    value = constant_string(body["args"][0])
    if value is None:
        _serial(a, body["args"][0], name)
        return
    schema, table = _parsed_name(value)
    _drawn(a, resolve(a.context, schema, table), value)


def _drawn(a: Analysis, resolved: Resolved, value: str) -> None:
    """Check that a sequence may be drawn from and set."""
    governed = a.governed.get(resolved.relation.oid) if resolved.relation else None
    if resolved.found and governed is None:
        return
    raise refused(
        f"permission denied for sequence {value}",
        detail="It counts rows that a policy hides."
        if governed
        else "It is not in the catalog that Sluice has read.",
        hint="Let the column's default draw from it: INSERT without the column, RETURNING what it got."
        if governed
        else "Check the sequence's name.",
    )


def _serial(a: Analysis, argument: Node, name: str) -> None:
    """Put the name of the sequence that a column owns in the place of pg_get_serial_sequence.

    Raises:
        ClientError: The argument is something else, or not constant.
    """
    while "TypeCast" in argument:
        argument = argument["TypeCast"]["arg"]
    call = argument.get("FuncCall", {})
    given = [constant_string(item) for item in call.get("args", ())]
    serial = strings(call.get("funcname"))[-1:] == ["pg_get_serial_sequence"]
    if not serial or len(given) != 2 or given[0] is None or given[1] is None:
        raise refused(
            f"permission denied for function {name}",
            detail="Which sequence is meant is not known before the statement runs.",
            hint="Name the sequence by a constant, or by pg_get_serial_sequence of constants.",
        )
    table, column = given[0], given[1]
    resolved = resolve(a.context, *_parsed_name(table))
    catalog = a.context.catalog
    start, end = extent(a, call)
    if resolved.relation is None or catalog is None:  # The session's own, or nowhere.
        first, stop = first_argument(a, call)
        a.replace(first, stop, f"{literal(resolved.sql)}::pg_catalog.text")
        return
    owner = (resolved.relation.oid, column)
    found = [each for each in catalog.by_oid.values() if each.owned_by == owner]
    text = "NULL"
    for each in found[:1]:
        sequence = Resolved(each.schema, each.name, each)
        _drawn(a, sequence, each.qualified)
        text = literal(sequence.sql)
    a.replace(start, end, f"{text}::pg_catalog.text")


def _parsed_name(value: str) -> tuple[str | None, str]:
    from sluice_proxy.facts.lexer import Tokens  # noqa: PLC0415 - the lexer needs no names

    tokens = Tokens(value.encode())
    end = tokens.name_end(0)
    first = tokens.name(0)
    if end == len(tokens):
        return None, first
    if tokens.raw(end) != b"." or tokens.name_end(end + 1) != len(tokens):
        raise not_understood("a name with more than two parts")
    return first, tokens.name(end + 1)
