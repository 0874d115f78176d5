"""pglast's nodes → fragments. Each kind of node that is known has one method; no other passes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

from sluice_policy import allowed
from sluice_policy.allowed import ANY, BOOL, NUMBER, OTHER, TEXT, TIME
from sluice_policy.fragments import Column, Fragment, joined, literal_text, quoted, separated

ITEMS_MAX = 256
"""Items of one IN list or array."""

NODES_MAX = 4000
"""Size of what is emitted: rewriting IN, BETWEEN and CASE repeats an operand."""

_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?|\.[0-9]+([eE][-+]?[0-9]+)?")
_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")

_BOOLEAN_TESTS = ("TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "UNKNOWN", "NOT UNKNOWN")

_VALUE_FUNCTIONS = {
    "SVFOP_CURRENT_TIMESTAMP": ("pg_catalog.now()", TIME),
    "SVFOP_CURRENT_ROLE": ("CURRENT_USER", TEXT),
    "SVFOP_CURRENT_USER": ("CURRENT_USER", TEXT),
    "SVFOP_USER": ("CURRENT_USER", TEXT),
    "SVFOP_SESSION_USER": ("SESSION_USER", TEXT),
}

_SELECT_PARTS = (
    "targetList",
    "fromClause",
    "whereClause",
    "groupDistinct",
    "limitOption",
    "op",
    "all",
)


class RefusedError(Exception):
    """The expression uses what it may not; the text says what, for the policy's author."""


def _kind(node: Any) -> str:
    return type(node).__name__


def _strings(names: Any) -> list[str]:
    return [str(name.sval) for name in cast("tuple[Any, ...]", names)]


def value_of(node: Any) -> object:
    """The Python value of a literal; a special object when it is none."""
    if _kind(node) != "A_Const":
        return _NO_VALUE
    if node.isnull:
        return None
    match _kind(node.val):
        case "Integer":
            return int(node.val.ival)
        case "Float":
            text = str(node.val.fval)
            return float(text) if _NUMBER.fullmatch(text.lstrip("-")) else _NO_VALUE
        case "Boolean":
            return bool(node.val.boolval)
        case "String":
            return str(node.val.sval)
        case _:
            return _NO_VALUE


_NO_VALUE = object()


class Emitter:
    """Emits one expression.

    Args:
        tables: Says why a sub-select may not read a table; None: no sub-selects at all.
        stable: Whether stable functions may be used; without it only immutable ones.
        scope: The alias whose columns unqualified names are, inside a sub-select.
    """

    def __init__(
        self,
        *,
        tables: Callable[[str], str | None] | None,
        stable: bool,
        scope: tuple[str, frozenset[str]] | None = None,
    ) -> None:
        self._tables = tables
        self._stable = stable
        self._scope = scope
        self._subselects = 0

    def emit(self, node: Any) -> Fragment:
        """Write one node anew.

        Raises:
            RefusedError: It, or something in it, is not allowed.
        """
        method = getattr(self, f"_emit_{_kind(node)}", None)
        if method is None:
            raise RefusedError(f"{_WORDS.get(_kind(node), _kind(node))} cannot be used here")
        fragment = cast("Fragment", method(node))
        if fragment.nodes > NODES_MAX:
            raise RefusedError("too large when written out; shorten lists and repeated operands")
        return fragment

    # --- leaves

    def _emit_A_Const(self, node: Any) -> Fragment:  # noqa: N802
        value = value_of(node)
        if value is None:
            return Fragment(("NULL",), literal=True, constant=True)
        if isinstance(value, bool):
            return Fragment(("TRUE" if value else "FALSE",), BOOL, constant=True)
        if isinstance(value, str):
            return Fragment((literal_text(value),), literal=True, constant=True)
        if isinstance(value, int | float):
            text = str(node.val.ival if isinstance(value, int) else node.val.fval)
            text = f"({text})" if text.startswith("-") else text
            return Fragment((text,), NUMBER, literal=True, constant=True)
        raise RefusedError("this kind of literal cannot be used here")

    def _emit_ColumnRef(self, node: Any) -> Fragment:  # noqa: N802
        fields = cast("tuple[Any, ...]", node.fields)
        if any(_kind(field) != "String" for field in fields):
            raise RefusedError("* is no single value")
        names = _strings(fields)
        name = names[-1]
        if name in allowed.SYSTEM_COLUMNS:
            raise RefusedError(f"the system column {name} cannot be used")
        if self._scope is None:
            if len(names) != 1:
                raise RefusedError(
                    f"write {name}, not {'.'.join(names)}: columns are those of the row itself"
                )
            return Fragment((Column(name),))
        alias, qualifiers = self._scope
        if len(names) > 1 and ".".join(names[:-1]) not in qualifiers:
            raise RefusedError(f"{'.'.join(names)} is no column of the sub-select's table")
        return Fragment((f"{alias}.{quoted(name)}",))

    def _emit_SQLValueFunction(self, node: Any) -> Fragment:  # noqa: N802
        name = str(node.op.name)
        if name not in _VALUE_FUNCTIONS or int(node.typmod) != -1:
            word = name.removeprefix("SVFOP_").lower()
            raise RefusedError(f"{word} cannot be used: its result follows session settings")
        self._need_stable("this function")
        text, gives = _VALUE_FUNCTIONS[name]
        return Fragment((text,), gives, constant=True)

    # --- logic

    def _emit_BoolExpr(self, node: Any) -> Fragment:  # noqa: N802
        items = [self._condition(arg) for arg in cast("tuple[Any, ...]", node.args)]
        match str(node.boolop.name):
            case "NOT_EXPR":
                return joined("(NOT ", items[0], ")", gives=BOOL)
            case "AND_EXPR":
                return joined("(", *separated(items, " AND "), ")", gives=BOOL)
            case _:
                return joined("(", *separated(items, " OR "), ")", gives=BOOL)

    def _condition(self, node: Any) -> Fragment:
        fragment = self.emit(node)
        if fragment.gives not in (BOOL, ANY):
            raise RefusedError("AND, OR, NOT and WHEN take conditions, not values")
        return fragment

    def _emit_NullTest(self, node: Any) -> Fragment:  # noqa: N802
        word = "IS NULL" if str(node.nulltesttype.name) == "IS_NULL" else "IS NOT NULL"
        return joined("(", self.emit(node.arg), f" {word})", gives=BOOL)

    def _emit_BooleanTest(self, node: Any) -> Fragment:  # noqa: N802
        word = _BOOLEAN_TESTS[int(node.booltesttype)]
        return joined("(", self._condition(node.arg), f" IS {word})", gives=BOOL)

    def _emit_CaseExpr(self, node: Any) -> Fragment:  # noqa: N802
        # CASE x WHEN y looks = up along the search path; CASE WHEN x = y is the same, qualified.
        subject = None if node.arg is None else self.emit(node.arg)
        pieces: list[str | Fragment] = ["(CASE"]
        results: list[Fragment] = []
        for when in cast("tuple[Any, ...]", node.args):
            if subject is None:
                test = self._condition(when.expr)
            else:
                test = self._binary("=", subject, self.emit(when.expr))
            results.append(self.emit(when.result))
            pieces += [" WHEN ", test, " THEN ", results[-1]]
        if node.defresult is not None:
            results.append(self.emit(node.defresult))
            pieces += [" ELSE ", results[-1]]
        return joined(*pieces, " END)", gives=_common(results))

    def _emit_CoalesceExpr(self, node: Any) -> Fragment:  # noqa: N802
        items = [self.emit(arg) for arg in cast("tuple[Any, ...]", node.args)]
        return joined("COALESCE(", *separated(items, ", "), ")", gives=_common(items))

    def _emit_MinMaxExpr(self, node: Any) -> Fragment:  # noqa: N802
        word = "GREATEST" if "GREATEST" in str(node.op.name) else "LEAST"
        items = [self.emit(arg) for arg in cast("tuple[Any, ...]", node.args)]
        return joined(f"{word}(", *separated(items, ", "), ")", gives=_common(items))

    # --- operators

    def _emit_A_Expr(self, node: Any) -> Fragment:  # noqa: N802
        kind = str(node.kind.name).removeprefix("AEXPR_")
        match kind:
            case "OP" | "LIKE" | "ILIKE":
                return self._operation(node)
            case "OP_ANY":
                return self._any(node)
            case "IN":
                return self._in(node)
            case "BETWEEN" | "NOT_BETWEEN":
                return self._between(node, negated=kind == "NOT_BETWEEN")
            case "DISTINCT" | "NOT_DISTINCT":
                return self._distinct(node, negated=kind == "NOT_DISTINCT")
            case "NULLIF":
                left, right = self.emit(node.lexpr), self.emit(node.rexpr)
                test = self._binary("=", left, right)
                gives = left.gives
                return joined("(CASE WHEN ", test, " THEN NULL ELSE ", left, " END)", gives=gives)
            case _:
                raise RefusedError(f"{kind.replace('_', ' ')} cannot be used here")

    def _operator(self, names: Any) -> str:
        words = _strings(names)
        symbol = words[-1]
        if len(words) > 1 and words[:-1] != ["pg_catalog"]:
            raise RefusedError(f"the operator {'.'.join(words)} is not PostgreSQL's own")
        if symbol not in allowed.OPERATORS:
            raise RefusedError(f"the operator {symbol} is not on the list of allowed ones")
        return symbol

    def _operation(self, node: Any) -> Fragment:
        symbol = self._operator(node.name)
        right = self.emit(node.rexpr)
        if node.lexpr is None:
            if symbol not in ("-", "+"):
                raise RefusedError(f"{symbol} needs two operands")
            return joined(f"(OPERATOR(pg_catalog.{symbol}) ", right, ")", gives=NUMBER)
        left = self.emit(node.lexpr)
        if symbol in allowed.LIKES:
            self._literal(f"the pattern of {_like_word(symbol)}", node.rexpr, allowed.like_pattern)
        if symbol in allowed.REGEXES and not isinstance(value_of(node.rexpr), str):
            raise RefusedError("a regular expression must be a literal")
        if symbol in allowed.DIVISIONS:
            self._literal(f"the divisor of {symbol}", node.rexpr, allowed.nonzero)
        if symbol == "||":
            # textcat takes text alone: with || a date would be printed as the session's DateStyle says.
            return joined("pg_catalog.textcat(", left, ", ", right, ")", gives=TEXT)
        return self._binary(symbol, left, right)

    def _binary(self, symbol: str, left: Fragment, right: Fragment) -> Fragment:
        gives = BOOL
        if symbol in allowed.ARITHMETIC:
            gives = _common([left, right])
        elif symbol in allowed.JSON_STEPS:
            gives = allowed.JSON_STEPS[symbol]
        return joined("(", left, f" OPERATOR(pg_catalog.{symbol}) ", right, ")", gives=gives)

    def _between(self, node: Any, *, negated: bool) -> Fragment:
        value = self.emit(node.lexpr)
        low, high = (self.emit(bound) for bound in cast("tuple[Any, ...]", node.rexpr))
        if negated:
            tests = (self._binary("<", value, low), " OR ", self._binary(">", value, high))
        else:
            tests = (self._binary(">=", value, low), " AND ", self._binary("<=", value, high))
        return joined("(", *tests, ")", gives=BOOL)

    def _distinct(self, node: Any, *, negated: bool) -> Fragment:
        left, right = self.emit(node.lexpr), self.emit(node.rexpr)
        null = "NULL" if negated else "NOT NULL"
        other = "FALSE" if negated else "TRUE"
        test = self._binary("=" if negated else "<>", left, right)
        return joined(
            "(CASE WHEN (", left, " IS NULL) THEN (", right, f" IS {null}) WHEN (", right,
            f" IS NULL) THEN {other} ELSE ", test, " END)", gives=BOOL,
        )  # fmt: skip

    def _in(self, node: Any) -> Fragment:
        left = self.emit(node.lexpr)
        negated = _strings(node.name)[-1] == "<>"
        items = cast("tuple[Any, ...]", node.rexpr)
        if len(items) > ITEMS_MAX:
            raise RefusedError(f"a list of more than {ITEMS_MAX} items; use a table")
        symbol, word = ("<>", " AND ") if negated else ("=", " OR ")
        tests = [self._binary(symbol, left, self.emit(item)) for item in items]
        return joined("(", *separated(tests, word), ")", gives=BOOL)

    def _any(self, node: Any) -> Fragment:
        symbol = self._operator(node.name)
        if symbol != "=":
            raise RefusedError("ANY goes with = alone")
        left = self.emit(node.lexpr)
        right: Any = node.rexpr
        if _kind(right) == "SubLink" and str(right.subLinkType.name) == "ARRAY_SUBLINK":
            return self._membership(left, right.subselect)
        return joined(
            "(", left, " OPERATOR(pg_catalog.=) ANY (", self.emit(right), "))", gives=BOOL
        )

    def _emit_A_ArrayExpr(self, node: Any) -> Fragment:  # noqa: N802
        elements = cast("tuple[Any, ...]", node.elements or ())
        if not elements or len(elements) > ITEMS_MAX:
            raise RefusedError(f"an array has 1 to {ITEMS_MAX} items here")
        items = [self.emit(element) for element in elements]
        return joined("ARRAY[", *separated(items, ", "), "]", gives=OTHER)

    # --- functions and casts

    def _emit_FuncCall(self, node: Any) -> Fragment:  # noqa: N802
        words = _strings(node.funcname)
        name = words[-1]
        if len(words) > 1 and words[:-1] != ["pg_catalog"]:
            raise RefusedError(f"the function {'.'.join(words)} is not PostgreSQL's own")
        plain = not (
            node.agg_star or node.agg_distinct or node.agg_within_group or node.func_variadic
            or node.agg_order or node.agg_filter or node.over
        )  # fmt: skip
        arguments = cast("tuple[Any, ...]", node.args or ())
        if not plain or any(_kind(argument) == "NamedArgExpr" for argument in arguments):
            raise RefusedError(f"{name}: aggregates, windows and named arguments cannot be used")
        if name == allowed.SETTING:
            return self._setting(arguments)
        if name == "now" and not arguments:
            self._need_stable("now()")
            return Fragment(("pg_catalog.now()",), TIME, constant=True)
        function = allowed.FUNCTIONS.get(name)
        if function is None:
            reason = allowed.REASONS.get(name, "it is not on the list of allowed ones")
            raise RefusedError(f"the function {name} cannot be used: {reason}")
        if not function.least <= len(arguments) <= function.most:
            raise RefusedError(
                f"the function {name} takes {function.least} to {function.most} arguments"
            )
        for position, check in function.literals.items():
            if position < len(arguments):
                self._literal(f"argument {position + 1} of {name}", arguments[position], check)
        items = [self.emit(argument) for argument in arguments]
        head = f"pg_catalog.{function.emitted or name}("
        return joined(head, *separated(items, ", "), ")", gives=function.gives)

    def _literal(self, what: str, node: Any, check: allowed.Check) -> None:
        if reason := check(value_of(node)):
            raise RefusedError(f"{what} {reason}")

    def _setting(self, arguments: tuple[Any, ...]) -> Fragment:
        self._need_stable(allowed.SETTING)
        name = value_of(arguments[0]) if arguments else None
        if not isinstance(name, str) or not _SETTING_NAME.fullmatch(name) or len(arguments) > 2:
            raise RefusedError("current_setting takes the literal name of a setting")
        if "." not in name:
            raise RefusedError(
                "current_setting reads settings of yours, which have a dot: app.tenant"
            )
        missing = ""
        if len(arguments) == 2:
            if not isinstance(value := value_of(arguments[1]), bool):
                raise RefusedError("the second argument of current_setting is true or false")
            missing = f", {str(value).upper()}"
        text = f"(SELECT pg_catalog.current_setting({literal_text(name)}{missing}))"
        return Fragment((text,), TEXT, constant=True)

    def _need_stable(self, what: str) -> None:
        if not self._stable:
            raise RefusedError(f"{what} is not immutable; a mask's value depends on its row alone")

    def _emit_TypeCast(self, node: Any) -> Fragment:  # noqa: N802
        text, gives = _type(node.typeName)
        value = self.emit(node.arg)
        if not value.constant and (value.gives != gives or gives not in (TEXT, NUMBER)):
            raise RefusedError(
                f"a value of the row cannot be cast to {text.removeprefix('pg_catalog.')}: for some "
                "values the cast may fail and show them, or follow session settings; cast the other side"
            )
        if value.constant and not value.literal and not self._stable:
            raise RefusedError("a mask's expression casts literals alone")
        pieces = ("(", value, f")::{text}") if value.literal else (value, f"::{text}")
        return joined("(", *pieces, ")", gives=gives)

    # --- sub-selects

    def _emit_SubLink(self, node: Any) -> Fragment:  # noqa: N802
        kind = str(node.subLinkType.name)
        if kind == "EXPR_SUBLINK":
            return self._scalar(node.subselect)
        if kind != "ANY_SUBLINK" or (node.operName and _strings(node.operName)[-1] != "="):
            raise RefusedError(
                "sub-selects are written: column IN (SELECT column FROM schema.table …)"
            )
        if node.operName:
            self._operator(node.operName)
        return self._membership(self.emit(node.testexpr), node.subselect)

    def _scalar(self, select: Any) -> Fragment:
        """``(SELECT current_setting('…'))``: the form that is emitted, also accepted."""
        targets = cast("tuple[Any, ...]", getattr(select, "targetList", None) or ())
        only = self._parts_of(select) == {"targetList"} and len(targets) == 1
        call: Any = targets[0].val if only else None
        if _kind(call) != "FuncCall" or _strings(call.funcname)[-1] != allowed.SETTING:
            raise RefusedError(
                "sub-selects are written: column IN (SELECT column FROM schema.table …)"
            )
        return self.emit(call)

    def _parts_of(self, select: Any) -> set[str]:
        if _kind(select) != "SelectStmt" or int(select.op) != 0 or int(select.limitOption) != 0:
            return {"?"}
        names = cast("dict[str, Any]", select.__slots__)
        return {name for name in names if getattr(select, name) not in (None, (), False, 0)}

    def _membership(self, left: Fragment, select: Any) -> Fragment:
        if self._tables is None:
            raise RefusedError("a mask's expression has no sub-select: it sees its own row alone")
        if self._scope is not None:
            raise RefusedError("a sub-select inside a sub-select cannot be used")
        if unknown := self._parts_of(select) - set(_SELECT_PARTS):
            raise RefusedError(f"a sub-select has SELECT, FROM and WHERE alone, not {min(unknown)}")
        targets = cast("tuple[Any, ...]", select.targetList or ())
        origins = cast("tuple[Any, ...]", select.fromClause or ())
        if len(targets) != 1 or len(origins) != 1 or _kind(targets[0].val) != "ColumnRef":
            raise RefusedError("a sub-select reads one column of one table")
        self._subselects += 1
        table, qualifiers = self._table(origins[0])
        alias = f"f{self._subselects}"
        inner = Emitter(tables=self._tables, stable=self._stable, scope=(alias, qualifiers))
        pieces: list[str | Fragment] = [
            "(", left, " OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT ",
            inner.emit(targets[0].val), f" FROM {table} {alias}",
        ]  # fmt: skip
        if select.whereClause is not None:
            pieces += [" WHERE ", inner._condition(select.whereClause)]  # noqa: SLF001
        return joined(*pieces, ")))", gives=BOOL)

    def _table(self, origin: Any) -> tuple[str, frozenset[str]]:
        if _kind(origin) != "RangeVar" or origin.catalogname or not origin.inh:
            raise RefusedError("a sub-select reads one plain table of this database")
        if not origin.schemaname:
            raise RefusedError(
                f"write schema.{origin.relname}: names are not searched along a path"
            )
        schema, name = str(origin.schemaname), str(origin.relname)
        full = f"{schema}.{name}"
        if schema.startswith(allowed.HIDDEN_SCHEMAS):
            raise RefusedError(f"a sub-select cannot read {full}")
        assert self._tables is not None  # noqa: S101
        if reason := self._tables(full):
            raise RefusedError(reason)
        qualifiers = frozenset({name, full})
        if origin.alias is not None:
            if origin.alias.colnames:
                raise RefusedError("the sub-select's table has no list of column names")
            qualifiers = frozenset({str(origin.alias.aliasname)})
        return f"{quoted(schema)}.{quoted(name)}", qualifiers


def _common(items: list[Fragment]) -> str:
    known = {item.gives for item in items if item.gives != ANY}
    return (
        known.pop()
        if len(known) == 1
        and len(items) > 0
        and all(item.gives != ANY or item.literal for item in items)
        else ANY
    )


def _like_word(symbol: str) -> str:
    return "ILIKE" if symbol.endswith("*") else "LIKE"


def _type(node: Any) -> tuple[str, str]:
    """Qualified text of a type, and what class of values it has."""
    words = _strings(node.names)
    name = words[-1]
    if len(words) > 1 and words[:-1] != ["pg_catalog"]:
        raise RefusedError(f"the type {'.'.join(words)} is not PostgreSQL's own")
    if node.setof or node.pct_type or name not in allowed.TYPES:
        raise RefusedError(f"the type {name} is not on the list of allowed ones")
    modifiers = [value_of(modifier) for modifier in cast("tuple[Any, ...]", node.typmods or ())]
    numbers = [m for m in modifiers if isinstance(m, int) and not isinstance(m, bool)]
    if len(numbers) != len(modifiers) or len(numbers) > allowed.TYPMODS.get(name, 0):
        raise RefusedError(f"the type {name} cannot be given these modifiers")
    text = f"pg_catalog.{name}"
    if numbers:
        text += f"({', '.join(map(str, numbers))})"
    bounds = cast("tuple[Any, ...]", node.arrayBounds or ())
    if len(bounds) > 1:
        raise RefusedError("arrays have one dimension here")
    return (f"{text}[]", OTHER) if bounds else (text, allowed.TYPES[name])


_WORDS = {
    "ParamRef": "a parameter",
    "A_Indirection": "a subscript or field",
    "RowExpr": "a row",
    "CollateClause": "COLLATE",
    "XmlExpr": "XML",
    "SetToDefault": "DEFAULT",
    "GroupingFunc": "GROUPING",
    "NoneType": "nothing",
}
