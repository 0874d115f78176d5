"""Where each output column of a view comes from, by resolving the text of ``pg_get_viewdef``.

The text was printed under an empty ``search_path``, so every relation outside pg_catalog is qualified.
Whatever this module does not understand makes a column's lineage unknown, never empty.
"""

from __future__ import annotations

from collections.abc import Sequence

from pglast import ast, parse_sql
from pglast.parser import ParseError

from sluice_proxy.catalog import lineage_calls as calls
from sluice_proxy.catalog.lineage_queries import LineageSource, Resolver
from sluice_proxy.catalog.lineage_scopes import Output, Scope, UnknownError
from sluice_proxy.catalog.model import Function, Relation, View, ViewColumn


def view_of(
    relation: Relation,
    definition: str,
    relations: frozenset[int],
    source: LineageSource,
    *,
    called: Sequence[Function],
) -> View:
    """Return the lineage of a view; every column unknown when its definition is not understood.

    Args:
        relation: The view.
        definition: ``pg_get_viewdef`` under an empty search_path.
        relations: What pg_depend says its rule depends on.
        source: What resolving names needs.
        called: Functions outside pg_catalog that its rule calls. They may read anything, and implicit
            casts by such are not printed, so only unchanged columns keep a known lineage.
    """
    printed = calls.printed(definition)
    scope = Scope([], {}, None)
    resolver = Resolver(source)
    try:
        outputs, base = _resolved(definition, resolver, scope)
    except (UnknownError, ParseError, RecursionError):
        outputs, base = (), None
    relations |= resolver.catalogs  # Those that cannot be dropped are in no pg_depend.
    if len(outputs) != len(relation.columns):
        unknown = {c.name: ViewColumn(None, None) for c in relation.columns}
        return View(
            unknown,
            relations,
            row_wise=False,
            decided_by=None,
            decided_by_calls=calls.may_read(printed, called, source),
        )
    columns = {
        column.name: _checked(output, relations, calls_functions=bool(called))
        for column, output in zip(relation.columns, outputs, strict=True)
    }
    base = base if base in relations else None
    decided = None if scope.decides_unknown else frozenset(scope.decides)
    if decided is None:
        deciding = calls.may_read(printed, called, source)
    else:
        deciding = calls.not_printed(printed, called) if scope.conditions else frozenset[Function]()
    return View(
        columns,
        relations,
        row_wise=base is not None,
        row_base=base,
        decided_by=decided,
        decided_by_null=frozenset(scope.nulls),
        decided_by_calls=deciding,
    )


def _resolved(
    definition: str, resolver: Resolver, scope: Scope
) -> tuple[tuple[Output, ...], int | None]:
    statement = parse_sql(definition)[0].stmt
    if not isinstance(statement, ast.SelectStmt):
        raise UnknownError
    return resolver.select(statement, scope, {}, 0)


def _checked(output: Output, relations: frozenset[int], *, calls_functions: bool) -> ViewColumn:
    """Compare with pg_depend: a source that PostgreSQL does not know of means the text was misread."""
    if output.sources is None or (calls_functions and output.direct is None):
        return ViewColumn(None, None)
    if any(oid not in relations for oid, _ in output.sources):
        return ViewColumn(None, None)
    return ViewColumn(output.sources, output.direct)
