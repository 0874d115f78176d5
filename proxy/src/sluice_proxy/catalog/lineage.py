"""Where each output column of a view comes from, by resolving the text of ``pg_get_viewdef``.

The text was printed under an empty ``search_path``, so every relation outside pg_catalog is qualified.
Whatever this module does not understand makes a column's lineage unknown, never empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from pglast import ast, parse_sql
from pglast.enums import SetOperation
from pglast.parser import ParseError

from sluice_proxy.catalog.model import Relation, View, ViewColumn

Source = tuple[int, str]
Sources = frozenset[Source] | None

_NONE: frozenset[Source] = frozenset()
_SETS = frozenset(
    [
        *("generate_series", "generate_subscripts", "unnest", "string_to_table"),
        *("regexp_matches", "regexp_split_to_table", "jsonb_path_query", "jsonb_path_query_tz"),
        *("json_array_elements", "json_array_elements_text", "json_each", "json_each_text"),
        *("jsonb_array_elements", "jsonb_array_elements_text", "jsonb_each", "jsonb_each_text"),
        *("json_object_keys", "jsonb_object_keys", "json_populate_recordset"),
        *("jsonb_populate_recordset", "json_to_recordset", "jsonb_to_recordset"),
    ]
)
"""Functions of which one row gives as many as its value has parts; others that the text may have are not known."""
_DEPTH_MAX = 64


class FunctionKnowledge(Protocol):
    """What is known of pg_catalog's functions, by bare name."""

    def only_values(self, name: str) -> bool:
        """Return whether its result depends on nothing but its arguments and the clock."""
        ...

    def is_aggregate(self, name: str) -> bool:
        """Return whether it may be an aggregate or window function."""
        ...


@dataclass(frozen=True, slots=True)
class LineageSource:
    """What resolving names needs."""

    by_name: Mapping[tuple[str, str], Relation]
    functions: FunctionKnowledge


class _UnknownError(Exception):
    """The text has a construct whose columns cannot be told."""


@dataclass(frozen=True, slots=True)
class _Output:
    name: str
    sources: Sources
    direct: Source | None = None


@dataclass(frozen=True, slots=True)
class _Item:
    """One entry of a FROM clause."""

    alias: str
    outputs: tuple[_Output, ...]
    relation: int | None = None
    anything: Sources = _NONE
    open_ended: bool = False
    """A function or table function: a column of any name comes from ``anything``."""

    def find(self, name: str) -> _Output | None:
        for output in self.outputs:
            if output.name == name:
                return output
        return _Output(name, self.anything) if self.open_ended else None


@dataclass(slots=True)
class _Scope:
    items: list[_Item]
    ctes: dict[str, tuple[_Output, ...]]
    outer: _Scope | None
    reads: set[Source] = field(default_factory=set[Source])
    reads_unknown: bool = False
    decides: set[Source] = field(default_factory=set[Source])
    """What which rows there are hangs on."""
    nulls: set[Source] = field(default_factory=set[Source])
    """The same, where only IS NULL is asked."""
    decides_unknown: bool = False

    def decide(self, sources: Sources) -> None:
        if sources is None:
            self.decides_unknown = True
        else:
            self.decides.update(sources)

    def note(self, sources: Sources) -> Sources:
        if sources is None:
            self.reads_unknown = True
        else:
            self.reads.update(sources)
        return sources


def _union(parts: Iterable[Sources]) -> Sources:
    found: set[Source] = set()
    for part in parts:
        if part is None:
            return None
        found |= part
    return frozenset(found)


def view_of(
    relation: Relation,
    definition: str,
    relations: frozenset[int],
    source: LineageSource,
    *,
    calls_functions: bool,
) -> View:
    """Return the lineage of a view; every column unknown when its definition is not understood.

    Args:
        relation: The view.
        definition: ``pg_get_viewdef`` under an empty search_path.
        relations: What pg_depend says its rule depends on.
        source: What resolving names needs.
        calls_functions: Its rule calls functions outside pg_catalog. They may read anything, and implicit
            casts by such are not printed, so only unchanged columns keep a known lineage.
    """
    scope = _Scope([], {}, None)
    try:
        outputs, base = _resolved(definition, source, scope)
    except (_UnknownError, ParseError, RecursionError):
        outputs, base = (), None
    if len(outputs) != len(relation.columns):
        unknown = {c.name: ViewColumn(None, None) for c in relation.columns}
        return View(unknown, relations, row_wise=False, decided_by=None)
    columns = {
        column.name: _checked(output, relations, calls_functions=calls_functions)
        for column, output in zip(relation.columns, outputs, strict=True)
    }
    base = base if base in relations else None
    decided = None if scope.decides_unknown else frozenset(scope.decides)
    return View(
        columns,
        relations,
        row_wise=base is not None,
        row_base=base,
        decided_by=decided,
        decided_by_null=frozenset(scope.nulls),
    )


def _resolved(
    definition: str, source: LineageSource, scope: _Scope
) -> tuple[tuple[_Output, ...], int | None]:
    statement = parse_sql(definition)[0].stmt
    if not isinstance(statement, ast.SelectStmt):
        raise _UnknownError
    return _Resolver(source).select(statement, scope, {}, 0)


def _checked(output: _Output, relations: frozenset[int], *, calls_functions: bool) -> ViewColumn:
    """Compare with pg_depend: a source that PostgreSQL does not know of means the text was misread."""
    if output.sources is None or (calls_functions and output.direct is None):
        return ViewColumn(None, None)
    if any(oid not in relations for oid, _ in output.sources):
        return ViewColumn(None, None)
    return ViewColumn(output.sources, output.direct)


class _Resolver:
    def __init__(self, source: LineageSource) -> None:
        self._source = source
        self._keys: dict[int, tuple[str, ...]] = {}
        """Primary keys of the relations that were met."""

    def select(
        self,
        node: Any,
        outer: _Scope | None,
        ctes: Mapping[str, tuple[_Output, ...]],
        depth: int,
    ) -> tuple[tuple[_Output, ...], int | None]:
        """Return the output columns, and the relation whose rows the result's rows are."""
        if depth > _DEPTH_MAX:
            raise _UnknownError
        scope = _Scope([], dict(ctes), outer)
        if node.withClause is not None:
            self._with(node.withClause, scope, depth)
        if node.op != SetOperation.SETOP_NONE:
            outputs, base = self._set_operation(node, scope, depth), None
            if not node.all:
                scope.decide(_union(output.sources for output in outputs))
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
        return outputs, base

    def _order_sources(
        self, clause: Any, scope: _Scope, outputs: Sequence[_Output], depth: int
    ) -> None:
        """Note what ORDER BY and LIMIT read; a bare name there may be an output's."""
        named = _Item("", tuple(outputs))
        inner = _Scope([named], scope.ctes, scope)
        scope.decide(scope.note(self._sources(clause, inner, depth)))

    def _with(self, clause: Any, scope: _Scope, depth: int) -> None:
        if clause.recursive:
            raise _UnknownError
        for cte in clause.ctes or ():
            if not isinstance(cte.ctequery, ast.SelectStmt):
                raise _UnknownError
            outputs, _ = self.select(cte.ctequery, scope, scope.ctes, depth + 1)
            names = [n.sval for n in cte.aliascolnames or ()]
            scope.ctes[cte.ctename] = _renamed(outputs, names)

    def _set_operation(self, node: Any, scope: _Scope, depth: int) -> tuple[_Output, ...]:
        left, _ = self.select(node.larg, scope, scope.ctes, depth + 1)
        right, _ = self.select(node.rarg, scope, scope.ctes, depth + 1)
        if len(left) != len(right):
            raise _UnknownError
        return tuple(
            _Output(a.name, _union((a.sources, b.sources)))
            for a, b in zip(left, right, strict=True)
        )

    def _values(
        self, rows: Sequence[Sequence[Any]], scope: _Scope, depth: int
    ) -> tuple[_Output, ...]:
        return tuple(
            _Output(f"column{i}", _union(self._sources(v, scope, depth) for v in column))
            for i, column in enumerate(zip(*rows, strict=True), 1)
        )

    def _plain(
        self, node: Any, scope: _Scope, depth: int
    ) -> tuple[tuple[_Output, ...], int | None]:
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
            scope.decide(_union(output.sources for output in outputs))
        return outputs, self._base(node, scope)

    def _condition(self, clause: Any, scope: _Scope, depth: int) -> None:
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

    def _group(self, sources: Sources, scope: _Scope) -> None:
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

    def _base(self, node: Any, scope: _Scope) -> int | None:
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

    def _output(self, target: Any, scope: _Scope, depth: int, windows: Sources) -> _Output:
        value = target.val
        if isinstance(value, ast.ColumnRef) and not _is_star(value):
            output = self._column(value, scope)
            scope.note(output.sources)
            return _Output(target.name or output.name, output.sources, output.direct)
        sources = scope.note(self._sources(value, scope, depth))
        calls = [found for found in _walk(value) if isinstance(found, ast.FuncCall)]
        if any(_name(call.funcname) in _SETS for call in calls):
            scope.decide(sources)
        if any(call.over for call in calls):
            sources = scope.note(_union((sources, windows)))
        return _Output(target.name or "?column?", sources)

    def _from(self, node: Any, scope: _Scope, depth: int) -> None:
        item: Any = node
        if isinstance(node, ast.RangeVar):
            scope.items.append(self._relation(node, scope))
        elif isinstance(node, ast.JoinExpr):
            if node.alias is not None or node.join_using_alias is not None:
                raise _UnknownError
            first = len(scope.items)
            self._from(node.larg, scope, depth)
            self._from(node.rarg, scope, depth)
            self._condition(node.quals, scope, depth)
            for using in node.usingClause or ():
                found = [item.find(using.sval) for item in scope.items[first:]]
                scope.decide(_union(output.sources for output in found if output is not None))
        elif isinstance(node, ast.RangeSubselect):
            outputs, _ = self.select(item.subquery, scope, scope.ctes, depth + 1)
            if item.alias is None:
                raise _UnknownError
            names = [n.sval for n in item.alias.colnames or ()]
            scope.items.append(_Item(item.alias.aliasname, _renamed(outputs, names)))
        elif isinstance(node, ast.RangeTableSample):
            self._from(node.relation, scope, depth)
            scope.decide(_union(output.sources for output in scope.items[-1].outputs))
        elif isinstance(node, ast.RangeFunction | ast.RangeTableFunc | ast.JsonTable):
            sources = scope.note(self._sources(node, scope, depth))
            scope.decide(sources)
            alias = item.alias.aliasname if item.alias is not None else ""
            scope.items.append(_Item(alias, (), None, sources, open_ended=True))
        else:
            raise _UnknownError

    def _relation(self, node: Any, scope: _Scope) -> _Item:
        names = [n.sval for n in (node.alias.colnames or ())] if node.alias else []
        alias = node.alias.aliasname if node.alias else node.relname
        if node.schemaname is None and (cte := scope.ctes.get(node.relname)) is not None:
            return _Item(alias, _renamed(cte, names))
        schema = node.schemaname or "pg_catalog"
        relation = self._source.by_name.get((schema, node.relname))
        if relation is None:
            raise _UnknownError
        self._keys[relation.oid] = relation.primary_key
        outputs = tuple(
            _Output(c.name, frozenset({(relation.oid, c.name)}), (relation.oid, c.name))
            for c in relation.columns
        )
        return _Item(alias, _renamed(outputs, names), relation.oid)

    def _column(self, node: Any, scope: _Scope) -> _Output:
        fields = [f.sval if isinstance(f, ast.String) else None for f in node.fields]
        name = fields[-1]
        if name is None or len(fields) > 2:
            raise _UnknownError
        current: _Scope | None = scope
        while current is not None:
            items = current.items
            if len(fields) == 2:
                items = [item for item in items if item.alias == fields[0]]
            found = [output for item in items if (output := item.find(name)) is not None]
            if len(found) == 1:
                return found[0]
            if found:
                return _Output(name, _union(o.sources for o in found))
            current = current.outer
        raise _UnknownError

    def _star(self, node: Any, scope: _Scope) -> Sources:
        """Return what a whole row (``u.*``) shows."""
        if len(node.fields) != 2 or not isinstance(node.fields[0], ast.String):
            raise _UnknownError
        current: _Scope | None = scope
        while current is not None:
            for item in current.items:
                if item.alias == node.fields[0].sval:
                    return _union([*(o.sources for o in item.outputs), item.anything])
            current = current.outer
        raise _UnknownError

    def _sources(self, node: Any, scope: _Scope, depth: int) -> Sources:
        """Return every column whose value the expression may depend on."""
        parts: list[Sources] = []
        for found in _walk(node):
            if isinstance(found, ast.ColumnRef):
                star = _is_star(found)
                parts.append(
                    self._star(found, scope) if star else self._column(found, scope).sources
                )
            elif isinstance(found, ast.SelectStmt):
                inner = _Scope([], dict(scope.ctes), scope)
                outputs, _ = self.select(found, inner, inner.ctes, depth + 1)
                parts.extend(o.sources for o in outputs)
                parts.append(None if inner.reads_unknown else frozenset(inner.reads))
            elif not self._harmless(found):
                parts.append(None)
        return _union(parts)

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


def _renamed(outputs: Sequence[_Output], names: Sequence[str]) -> tuple[_Output, ...]:
    if len(names) > len(outputs):
        raise _UnknownError
    kept = [o.name for o in outputs[len(names) :]]
    return tuple(
        _Output(name, output.sources, output.direct)
        for name, output in zip([*names, *kept], outputs, strict=True)
    )


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
