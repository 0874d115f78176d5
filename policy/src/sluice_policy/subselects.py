"""The one kind of sub-select that a row filter may have: membership in a table of the same database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from sluice_policy import allowed
from sluice_policy.allowed import BOOL
from sluice_policy.emitter import ScalarEmitter
from sluice_policy.fragments import Fragment, joined, quoted
from sluice_policy.nodes import RefusedError, kind_of, strings

_SELECT_PARTS = (
    "targetList",
    "fromClause",
    "whereClause",
    "groupDistinct",
    "limitOption",
    "op",
    "all",
)


class Emitter(ScalarEmitter):
    """Emits expressions, sub-selects included.

    Args:
        tables: Says why a sub-select may not read a table; None: no sub-selects at all.
        stable: Whether stable functions may be used; without it only immutable ones.
        scope: As in ScalarEmitter.
    """

    def __init__(
        self,
        *,
        tables: Callable[[str], str | None] | None,
        stable: bool,
        scope: tuple[str, frozenset[str]] | None = None,
    ) -> None:
        super().__init__(stable=stable, scope=scope)
        self._tables = tables
        self._subselects = 0

    def _emit_SubLink(self, node: Any) -> Fragment:  # noqa: N802
        kind = str(node.subLinkType.name)
        if kind == "EXPR_SUBLINK":
            return self._scalar(node.subselect)
        if kind != "ANY_SUBLINK" or (node.operName and strings(node.operName)[-1] != "="):
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
        if kind_of(call) != "FuncCall" or strings(call.funcname)[-1] != allowed.SETTING:
            raise RefusedError(
                "sub-selects are written: column IN (SELECT column FROM schema.table …)"
            )
        return self.emit(call)

    def _parts_of(self, select: Any) -> set[str]:
        if kind_of(select) != "SelectStmt" or int(select.op) != 0 or int(select.limitOption) != 0:
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
        if len(targets) != 1 or len(origins) != 1 or kind_of(targets[0].val) != "ColumnRef":
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
            pieces += [" WHERE ", inner.condition(select.whereClause)]
        return joined(*pieces, ")))", gives=BOOL)

    def _table(self, origin: Any) -> tuple[str, frozenset[str]]:
        if kind_of(origin) != "RangeVar" or origin.catalogname or not origin.inh:
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
