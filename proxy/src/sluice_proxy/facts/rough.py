"""What a statement above the bounds names, for sessions in which nothing is masked: its tree is searched, not walked.

Every relation counts as read in all its columns, and as written too when the statement writes; every function's name
counts wherever it stands. What could change the session, or holds several statements, is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from sluice_proxy import allowlists
from sluice_proxy.decisions import Level, SessionContext
from sluice_proxy.facts.bounds import refused_as_too_large
from sluice_proxy.facts.lexer import Tokens
from sluice_proxy.facts.model import StatementFacts, TableUse
from sluice_proxy.facts.naming import Resolved, resolve

_STRING = r'"(?:[^"\\]|\\.)*"'
# No string can hold one of these keys: its quotes would be escaped.
_KIND = re.compile(r'"stmts":\[\{"stmt":\{"(Select|Insert|Update|Delete|Merge)Stmt":')
_RELATION = re.compile(rf'"relname":({_STRING})')
_SCHEMA = re.compile(rf'"schemaname":({_STRING}),$')
_CALL = re.compile(rf'"funcname":\[((?:\{{"String":\{{"sval":{_STRING}\}}\}},?)+)\]')
_VALUE = re.compile(r'"op":"SVFOP_(\w+)"')
_WRITES: Final = {
    '"InsertStmt":': "insert",
    '"UpdateStmt":': "update",
    '"DeleteStmt":': "delete",
    '"MergeStmt":': "merge",
    '"ONCONFLICT_UPDATE"': "update",
    '"commandType":"CMD_INSERT"': "insert",
    '"commandType":"CMD_UPDATE"': "update",
    '"commandType":"CMD_DELETE"': "delete",
}
_FILTERED_DELETE = re.compile(
    r'"stmts":\[\{"stmt":\{"DeleteStmt":\{"relation":\{(?:[^{}]|\{[^{}]*\})*\},"whereClause":'
)
_STEP: Final = 1 << 20
_OVERLAP: Final = 4 << 10
_NAME: Final = 512
"""No name with its key is longer."""
_SYSTEM: Final = frozenset({"pg_catalog", "information_schema", "pg_temp", "pg_toast"})


def rough(document: str, tokens: Tokens, context: SessionContext) -> StatementFacts:
    """Return what the tree of a text names.

    Raises:
        ClientError: It is not one SELECT, INSERT, UPDATE, DELETE or MERGE.
    """
    kind = _KIND.search(document, 0, _OVERLAP)
    if kind is None or document.count('"stmt":{') > 1 or '"intoClause":' in document:
        raise refused_as_too_large()
    actions = {action for key, action in _WRITES.items() if key in document} or {"select"}
    tables = _tables(document, context, written=actions != {"select"})
    return StatementFacts(
        kind=kind[1].lower(),
        actions=tuple(sorted(actions)) if tables or actions != {"select"} else ("session",),
        span=tokens.span(0, len(tokens.text)),
        tables=tables,
        functions=_functions(document, context),
        unfiltered_write=bool(actions & {"update", "delete"}) and not _filtered(document),
        cacheable="exact",
        understood=False,
    )


def _filtered(document: str) -> bool:
    """Say whether this is a lone DELETE whose WHERE reads a column; of what else there is, it cannot be told."""
    return (
        _FILTERED_DELETE.search(document, 0, _OVERLAP) is not None
        and '"ColumnRef":{' in document
        and not any(key in document for key in ('"returningList":', '"returningClause":'))
        and document.count('"DeleteStmt":') + document.count('"UpdateStmt":') == 1
    )


def _found(pattern: re.Pattern[str], document: str) -> Iterator[re.Match[str]]:
    """Yield all matches, a stretch at a time, so that other threads run between two."""
    begun = 0
    for start in range(0, len(document), _STEP):
        for match in pattern.finditer(document, max(start, begun), start + _STEP + _OVERLAP):
            if match.start() >= start + _STEP:
                break
            begun = match.end()
            yield match


def _tables(document: str, context: SessionContext, *, written: bool) -> tuple[TableUse, ...]:
    uses: dict[str, TableUse] = {}
    seen: set[tuple[str, str]] = set()
    for match in _found(_RELATION, document):
        schema = _SCHEMA.search(document, max(0, match.start() - _NAME), match.start())
        key = (match[1], schema[1] if schema else "")
        if key in seen:
            continue
        seen.add(key)
        resolved = resolve(context, json.loads(key[1]) if key[1] else None, json.loads(key[0]))
        if resolved.schema not in _SYSTEM:
            use = _use(resolved, written=written)
            uses[use.name] = use
    return tuple(sorted(uses.values(), key=lambda use: use.name))


def _use(resolved: Resolved, *, written: bool) -> TableUse:
    columns = resolved.relation.columns if resolved.relation else ()
    names = {column.name for column in columns}
    return TableUse(
        f"{resolved.schema}.{resolved.name}",
        reads=names,
        writes=set(names) if written else set(),
        read=True,
        written=written,
    )


def _functions(document: str, context: SessionContext) -> tuple[str, ...]:
    allow = allowlists.for_major(context.server_major)
    found = {f"pg_catalog.{match[1].lower()}" for match in _found(_VALUE, document)}
    for written in {match[1] for match in _found(_CALL, document)}:
        names = [item["String"]["sval"] for item in json.loads(f"[{written}]")]
        bare = len(names) == 1
        known = not bare or context.decision.level is Level.OPEN or allow.function(names[0])
        found.add(f"pg_catalog.{names[0]}" if bare and known else ".".join(names))
    return tuple(sorted(found))
