"""FROM items: every relation is resolved, and a governed one gives way to its masked, filtered projection."""

from __future__ import annotations

from sluice_proxy.facts import documents, joins, types
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.calls import check_operator
from sluice_proxy.facts.columns import stored_with_governed
from sluice_proxy.facts.expressions import expression
from sluice_proxy.facts.naming import Resolved, quoted, resolve
from sluice_proxy.facts.predicates import condition
from sluice_proxy.facts.projection import SYSTEM_SCHEMAS, projection
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.scopes import Fences, Level, Query, Source
from sluice_proxy.facts.tree import Node, strings, unwrap
from sluice_proxy.facts.unread import check_unread
from sluice_proxy.facts.viewed import note_view
from sluice_proxy.governed import GovernedRelation


def from_item(a: Analysis, node: Node, level: Level) -> list[Source]:
    """Walk one FROM item and add what it brings to the level."""
    kind, body = unwrap(node)
    if kind == "RangeVar":
        return [relation(a, body, level)]
    if kind == "RangeSubselect":
        return [_subselect(a, body, level)]
    if kind == "RangeFunction":
        return [_function(a, body, level)]
    if kind in ("RangeTableFunc", "JsonTable"):
        return [_document(a, kind, body, level)]
    if kind == "JoinExpr":
        return _join(a, body, level)
    if kind == "RangeTableSample":
        return [_sample(a, body, level)]
    raise not_understood(f"a FROM item of the kind {kind}")


def _alias(body: Node) -> tuple[str | None, list[str]]:
    alias = body.get("alias")
    if alias is None:
        return None, []
    return alias["aliasname"], strings(alias.get("colnames"))


def relation(a: Analysis, body: Node, level: Level) -> Source:
    """Add a table, view or WITH query."""
    a.visit(body)
    name, names = _alias(body)
    cte = level.cte(body["relname"]) if "schemaname" not in body else None
    if cte is not None:
        from_cte = Source(
            name or body["relname"], level, columns=cte.query.columns, query=cte.query
        )
        _rename(from_cte, names)
        level.sources.append(from_cte)
        return from_cte
    resolved = lookup(a, body)
    check_unread(resolved)
    source = described(a, resolved, level, name)
    source.only = not body.get("inh", False)
    _rename(source, names)
    if source.use is not None:
        source.use.read = True
    if a.enforcing:
        _place(a, body, resolved, source)
    level.sources.append(source)
    a.sources.append(source)
    return source


def described(a: Analysis, resolved: Resolved, level: Level, alias: str | None) -> Source:
    """Return the source for a relation, without any edit."""
    source = Source(alias or resolved.name, level, schema=resolved.schema, table=resolved.name)
    source.aliased = alias is not None
    source.relation = resolved.relation
    source.use = a.use(resolved)
    if resolved.relation is not None:
        source.columns = tuple(column.name for column in resolved.relation.columns)
        source.governed = a.governed.get(resolved.relation.oid)
    elif resolved.temporary is not None:
        source.columns = resolved.temporary.columns
        note_view(a, resolved.temporary)
    if a.enforcing:
        readable(a, resolved, source.governed)
    return source


def lookup(a: Analysis, body: Node) -> Resolved:
    """Resolve a relation reference."""
    catalog = a.context.catalog
    if "catalogname" in body and (catalog is None or body["catalogname"] != catalog.database):
        raise not_understood("a relation of another database")
    return resolve(a.context, body.get("schemaname"), body["relname"])


def readable(a: Analysis, resolved: Resolved, governed: GovernedRelation | None) -> None:
    """Check that a relation may be touched at all.

    Raises:
        ClientError: It may not.
    """
    if governed is not None and governed.denial is not None:
        raise refused(
            f'permission denied for relation "{resolved.schema}.{resolved.name}"',
            detail=f"{governed.denial[0].upper()}{governed.denial[1:]}.",
        )
    system = resolved.schema in SYSTEM_SCHEMAS
    if (
        system
        and governed is None
        and not a.allow.relation_allowed(f"{resolved.schema}.{resolved.name}")
    ):
        raise refused(
            f'permission denied for relation "{resolved.schema}.{resolved.name}"',
            detail="It is not one of the catalogs that Sluice knows to be harmless.",
        )


def name_parts(body: Node) -> int:
    """Return how many dotted parts a relation's name has in the text."""
    return 1 + ("schemaname" in body) + ("catalogname" in body)


def name_span(a: Analysis, body: Node) -> tuple[int, int]:
    """Return the tokens of a relation's name.

    Raises:
        ClientError: The scanner reads another name there than the parser.
    """
    start = a.tokens.at(body.get("location", 0))
    first = body.get("catalogname") or body.get("schemaname") or body["relname"]
    if a.tokens.name(start) != first:
        raise not_understood("parser and scanner disagree about a relation's name")
    return start, a.tokens.dotted_end(start, name_parts(body))


def qualify(a: Analysis, body: Node, resolved: Resolved) -> tuple[int, int]:
    """Splice a relation's name to what it was resolved to."""
    start, end = name_span(a, body)
    a.replace(start, end, resolved.sql)
    return start, end


def _place(a: Analysis, body: Node, resolved: Resolved, source: Source) -> None:
    if source.governed is None:
        qualify(a, body, resolved)
        return
    tokens = a.tokens
    start, end = name_span(a, body)
    if tokens.raw(start - 1) == b"(" and tokens.word(start - 2) == "only":
        start, end = start - 2, tokens.close(start - 1) + 1
    elif tokens.word(start - 1) == "only":
        start -= 1
    elif tokens.raw(end) == b"*":
        end += 1
    if tokens.word(start - 1) == "table":
        start -= 1
        source.table_command = True
    source.splice = (start, end)
    a.replace(start, end, lambda: _spliced(a, source))


def _spliced(a: Analysis, source: Source) -> str:
    text = f"({projection(a, source)})"
    if not source.aliased or source.table_command:
        text += f" {quoted(source.refname)}"
    return f"SELECT * FROM {text}" if source.table_command else text


def _rename(source: Source, names: list[str]) -> None:
    if not names:
        return
    if source.columns is None:
        return
    old = source.columns
    source.columns = (*names, *old[len(names) :])
    source.renamed = dict(zip(source.columns, old, strict=False))


def _subselect(a: Analysis, body: Node, level: Level) -> Source:
    a.visit(body)
    name, names = _alias(body)
    kind, select = unwrap(body["subquery"])
    if kind != "SelectStmt":
        raise not_understood(f"{kind} in FROM")
    outer = level if body.get("lateral") else Level(level.parent, ctes=level.ctes)
    query = a.query(a, select, outer, end=-1, role="subquery")
    query.end = _subselect_end(a, select) if name is not None else -1
    if outer is not level:
        level.outer |= outer.outer
    level.total &= query.total
    source = Source(name or "", level, columns=query.columns, query=query)
    _rename(source, names)
    level.sources.append(source)
    return source


def _subselect_end(a: Analysis, select: Node) -> int:
    """Return the token that closes a sub-select in FROM, or -1 when it cannot be told."""
    offset = a.offsets.first(select)
    if offset is None:
        return -1
    tokens, index = a.tokens, a.tokens.at(offset)
    while index > a.span[0] and tokens.word(index) not in ("select", "values", "table", "with"):
        index = tokens.partner[index] - 1 if tokens.raw(index) in (b")", b"]") else index - 1
    while index < a.span[1]:
        raw = tokens.raw(index)
        if raw in (b"(", b"["):
            index = tokens.close(index) + 1
        elif raw == b")" and tokens.word(index + 1) in _CONTINUED:
            index += 1
        elif raw == b")":
            return index
        else:
            index += 1
    return -1


_CONTINUED = frozenset({"union", "intersect", "except", "order", "limit", "offset", "fetch", "for"})


def _function(a: Analysis, body: Node, level: Level) -> Source:
    a.visit(body)
    level.total = False
    name, names = _alias(body)
    first: str | None = None
    for item in body["functions"]:
        _, pair = unwrap(item)
        call, *definitions = pair["items"]
        expression(a, call, level)
        if "FuncCall" in call:
            first = first or strings(call["FuncCall"]["funcname"])[-1]
        for definition in definitions:
            if definition:
                _definitions(a, unwrap(definition)[1].get("items", ()))
    _definitions(a, body.get("coldeflist", ()))
    del names
    source = Source(name or first or "", level, columns=None)
    level.sources.append(source)
    return source


def _document(a: Analysis, kind: str, body: Node, level: Level) -> Source:
    """Walk XMLTABLE or JSON_TABLE, which may read the FROM items before it."""
    a.visit(body)
    level.total = False
    table = documents.xml_table if kind == "RangeTableFunc" else documents.json_table
    columns = documents.alias_columns(table(a, body, level), body.get("alias"))
    name, _ = _alias(body)
    source = Source(
        name or ("xmltable" if kind == "RangeTableFunc" else "json_table"), level, columns=columns
    )
    level.sources.append(source)
    return source


def _definitions(a: Analysis, items: list[Node] | tuple[()]) -> None:
    for item in items:
        kind, definition = unwrap(item)
        if kind != "ColumnDef" or "raw_default" in definition or "constraints" in definition:
            raise not_understood("a column definition in FROM")
        types.check_type(a, definition["typeName"])
        a.mentioned.add(definition["colname"])


def _join(a: Analysis, body: Node, level: Level) -> list[Source]:
    a.visit(body)
    left = from_item(a, body["larg"], level)
    right = from_item(a, body["rarg"], level)
    kind = body.get("jointype", "JOIN_INNER")
    for source in (*(right if kind in ("JOIN_LEFT", "JOIN_FULL") else ()),):
        source.nullable = True
    for source in (*(left if kind in ("JOIN_RIGHT", "JOIN_FULL") else ()),):
        source.nullable = True
    both = [*left, *right]
    if body.get("isNatural"):
        joins.check_natural(left, right)
        for source in both:
            source.everything = True
            _fence_leaky(a, source, None)
    using = strings(body.get("usingClause"))
    joins.check_using(left, right, using)
    if using or body.get("isNatural"):
        check_operator(a, ["="])
    a.mentioned.update(using)
    for name in using:
        for source in both:
            _fence_leaky(a, source, name)
            if source.use is not None and source.has(name):
                source.use.reads.add(source.origin(name))
    level.total &= condition(a, body.get("quals"), level, "on")
    for key in ("alias", "join_using_alias"):
        if key in body:
            _join_alias(body[key], both, level, hides=key == "alias")
    return both


def _fence_leaky(a: Analysis, source: Source, name: str | None) -> None:
    query = source.query
    if query is None or not source.filtered:
        return
    if (
        query.leaky_targets
        if name is None or query.columns is None
        else source.origin(name) in query.leaky_columns
    ):
        a.fences.append(query)


def _join_alias(alias: Node, both: list[Source], level: Level, *, hides: bool) -> None:
    joined = Source(alias["aliasname"], level, members=tuple(both))
    names = [name for source in both for name in source.columns or ()]
    joined.columns = None if any(source.columns is None for source in both) else tuple(names)
    if alias.get("colnames"):
        joined.columns = None
        for source in both:
            source.everything = True
    for source in both:
        source.hidden_name |= hides
    level.renamed()
    level.sources.append(joined)


def _sample(a: Analysis, body: Node, level: Level) -> Source:
    kind, table = unwrap(body["relation"])
    if kind != "RangeVar":
        raise not_understood("TABLESAMPLE of something else than a table")
    source = relation(a, table, level)
    level.total = False
    if source.governed is not None or (a.enforcing and stored_with_governed(a, source.relation)):
        raise refused(
            f'permission denied for TABLESAMPLE of table "{source.table}"',
            detail="A sample tells of rows and values that a policy hides.",
            hint="Use ORDER BY and LIMIT, or WHERE.",
        )
    for item in (*body.get("args", ()), *([body["repeatable"]] if "repeatable" in body else ())):
        expression(a, item, level)
    method = strings(body["method"])[-1]
    extensions = (a.context.catalog.extensions if a.context.catalog else None) or {}
    if method not in ("bernoulli", "system") and f"tsm_{method}" not in extensions:
        raise not_understood(f"the sampling method {method}")
    return source


def name_apart(level: Level) -> None:
    """Give governed tables without an alias another one where two FROM items have the same name."""
    taken: dict[str, Source] = {}
    for source in level.sources:
        other = taken.get(source.refname)
        if other is None:
            taken[source.refname] = source
            continue
        for each in (source, other):
            if each.governed is not None and not each.aliased and each.schema is not None:
                each.refname = f"{each.refname[:40]}_{each.schema[:20]}"
                level.renamed()
                break


def all_total(level: Level) -> bool:
    """Say whether the level's FROM clause can neither raise nor leak."""
    return level.total


def fence(a: Analysis, query: Query) -> None:
    """Keep the planner from moving anything into a sub-select.

    Raises:
        ClientError: Rows are locked, and a fence would lock more of them; or the place cannot be found.
    """
    if query.offset or query.opaque or query.fenced:
        return
    if a.locking:
        raise not_understood(
            "FOR UPDATE or FOR SHARE together with an expression over rows that a policy filters",
            "Move the expression out of the sub-select, or lock the rows by their key.",
        )
    if query.end < 0:
        raise not_understood("a sub-select without an alias over rows that a policy filters")
    query.fenced = True
    Fences.made += 1
    a.fenced.append(query)
