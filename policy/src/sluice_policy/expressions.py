"""``where`` and ``mask: {expression: …}``: SQL text → closed, fully qualified parts, or a reason.

The text is parsed by PostgreSQL's own grammar and never used again: what comes out is written anew
from the tree, node by node, and a node that is not known here refuses the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pglast
import pglast.parser

from sluice_crds.masks import EXPRESSION_CHARS_MAX
from sluice_policy.allowed import ANY, BOOL
from sluice_policy.fragments import Fragment
from sluice_policy.nodes import RefusedError
from sluice_policy.subselects import Emitter

TOKENS_MAX = 1000
"""Tokens of one expression; with NESTING_MAX it keeps recursion shallow."""

NESTING_MAX = 40
"""Open parentheses, brackets and CASEs, and prefix operators, at one place."""

_REFUSED_TOKENS = {
    "SQL_COMMENT": "comments do not belong into an expression",
    "C_COMMENT": "comments do not belong into an expression",
    "ASCII_59": "an expression has no semicolon",
    "PARAM": "parameters ($1) mean nothing here",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an expression is not accepted."""

    message: str


def _check_tokens(text: str) -> None:
    if len(text) > EXPRESSION_CHARS_MAX:
        raise RefusedError(f"longer than {EXPRESSION_CHARS_MAX} characters")
    if "\0" in text or any(ch < " " and ch not in "\t\n\r" for ch in text):
        raise RefusedError("control characters do not belong into an expression")
    tokens = cast("list[Any]", cast("Any", pglast.parser).scan(text))
    if len(tokens) > TOKENS_MAX:
        raise RefusedError(f"more than {TOKENS_MAX} words and signs")
    depth = prefixes = 0
    for token in tokens:
        name = str(token.name)
        if name in _REFUSED_TOKENS:
            raise RefusedError(_REFUSED_TOKENS[name])
        if name in ("ASCII_40", "ASCII_91", "CASE"):
            depth += 1
        elif name in ("ASCII_41", "ASCII_93", "END_P"):
            depth -= 1
        prefixes = prefixes + 1 if name in ("NOT", "ASCII_45", "ASCII_43", "Op", "NOT_LA") else 0
        if depth > NESTING_MAX or prefixes > NESTING_MAX:
            raise RefusedError(f"nested more than {NESTING_MAX} deep")


_TARGET_ONLY = ("targetList", "groupDistinct", "limitOption", "op", "all")


def _tree(text: str) -> Any:
    """The one expression in the text; anything around it is refused."""
    statements = cast("tuple[Any, ...]", cast("Any", pglast).parse_sql(f"SELECT {text}\n"))
    if len(statements) != 1:
        raise RefusedError("not one expression")
    select: Any = statements[0].stmt
    if type(select).__name__ != "SelectStmt":
        raise RefusedError("not an expression")
    for name in cast("dict[str, Any]", select.__slots__):
        if name not in _TARGET_ONLY and getattr(select, name) not in (None, (), False):
            raise RefusedError("more than one expression: nothing of a statement belongs here")
    if int(select.op) != 0 or int(select.limitOption) != 0:
        raise RefusedError("more than one expression: nothing of a statement belongs here")
    targets = cast("tuple[Any, ...]", select.targetList or ())
    if len(targets) != 1 or targets[0].name is not None or targets[0].indirection:
        raise RefusedError("exactly one expression, without a name")
    return targets[0].val


def _compiled(text: str, make: Callable[[], Emitter]) -> Fragment | Refusal:
    try:
        _check_tokens(text)
        return make().emit(_tree(text))
    except RefusedError as error:
        return Refusal(str(error))
    except RecursionError:
        return Refusal("nested too deeply")
    except pglast.parser.ParseError as error:
        reason = str(error).partition(", at index")[0]
        return Refusal(f"not an SQL expression: {reason}")


def _closed(fragment: Fragment) -> list[Any]:
    """Parts in one pair of parentheses."""
    inner = fragment.parts()
    first = inner[0]
    if fragment.nodes > 1 and isinstance(first, str) and first.startswith("("):
        return inner
    return Fragment(("(", *fragment.pieces, ")")).parts()


def compile_filter(text: str, tables: Callable[[str], str | None]) -> list[Any] | Refusal:
    """Compile a row filter.

    Args:
        text: The expression as the policy has it.
        tables: Says why a sub-select may not read ``schema.table``; None when it may.
    """
    fragment = _compiled(text, lambda: Emitter(tables=tables, stable=True))
    if isinstance(fragment, Refusal):
        return fragment
    if fragment.gives not in (BOOL, ANY) or fragment.literal:
        return Refusal("a row filter is a condition; this is a value")
    return _closed(fragment)


def compile_mask(text: str) -> list[Any] | Refusal:
    """Compile a mask's expression: immutable, over the columns of the row alone."""
    fragment = _compiled(text, lambda: Emitter(tables=None, stable=False))
    return fragment if isinstance(fragment, Refusal) else _closed(fragment)
