"""Where the output columns of a query come from, and which columns decide what rows it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from pglast import ast
from pglast.enums import SetOperation

from sluice_proxy.catalog.lineage_scopes import (
    Item,
    Output,
    Scope,
    Sources,
    UnknownError,
    renamed,
    union,
)
from sluice_proxy.catalog.model import Relation

_DEPTH_MAX = 64


class FunctionKnowledge(Protocol):
    """What is known of pg_catalog's functions, by bare name."""

    def only_values(self, name: str) -> bool:
        """Return whether its result depends on nothing but its arguments and the clock."""
        ...

    def is_aggregate(self, name: str) -> bool:
        """Return whether it may be an aggregate or window function."""
        ...

    def may_read_data(self, name: str) -> bool:
        """Return whether its result may depend on what tables hold, beside its arguments."""
        ...


@dataclass(frozen=True, slots=True)
class LineageSource:
    """What resolving names needs."""

    by_name: Mapping[tuple[str, str], Relation]
    functions: FunctionKnowledge
    operators: Mapping[str, frozenset[str]]
    """Schemas other than pg_catalog that have an operator of this name which no extension owns."""
    set_functions: frozenset[tuple[str, str]]
    """Schema and name of functions of which one row may give several, or none."""


class Resolver:
    """Reads the queries of one view's text."""

    def __init__(self, source: LineageSource) -> None:
        self._source = source
        self.catalogs: set[int] = set()
        """Catalogs that were met."""
        self._keys: dict[int, tuple[str, ...]] = {}
        """Keys that no two rows share, of the relations that were met."""

    def select(
        self,
        node: Any,
        outer: Scope | None,
        ctes: Mapping[str, tuple[Output, ...]],
        depth: int,
    ) -> tuple[tuple[Output, ...], int | None]:
        """Return the output columns, and the relation whose rows the result's rows are."""
        if depth > _DEPTH_MAX:
            raise UnknownError
        scope = Scope([], dict(ctes), outer)
        if node.withClause is not None:
            self._with(node.withClause, scope, depth)
        if node.op != SetOperation.SETOP_NONE:
            outputs, base = self._set_operation(node, scope, depth), None
            if not node.all:
                scope.decide(union(output.sources for output in outputs))
        elif node.valuesLists is not None:
            outputs, base = self._values(node.valuesLists, scope, depth), None
        else:
            outputs, base = self._plain(node, scope, depth)
        for clause in (node.sortClause, node.limitCount, node.limitOffset):
            if clause is not None and node.op == SetOperation.SETOP_NONE:
                self._order_sources(clause, scope, outputs, depth)
        if outer is not None:
            outer.reads |= scope.reads
            outer.reads_unknown |= scope.reads_unknown
            outer.decides |= scope.decides
            outer.nulls |= scope.nulls
            outer.decides_unknown |= scope.decides_unknown
            outer.conditions |= scope.conditions
        return outputs, base

    def _order_sources(
        self, clause: Any, scope: Scope, outputs: Sequence[Output], depth: int
    ) -> None:
        """Note what ORDER BY and LIMIT read; a bare name there may be an output's."""
        named = Item("", tuple(outputs))
        inner = Scope([named], scope.ctes, scope)
        scope.decide(scope.note(self._sources(clause, inner, depth)))

    def _with(self, clause: Any, scope: Scope, depth: int) -> None:
        if clause.recursive:
            raise UnknownError
        for cte in clause.ctes or ():
            if not isinstance(cte.ctequery, ast.SelectStmt):
                raise UnknownError
            outputs, _ = self.select(cte.ctequery, scope, scope.ctes, depth + 1)
            names = [n.sval for n in cte.aliascolnames or ()]
            scope.ctes[cte.ctename] = renamed(outputs, names)

    def _set_operation(self, node: Any, scope: Scope, depth: int) -> tuple[Output, ...]:
        left, _ = self.select(node.larg, scope, scope.ctes, depth + 1)
        right, _ = self.select(node.rarg, scope, scope.ctes, depth + 1)
        if len(left) != len(right):
            raise UnknownError
        return tuple(
            Output(a.name, union((a.sources, b.sources))) for a, b in zip(left, right, strict=True)
        )

    def _values(
        self, rows: Sequence[Sequence[Any]], scope: Scope, depth: int
    ) -> tuple[Output, ...]:
        return tuple(
            Output(f"column{i}", union(self._sources(v, scope, depth) for v in column))
            for i, column in enumerate(zip(*rows, strict=True), 1)
        )

    def _plain(self, node: Any, scope: Scope, depth: int) -> tuple[tuple[Output, ...], int | None]:
        for item in node.fromClause or ():
            self._from(item, scope, depth)
        for clause in (node.whereClause, node.havingClause):
            self._condition(clause, scope, depth)
        if node.groupClause is not None:
            self._group(scope.note(self._sources(node.groupClause, scope, depth)), scope)
        named = self._sources(node.windowClause, scope, depth)
        outputs = tuple(self._output(each, scope, depth, named) for each in node.targetList or ())
        if node.distinctClause is not None:
            scope.decide(scope.note(self._sources(node.distinctClause, scope, depth)))
            scope.decide(union(output.sources for output in outputs))
        return outputs, self._base(node, scope)

    def _condition(self, clause: Any, scope: Scope, depth: int) -> None:
        """Note what a condition reads: it decides which rows there are."""
        if clause is None:
            return
        sources = scope.note(self._sources(clause, scope, depth))
        pending: list[Any] = [clause]
        while pending:
            part = pending.pop()
            if isinstance(part, ast.BoolExpr):
                pending.extend(part.args or ())
            elif isinstance(part, ast.NullTest) and isinstance(part.arg, ast.ColumnRef) and sources:
                scope.nulls.update(self._sources(part.arg, scope, depth) or ())
            else:
                scope.decide(self._sources(part, scope, depth))

    def _group(self, sources: Sources, scope: Scope) -> None:
        """Note what decides the groups: beside a table's primary key its other columns do not."""
        if sources is None:
            scope.decide(None)
            return
        keyed = {
            oid
            for oid, key in self._keys.items()
            if key and all((oid, name) in sources for name in key)
        }
        scope.decide(frozenset(each for each in sources if each[0] not in keyed))

    def _base(self, node: Any, scope: Scope) -> int | None:
        clauses = (
            node.groupClause,
            node.havingClause,
            node.distinctClause,
            node.windowClause,
            node.limitCount,
            node.limitOffset,
        )
        if len(node.fromClause or ()) != 1 or not isinstance(node.fromClause[0], ast.RangeVar):
            return None
        if any(clauses) or any(self._may_aggregate(t) for t in node.targetList or ()):
            return None
        return scope.items[0].relation

    def _may_aggregate(self, node: Any) -> bool:
        for found in _walk(node):
            if isinstance(found, ast.FuncCall):
                name = _name(found.funcname)
                if name is None or found.over or self._source.functions.is_aggregate(name):
                    return True
            if isinstance(found, ast.JsonObjectAgg | ast.JsonArrayAgg):
                return True
        return False

    def _output(self, target: Any, scope: Scope, depth: int, windows: Sources) -> Output:
        value = target.val
        if isinstance(value, ast.ColumnRef) and not _is_star(value):
            output = scope.column(value)
            scope.note(output.sources)
            return Output(target.name or output.name, output.sources, output.direct)
        sources = scope.note(self._sources(value, scope, depth))
        calls = [found for found in _walk(value) if isinstance(found, ast.FuncCall)]
        if any(self._gives_rows(call) for call in calls):
            scope.decide(sources)
        if any(call.over for call in calls):
            sources = scope.note(union((sources, windows)))
        return Output(target.name or "?column?", sources)

    def _gives_rows(self, call: Any) -> bool:
        """Say whether one row may become several, or none, by a call in the target list."""
        *schema, name = (part.sval for part in call.funcname)
        return (schema[-1] if schema else "pg_catalog", name) in self._source.set_functions

    def _from(self, node: Any, scope: Scope, depth: int) -> None:
        item: Any = node
        if isinstance(node, ast.RangeVar):
            scope.items.append(self._relation(node, scope))
        elif isinstance(node, ast.JoinExpr):
            if node.alias is not None or node.join_using_alias is not None:
                raise UnknownError
            first = len(scope.items)
            self._from(node.larg, scope, depth)
            self._from(node.rarg, scope, depth)
            self._condition(node.quals, scope, depth)
            for using in node.usingClause or ():
                found = [item.find(using.sval) for item in scope.items[first:]]
                scope.decide(union(output.sources for output in found if output is not None))
        elif isinstance(node, ast.RangeSubselect):
            outputs, _ = self.select(item.subquery, scope, scope.ctes, depth + 1)
            if item.alias is None:
                raise UnknownError
            names = [n.sval for n in item.alias.colnames or ()]
            scope.items.append(Item(item.alias.aliasname, renamed(outputs, names)))
        elif isinstance(node, ast.RangeTableSample):
            self._from(node.relation, scope, depth)
            scope.decide(union(output.sources for output in scope.items[-1].outputs))
        elif isinstance(node, ast.RangeFunction | ast.RangeTableFunc | ast.JsonTable):
            sources = scope.note(self._sources(node, scope, depth))
            scope.decide(sources)
            alias = item.alias.aliasname if item.alias is not None else ""
            scope.items.append(Item(alias, (), None, sources, open_ended=True))
        else:
            raise UnknownError

    def _relation(self, node: Any, scope: Scope) -> Item:
        names = [n.sval for n in (node.alias.colnames or ())] if node.alias else []
        alias = node.alias.aliasname if node.alias else node.relname
        if node.schemaname is None and (cte := scope.ctes.get(node.relname)) is not None:
            return Item(alias, renamed(cte, names))
        schema = node.schemaname or "pg_catalog"
        relation = self._source.by_name.get((schema, node.relname))
        if relation is None:
            raise UnknownError
        self._keys[relation.oid] = relation.row_key
        if schema == "pg_catalog":
            self.catalogs.add(relation.oid)
        outputs = tuple(
            Output(c.name, frozenset({(relation.oid, c.name)}), (relation.oid, c.name))
            for c in relation.columns
        )
        return Item(alias, renamed(outputs, names), relation.oid)

    def _sources(self, node: Any, scope: Scope, depth: int) -> Sources:
        """Return every column whose value the expression may depend on."""
        parts: list[Sources] = []
        for found in _walk(node):
            if isinstance(found, ast.ColumnRef):
                star = _is_star(found)
                parts.append(scope.star(found) if star else scope.column(found).sources)
            elif isinstance(found, ast.SelectStmt):
                inner = Scope([], dict(scope.ctes), scope)
                outputs, _ = self.select(found, inner, inner.ctes, depth + 1)
                parts.extend(o.sources for o in outputs)
                parts.append(None if inner.reads_unknown else frozenset(inner.reads))
            elif not self._harmless(found):
                parts.append(None)
        return union(parts)

    def _harmless(self, node: Any) -> bool:
        if isinstance(node, ast.FuncCall):
            name = _name(node.funcname)
            return name is not None and self._source.functions.only_values(name)
        if isinstance(node, ast.A_Expr):
            # LIKE, BETWEEN and the like carry an operator's bare name; it is pg_catalog's here.
            return _name(node.name) is not None
        if isinstance(node, ast.SubLink):
            return node.operName is None or _name(node.operName) is not None
        return True


def _name(parts: Sequence[Any] | None) -> str | None:
    """Return the bare name of a pg_catalog function or operator, None for another schema's."""
    names = [part.sval for part in parts or ()]
    if len(names) == 1 or (len(names) == 2 and names[0] == "pg_catalog"):
        return names[-1]
    return None


def _is_star(node: Any) -> bool:
    return isinstance(node.fields[-1], ast.A_Star)


def _walk(node: Any) -> Iterator[Any]:
    """Yield the nodes of an expression, not entering sub-selects (they are yielded whole)."""
    stack: list[Any] = [node]
    while stack:
        current: Any = stack.pop()
        if isinstance(current, tuple):
            stack.extend(cast("tuple[Any, ...]", current))
        elif isinstance(current, ast.Node):
            yield current
            if not isinstance(current, ast.SelectStmt):
                stack.extend(getattr(current, slot) for slot in current)
