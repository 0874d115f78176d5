"""pglast's nodes → fragments. Each kind of node that is known has one method; no other passes."""

from __future__ import annotations

import re
from typing import Any, cast

from sluice_policy import allowed
from sluice_policy.allowed import ANY, BOOL, NUMBER, OTHER, TEXT, TIME
from sluice_policy.fragments import Column, Fragment, joined, literal_text, quoted, separated
from sluice_policy.nodes import WORDS, RefusedError, kind_of, read_type, strings, value_of

ITEMS_MAX = 256
"""Items of one IN list or array."""

NODES_MAX = 4000
"""Size of what is emitted: rewriting IN, BETWEEN and CASE repeats an operand."""

_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")

_BOOLEAN_TESTS = ("TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "UNKNOWN", "NOT UNKNOWN")

_VALUE_FUNCTIONS = {
    "SVFOP_CURRENT_TIMESTAMP": ("pg_catalog.now()", TIME),
    "SVFOP_CURRENT_ROLE": ("CURRENT_USER", TEXT),
    "SVFOP_CURRENT_USER": ("CURRENT_USER", TEXT),
    "SVFOP_USER": ("CURRENT_USER", TEXT),
    "SVFOP_SESSION_USER": ("SESSION_USER", TEXT),
}


class ScalarEmitter:
    """Emits one expression.

    Args:
        stable: Whether stable functions may be used; without it only immutable ones.
        scope: The alias whose columns unqualified names are, inside a sub-select, and the other
            names by which the expression may call it.
    """

    def __init__(
        self,
        *,
        stable: bool,
        scope: tuple[str, frozenset[str]] | None = None,
    ) -> None:
        self._stable = stable
        self._scope = scope

    def emit(self, node: Any) -> Fragment:
        """Write one node anew.

        Raises:
            RefusedError: It, or something in it, is not allowed.
        """
        method = getattr(self, f"_emit_{kind_of(node)}", None)
        if method is None:
            raise RefusedError(f"{WORDS.get(kind_of(node), kind_of(node))} cannot be used here")
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
            if re.fullmatch(allowed.AMBIGUOUS_DATE, value, re.DOTALL):
                raise RefusedError(
                    "write dates as 2024-01-31: others follow the session's DateStyle"
                )
            return Fragment((literal_text(value),), literal=True, constant=True)
        if isinstance(value, int | float):
            text = str(node.val.ival if isinstance(value, int) else node.val.fval)
            text = f"({text})" if text.startswith("-") else text
            return Fragment((text,), NUMBER, literal=True, constant=True)
        raise RefusedError("this kind of literal cannot be used here")

    def _emit_ColumnRef(self, node: Any) -> Fragment:  # noqa: N802
        fields = cast("tuple[Any, ...]", node.fields)
        if any(kind_of(field) != "String" for field in fields):
            raise RefusedError("* is no single value")
        names = strings(fields)
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
        items = [self.condition(arg) for arg in cast("tuple[Any, ...]", node.args)]
        match str(node.boolop.name):
            case "NOT_EXPR":
                return joined("(NOT ", items[0], ")", gives=BOOL)
            case "AND_EXPR":
                return joined("(", *separated(items, " AND "), ")", gives=BOOL)
            case _:
                return joined("(", *separated(items, " OR "), ")", gives=BOOL)

    def condition(self, node: Any) -> Fragment:
        """Write a node that must be a condition."""
        fragment = self.emit(node)
        if fragment.gives not in (BOOL, ANY):
            raise RefusedError("AND, OR, NOT and WHEN take conditions, not values")
        return fragment

    def _emit_NullTest(self, node: Any) -> Fragment:  # noqa: N802
        word = "IS NULL" if str(node.nulltesttype.name) == "IS_NULL" else "IS NOT NULL"
        return joined("(", self.emit(node.arg), f" {word})", gives=BOOL)

    def _emit_BooleanTest(self, node: Any) -> Fragment:  # noqa: N802
        word = _BOOLEAN_TESTS[int(node.booltesttype)]
        return joined("(", self.condition(node.arg), f" IS {word})", gives=BOOL)

    def _emit_CaseExpr(self, node: Any) -> Fragment:  # noqa: N802
        # CASE x WHEN y looks = up along the search path; CASE WHEN x = y is the same, qualified.
        subject = None if node.arg is None else self.emit(node.arg)
        pieces: list[str | Fragment] = ["(CASE"]
        results: list[Fragment] = []
        for when in cast("tuple[Any, ...]", node.args):
            test = self._case_test(subject, when.expr)
            results.append(self.emit(when.result))
            pieces += [" WHEN ", test, " THEN ", results[-1]]
        if node.defresult is not None:
            results.append(self.emit(node.defresult))
            pieces += [" ELSE ", results[-1]]
        return joined(*pieces, " END)", gives=_common(results))

    def _case_test(self, subject: Fragment | None, node: Any) -> Fragment:
        if subject is None:
            return self.condition(node)
        return self._binary("=", subject, self.emit(node))

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
        words = strings(names)
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
            if not {left.gives, right.gives} <= {TEXT, ANY}:
                raise RefusedError("|| joins texts here, nothing else")
            # textcat takes text alone: with || a date would be printed as the session's DateStyle says.
            return joined("pg_catalog.textcat(", left, ", ", right, ")", gives=TEXT)
        return self._binary(symbol, left, right)

    def _binary(self, symbol: str, left: Fragment, right: Fragment) -> Fragment:
        gives = BOOL
        if symbol in allowed.ARITHMETIC:
            known = _common([left, right])
            gives = OTHER if known == ANY else known
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
        negated = strings(node.name)[-1] == "<>"
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
        if kind_of(right) == "SubLink" and str(right.subLinkType.name) == "ARRAY_SUBLINK":
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
        words = strings(node.funcname)
        name = words[-1]
        if len(words) > 1 and words[:-1] != ["pg_catalog"]:
            raise RefusedError(f"the function {'.'.join(words)} is not PostgreSQL's own")
        plain = not (
            node.agg_star or node.agg_distinct or node.agg_within_group or node.func_variadic
            or node.agg_order or node.agg_filter or node.over
        )  # fmt: skip
        arguments = cast("tuple[Any, ...]", node.args or ())
        if not plain or any(kind_of(argument) == "NamedArgExpr" for argument in arguments):
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
        text, gives = read_type(node.typeName)
        value = self.emit(node.arg)
        if gives == TIME and value.literal:
            self._time_literal(text.removeprefix("pg_catalog."), value_of(node.arg))
        if not value.constant and (value.gives != gives or gives not in (TEXT, NUMBER)):
            raise RefusedError(
                f"a value of the row cannot be cast to {text.removeprefix('pg_catalog.')}: for some "
                "values the cast may fail and show them, or follow session settings; cast the other side"
            )
        if value.constant and not value.literal and TIME in (gives, value.gives):
            raise RefusedError("times are literals here: a cast follows TimeZone and DateStyle")
        pieces = ("(", value, f")::{text}") if value.literal else (value, f"::{text}")
        return joined("(", *pieces, ")", gives=gives)

    def _time_literal(self, name: str, value: object) -> None:
        form = allowed.TIME_LITERALS[name]
        if value is not None and not (isinstance(value, str) and re.fullmatch(form, value)):
            raise RefusedError(
                f"write a {name} as {allowed.TIME_EXAMPLES[name]}: other forms follow session settings"
            )

    # --- sub-selects, in subselects.py

    def _membership(self, left: Fragment, select: Any) -> Fragment:
        raise NotImplementedError


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
