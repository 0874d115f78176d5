"""INSERT, UPDATE, DELETE and MERGE: the target stays, so what reads it is held instead (SQL.md §8, §11, §12)."""

from __future__ import annotations

from typing import Any

from sluice_proxy.facts import sources
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.columns import check_field
from sluice_proxy.facts.expressions import every, expression, free_literals
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.predicates import clause, clause_end, condition
from sluice_proxy.facts.projection import filter_sql, pin
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.returning import returning
from sluice_proxy.facts.scopes import Level, Query, Source
from sluice_proxy.facts.select import with_clause
from sluice_proxy.facts.tree import Node, dictionaries, first_offset, strings, unwrap

OUTSIDE_FILTER = "sluice: row outside the row filter"
_ACTIONS = {
    "InsertStmt": "insert",
    "UpdateStmt": "update",
    "DeleteStmt": "delete",
    "MergeStmt": "merge",
}


def write(a: Analysis, kind: str, body: Node, parent: Level | None, *, end: int) -> Query:
    """Walk a statement that writes, at the top or in WITH.

    Args:
        a: The statement.
        kind: Its node type.
        body: Its node.
        parent: The level whose WITH queries it may use.
        end: The token behind its last one.
    """
    a.visit(body)
    a.actions.add(_ACTIONS[kind])
    level = Level(parent)
    with_clause(a, body.get("withClause"), level)
    result = Query(level=level, end=end, opaque=True)
    handler = {
        "InsertStmt": _insert,
        "UpdateStmt": _update,
        "DeleteStmt": _delete,
        "MergeStmt": _merge,
    }[kind]
    handler(a, body, level, result)
    return result


def _target(a: Analysis, body: Node, level: Level) -> Source:
    relation = body["relation"]
    a.visit(relation)
    resolved = sources.lookup(a, relation)
    alias = relation.get("alias", {}).get("aliasname")
    source = sources.described(a, resolved, level, alias)
    source.target = True
    source.only = not relation.get("inh", False)
    if source.use is not None:
        source.use.written = True
    if a.enforcing:
        if resolved.schema in ("pg_catalog", "information_schema"):
            raise refused(f'permission denied for relation "{resolved.schema}.{resolved.name}"')
        if (
            source.relation is not None
            and source.relation.has_rules
            and source.relation.kind != "v"
        ):
            raise refused(
                f'permission denied for table "{resolved.name}"', detail="It has rewrite rules."
            )
        sources.qualify(a, relation, resolved)
        a.target_alias = alias
    level.sources.append(source)
    return source


def _hidden(source: Source) -> frozenset[str]:
    return frozenset(source.governed.masks) if source.governed else frozenset()


def note_written(a: Analysis, source: Source, names: set[str]) -> None:
    """Record the columns that are supplied, and the key oracle that this may be."""
    if source.use is not None:
        source.use.writes.update(names)
    if source.governed is None or source.relation is None:
        return
    hidden = _hidden(source)
    for coupling in source.relation.couplings:
        if not coupling.columns & names:
            continue
        if coupling.kind == "key" and (coupling.columns & hidden or source.governed.filters):
            a.write_oracles.add("keys")


def _row_values(a: Analysis, source: Source, names: set[str]) -> None:
    """Note the oracle of changing a column that is checked together with a hidden one of the same row."""
    if source.governed is None or source.relation is None:
        return
    # A generated column is in its own coupling: it is computed from the others, not read.
    hidden = _hidden(source) - {
        column.name for column in source.relation.columns if column.generated
    }
    for coupling in source.relation.couplings:
        if (
            coupling.kind == "row_value"
            and coupling.columns & names
            and (coupling.columns - names) & hidden
        ):
            a.write_oracles.add("rowValues")


def _insert(a: Analysis, body: Node, level: Level, result: Query) -> None:
    target = _target(a, body, level)
    level.sources.remove(target)
    named = [unwrap(item)[1] for item in body.get("cols", ())]
    for item in named:
        a.visit(item)
        for step in item.get("indirection", ()):
            if "String" in step:
                check_field(a, strings([step])[0])
    columns = [item["name"] for item in named]
    relation = target.relation
    if not columns and relation is not None:
        columns = [column.name for column in relation.columns]
    note_written(a, target, set(columns))
    if "selectStmt" in body:
        _, select = unwrap(body["selectStmt"])
        _insert_source(a, select, level, target, columns)
    level.sources.append(target)
    if "onConflictClause" in body:
        _on_conflict(a, body["onConflictClause"], level, target, result.end)
    returning(a, body, level, target, result)


def _insert_source(
    a: Analysis, select: Node, level: Level, target: Source, columns: list[str]
) -> None:
    governed = target.governed
    watched = governed.filter_columns if governed is not None else frozenset[str]()
    for row in select.get("valuesLists", ()):
        for item in unwrap(row)[1].get("items", ()):
            free_literals(a, item)
    a.query(a, select, Level(level.parent, ctes=level.ctes), end=-1, role="subquery")
    supplied = [name for name in columns if name in watched]
    if not a.enforcing or not supplied or governed is None or not governed.filters:
        return
    if "valuesLists" not in select or frozenset(supplied) != watched:
        raise _outside(target)
    for row in select["valuesLists"]:
        items = unwrap(row)[1].get("items", [])
        for name in supplied:
            position = columns.index(name)
            if position < len(items):
                checked_value(a, target, name, items[position])


def _outside(target: Source) -> Exception:
    return refused(
        f'new row for table "{target.table}" cannot be checked against the row filter',
        detail="A policy filters the rows of this table, and the statement sets a column that the filter reads.",
        hint="Leave the column out, or give it as a constant or a parameter.",
    )


def checked_value(a: Analysis, target: Source, name: str, node: Node) -> None:
    """Let a new value pass only where the row filter holds for it."""
    governed, relation = target.governed, target.relation
    kind, inner = unwrap(node)
    if kind == "SetToDefault":
        return
    while kind == "TypeCast":
        kind, inner = unwrap(inner["arg"])
    if kind not in ("A_Const", "ParamRef") or governed is None or relation is None:
        raise _outside(target)
    if governed.filter_columns != frozenset({name}):
        raise _outside(target)
    column = relation.column(name)
    offset = first_offset(node)
    if column is None or offset is None:
        raise _outside(target)
    start = a.tokens.at(offset)
    while a.tokens.raw(start - 1) == b"(" and a.tokens.close(start - 1) == start + 1:
        start -= 1
    end = clause_end(a, start)
    raw = a.tokens.text[a.tokens.items[start].start : a.tokens.items[end - 1].end].decode()
    value = f"(\n{raw}\n)::{column.type.base_sql}"
    checks = " AND ".join(filter_sql(parts, {name: value}) for parts in governed.filters)
    # The value is part of the text that fails, so that nothing of it is computed before the check.
    failing = f"(pg_catalog.concat('{OUTSIDE_FILTER}', pg_catalog.left({value}::pg_catalog.text, 0)))::pg_catalog.bool"
    a.replace(start, end, f"CASE WHEN {checks} THEN {value} WHEN {failing} THEN NULL END")
    for index in range(start, end):
        a.free.discard(a.tokens.starts[index])


def _on_conflict(a: Analysis, body: Node, level: Level, target: Source, end: int) -> None:
    a.visit(body)
    infer = body.get("infer", {})
    hidden = _hidden(target)
    for item in infer.get("indexElems", ()):
        _, element = unwrap(item)
        if "expr" in element:
            expression(a, element["expr"], level)
        elif element.get("name") in hidden and a.enforcing:
            a.write_oracles.add("keys")
    if "whereClause" in infer:
        expression(a, infer["whereClause"], level)
    if target.governed is not None and a.enforcing and (hidden or target.governed.filters):
        a.write_oracles.add("keys")
    if body["action"] != "ONCONFLICT_UPDATE":
        return
    a.actions.add("update")
    excluded = Source("excluded", level, columns=target.columns)
    level.sources.append(excluded)
    _assignments(a, body["targetList"], level, target, excluded)
    if "whereClause" in body:
        condition(a, body["whereClause"], level, "where")
    _filtered(a, body.get("whereClause"), target, a.tokens.at(body["location"]), end)
    level.sources.remove(excluded)


def _assignments(
    a: Analysis, items: list[Node], level: Level, target: Source, excluded: Source | None = None
) -> None:
    names: set[str] = set()
    for item in items:
        _, assigned = unwrap(item)
        a.visit(assigned)
        name = assigned["name"]
        names.add(name)
        for step in assigned.get("indirection", ()):
            if "String" in step:
                check_field(a, strings([step])[0])
                if name in _hidden(target) and a.enforcing:
                    raise _masked_assignment(target, name)
            elif "A_Indices" in step:
                every(
                    a,
                    [step["A_Indices"][k] for k in ("lidx", "uidx") if k in step["A_Indices"]],
                    level,
                )
        _assignment(a, assigned, level, target, excluded)
    note_written(a, target, names)
    _row_values(a, target, names)


def _assignment(
    a: Analysis, assigned: Node, level: Level, target: Source, excluded: Source | None
) -> None:
    name, value = assigned["name"], assigned["val"]
    kind, inner = unwrap(value)
    if kind == "MultiAssignRef":
        if inner.get("colno", 1) == 1:
            expression(a, inner["source"], level)
        else:  # The tree repeats the source for each column.
            a.seen.update(id(each) for _, each in dictionaries([inner["source"]]))
        if a.enforcing and (name in _hidden(target) or _watched(target, name)):
            raise _masked_assignment(target, name)
        return
    expression(a, value, level)
    free_literals(a, value)
    if not a.enforcing:
        return
    if _watched(target, name):
        checked_value(a, target, name, value)
    if name in _hidden(target) and not _client_value(value, excluded):
        raise _masked_assignment(target, name)


def _watched(target: Source, name: str) -> bool:
    governed = target.governed
    return governed is not None and bool(governed.filters) and name in governed.filter_columns


def _client_value(node: Node, excluded: Source | None) -> bool:
    """Say whether a value comes from the client alone: a constant, a parameter, DEFAULT, or EXCLUDED's."""
    kind, body = unwrap(node)
    if kind in ("A_Const", "ParamRef", "SetToDefault", "SQLValueFunction"):
        return True
    if kind == "TypeCast":
        return _client_value(body["arg"], excluded)
    if kind == "ColumnRef" and excluded is not None:
        return strings([f for f in body["fields"] if "String" in f])[0] == "excluded"
    if kind == "A_ArrayExpr":
        return all(_client_value(item, excluded) for item in body.get("elements", ()))
    if kind == "RowExpr":
        return all(_client_value(item, excluded) for item in body.get("args", ()))
    if kind == "FuncCall":
        return not body.get("args")
    return False


def _masked_assignment(target: Source, name: str) -> Exception:
    return refused(
        f'permission denied for column "{name}" of table "{target.table}"',
        detail="A masked column may be set to a constant or a parameter only.",
        hint="Give the new value as a constant or a parameter.",
    )


def _update(a: Analysis, body: Node, level: Level, result: Query) -> None:
    target = _target(a, body, level)
    for item in body.get("fromClause", ()):
        sources.from_item(a, item, level)
    sources.name_apart(level)
    _assignments(a, body["targetList"], level, target)
    _where(a, body, level, target, result)
    returning(a, body, level, target, result)


def _delete(a: Analysis, body: Node, level: Level, result: Query) -> None:
    target = _target(a, body, level)
    for item in body.get("usingClause", ()):
        sources.from_item(a, item, level)
    sources.name_apart(level)
    _where(a, body, level, target, result)
    returning(a, body, level, target, result)


def _where(a: Analysis, body: Node, level: Level, target: Source, result: Query) -> None:
    node = body.get("whereClause")
    if node is not None and "CurrentOfExpr" in node:
        if "cursor_name" not in node["CurrentOfExpr"]:
            raise not_understood("WHERE CURRENT OF a parameter")
        return
    condition(a, node, level, "where")
    if node is None or not _reads_columns(node):
        a.unfiltered_write = True
    _filtered(a, node, target, a.tokens.at(body["relation"].get("location", 0)), result.end)


def _filtered(a: Analysis, node: Node | None, target: Source, start: int, end: int) -> None:
    """Add the row filters and the pin to the WHERE clause of a write; without one, before RETURNING."""
    governed = target.governed
    if not a.enforcing or governed is None:
        return
    added = [filter_sql(parts, _references(target)) for parts in governed.filters]
    added += pin(target)
    if not added:
        return
    text = " AND ".join(added)
    if node is None:
        a.append(_before_returning(a, start, end), f"\nWHERE {text}")
    else:
        first, last = clause(a, node, "where")
        a.wrapping.append((first, last, f") AND {text}"))


def _references(target: Source) -> dict[str, str]:
    columns = target.relation.columns if target.relation else ()
    return {column.name: f"{quoted(target.refname)}.{quoted(column.name)}" for column in columns}


def _reads_columns(node: Any) -> bool:
    return any(key == "ColumnRef" for key, _ in dictionaries([node]))


def _before_returning(a: Analysis, start: int, end: int) -> int:
    tokens, index = a.tokens, start
    while index < end:
        if tokens.raw(index) in (b"(", b"["):
            index = tokens.close(index) + 1
            continue
        if tokens.word(index) == "returning":
            return index
        index += 1
    return end


def _merge(a: Analysis, body: Node, level: Level, result: Query) -> None:
    target = _target(a, body, level)
    if a.enforcing and target.governed is not None:
        raise refused(
            f'MERGE is not supported on table "{target.table}", which a policy governs',
            hint="Use INSERT … ON CONFLICT, or UPDATE.",
        )
    sources.from_item(a, body["sourceRelation"], level)
    sources.name_apart(level)
    condition(a, body["joinCondition"], level, "on")
    names: set[str] = set()
    for item in body.get("mergeWhenClauses", ()):
        _, when = unwrap(item)
        a.visit(when)
        filtered = a.enforcing and any(source.filtered for source in level.sources)
        if "condition" in when and expression(a, when["condition"], level).leaky and filtered:
            raise not_understood("a MERGE condition over rows that a policy filters")
        for part in when.get("targetList", ()):
            _, assigned = unwrap(part)
            a.visit(assigned)
            names.add(assigned["name"])
            if "val" in assigned:
                expression(a, assigned["val"], level)
        every(a, when.get("values"), level)
    note_written(a, target, names)
    if "returningClause" in body:
        returning(a, body, level, target, result)
