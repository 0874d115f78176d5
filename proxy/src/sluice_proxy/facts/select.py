"""SELECT in all its forms: levels, WITH, set operations, VALUES, grouping, locking."""

from __future__ import annotations

from sluice_proxy.facts import grouping, rowtypes, sources
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.calls import window
from sluice_proxy.facts.columns import operand, operand_of
from sluice_proxy.facts.comparing import free_literals
from sluice_proxy.facts.expressions import every, expression
from sluice_proxy.facts.predicates import condition, having
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.facts.resultnames import figured
from sluice_proxy.facts.scopes import Cte, Derived, Level, Query, Source
from sluice_proxy.facts.traits import Trait
from sluice_proxy.facts.tree import Node, strings, unwrap
from sluice_proxy.facts.types import blended

_KNOWN = frozenset(
    [
        "targetList",
        "fromClause",
        "whereClause",
        "groupClause",
        "groupDistinct",
        "havingClause",
        "windowClause",
        "valuesLists",
        "sortClause",
        "limitOffset",
        "limitCount",
        "limitOption",
        "lockingClause",
        "withClause",
        "op",
        "all",
        "larg",
        "rarg",
        "distinctClause",
        "intoClause",
    ]
)


def query(
    a: Analysis, body: Node, parent: Level | None, *, end: int, role: str = "subquery"
) -> Query:
    """Walk a SELECT, VALUES, TABLE or set operation.

    Args:
        a: The statement.
        body: The SelectStmt.
        parent: The level whose names it may use; None at the top.
        end: The token behind its last one, where a fence can stand.
        role: "top", "subquery", "cte", "sublink" or "arm".
    """
    a.visit(body)
    unknown = body.keys() - _KNOWN
    if unknown:
        raise not_understood(f"a SELECT with {min(unknown)}")
    level = Level(parent)
    result = Query(level=level, end=end)
    a.nested += 1
    with_clause(a, body.get("withClause"), level)
    result.limited = "limitCount" in body or "limitOffset" in body
    result.offset = "limitOffset" in body
    result.locking = "lockingClause" in body
    a.locking |= result.locking
    if body.get("op", "SETOP_NONE") != "SETOP_NONE":
        _set_operation(a, body, level, result)
    elif "valuesLists" in body:
        _values(a, body, level, result)
    else:
        _plain(a, body, level, result, role)
    _order(a, body, level)
    if a.nested == 1 and role == "top":
        result.total = False
    a.nested -= 1
    result.done = True
    return result


def with_clause(a: Analysis, body: Node | None, level: Level) -> None:
    """Walk a WITH list; its names are in sight of ``level`` from then on."""
    if body is None:
        return
    recursive = bool(body.get("recursive"))
    items = [unwrap(item)[1] for item in body["ctes"]]
    if recursive:
        for item in items:
            level.ctes[item["ctename"]] = Cte(item["ctename"], Query(opaque=True, columns=None))
    for item in items:
        _cte(a, item, level, recursive=recursive)


def _cte(a: Analysis, item: Node, level: Level, *, recursive: bool) -> None:
    kind, body = unwrap(item["ctequery"])
    end = _cte_end(a, item)
    if kind == "SelectStmt":
        found = query(a, body, level, end=end, role="cte")
        found.opaque |= recursive or item.get("ctematerialized") == "CTEMaterializeAlways"
    elif kind in ("InsertStmt", "UpdateStmt", "DeleteStmt"):
        found = a.write(a, kind, body, level, end=end)
        found.opaque = True
    else:
        raise not_understood(f"{kind} in WITH")
    names = strings(item.get("aliascolnames"))
    found.columns = renamed(found, names)
    added = _search_and_cycle(a, item, level)
    if found.columns is not None:
        found.columns += added
    level.ctes[item["ctename"]] = Cte(item["ctename"], found)


def _search_and_cycle(a: Analysis, item: Node, level: Level) -> tuple[str, ...]:
    """Return the columns that SEARCH and CYCLE add."""
    names: list[str] = []
    search, cycle = item.get("search_clause"), item.get("cycle_clause")
    if search is not None:
        a.mentioned.update(strings(search["search_col_list"]))
        names.append(search["search_seq_column"])
    if cycle is not None:
        a.mentioned.update(strings(cycle["cycle_col_list"]))
        for key in ("cycle_mark_value", "cycle_mark_default"):
            if key in cycle:
                expression(a, cycle[key], level)
        names += [cycle["cycle_mark_column"], cycle["cycle_path_column"]]
    return tuple(names)


def _cte_end(a: Analysis, item: Node) -> int:
    tokens = a.tokens
    index = tokens.name_end(tokens.at(item["location"]))
    if tokens.raw(index) == b"(":
        index = tokens.close(index) + 1
    if tokens.word(index) != "as":
        raise not_understood("a WITH query that cannot be found in the text")
    index += 1
    while tokens.word(index) in ("not", "materialized"):
        index += 1
    return tokens.close(index)


def renamed(found: Query, names: list[str]) -> tuple[str, ...] | None:
    """Return a sub-select's column names under an alias list, and carry its leaky columns along."""
    if not names:
        return found.columns
    if found.columns is None:
        found.leaky_targets = True
        return None
    columns = (*names, *found.columns[len(names) :])
    pairs = list(zip(found.columns, columns, strict=False))
    found.leaky_columns = {new for old, new in pairs if old in found.leaky_columns}
    found.derived = {new: found.derived[old] for old, new in pairs if old in found.derived}
    return columns


def _set_operation(a: Analysis, body: Node, level: Level, result: Query) -> None:
    # A level that brings no names is left out, so that looking names up does not climb a long chain of UNIONs.
    around = level if level.ctes else level.parent
    for side in ("larg", "rarg"):
        result.arms.append(query(a, body[side], around, end=result.end, role="arm"))
    left, right = result.arms
    result.columns = left.columns
    for arm in result.arms:
        result.leaky_targets |= arm.leaky_targets
        if result.columns is None or arm.columns is None:
            result.leaky_columns.update(result.columns or ())
            continue
        for name, own in zip(result.columns, arm.columns, strict=False):
            if own in arm.leaky_columns:
                result.leaky_columns.add(name)
    _blend_arms(result, left, right)
    level.outer |= (left.level.outer if left.level else set()) - set(level.sources)
    level.outer |= (right.level.outer if right.level else set()) - set(level.sources)


def _blend_arms(result: Query, left: Query, right: Query) -> None:
    """Bring the columns of two arms to one type, as the server does."""
    pairs = zip(result.columns or (), left.columns or (), right.columns or (), strict=False)
    for name, *own in pairs:
        sides = [operand_of(arm, each) for arm, each in zip((left, right), own, strict=True)]
        blend = blended(sides)
        if blend.leaky:
            result.leaky_columns.add(name)
            result.leaky_targets = True
        _derive(result, name, blend)


def _derive(result: Query, name: str, trait: Trait) -> None:
    """Note what comparing a result column takes; of two columns of one name the worse counts."""
    _note(result, name, _derived(trait))


def _derived(trait: Trait) -> Derived:
    total = trait.value and not (trait.kind == "const" and trait.parameter)
    return Derived(total, trait.base, trait.type, trait.collation, trait.weak)


def _note(result: Query, name: str, found: Derived) -> None:
    known = result.derived.setdefault(name, found)
    if known is not found and known != found:
        result.derived[name] = Derived(total=False)


def _values(a: Analysis, body: Node, level: Level, result: Query) -> None:
    columns: list[list[Trait]] = []
    for row in body["valuesLists"]:
        _, items = unwrap(row)
        values = items.get("items", [])
        columns.extend([] for _ in range(len(values) - len(columns)))
        for item, column in zip(values, columns, strict=False):
            column.append(expression(a, item, level))
            free_literals(a, item)
    result.columns = tuple(f"column{number}" for number in range(1, len(columns) + 1))
    for name, traits in zip(result.columns, columns, strict=True):
        blend = blended(traits)
        if blend.leaks or blend.leaks_anywhere:
            result.leaky_columns.add(name)
            result.leaky_targets = True
        _derive(result, name, blend)


def _plain(a: Analysis, body: Node, level: Level, result: Query, role: str) -> None:
    for item in body.get("fromClause", ()):
        sources.from_item(a, item, level)
    sources.name_apart(level)
    targets = body.get("targetList", [])
    rowtypes.repeated(a, body)
    total = condition(a, body.get("whereClause"), level, "where") and sources.all_total(level)
    traits = _targets(a, targets, level, result, top=role == "top" and a.nested == 1)
    every(a, [item for item in body.get("distinctClause", ()) if item], level)
    grouping.group(a, body, level)
    having(a, body.get("havingClause"), level)
    for item in body.get("windowClause", ()):
        _, definition = unwrap(item)
        window(a, definition, level)
    clauses = (
        "groupClause",
        "havingClause",
        "distinctClause",
        "limitCount",
        "limitOffset",
        "lockingClause",
    )
    result.total = total and not any(name in body for name in clauses)
    result.total = (
        result.total and "withClause" not in body and not any(t.leaky or t.barrier for t in traits)
    )


def _targets(
    a: Analysis, targets: list[Node], level: Level, result: Query, *, top: bool
) -> list[Trait]:
    names: list[str] | None = []
    traits: list[Trait] = []
    for item in targets:
        _, target = unwrap(item)
        a.visit(target)
        value = target["val"]
        kind, inner = unwrap(value)
        a.bare_call = id(inner) if "name" not in target and "indirection" not in target else None
        if top and kind == "FuncCall":
            a.top_targets.add(id(inner))
        if kind == "ColumnRef" and "A_Star" in inner["fields"][-1]:
            a.bare_call = None
            traits.append(expression(a, value, level))
            names = _star(a, inner, level, names, result)
            continue
        a.result_reference = id(inner) if kind == "ColumnRef" else None
        if kind in ("FuncCall", "ColumnRef"):
            trait = _named(a, value, level, id(inner), a.bare_call)
        else:
            a.bare_call = None
            trait = expression(a, value, level)
        traits.append(trait)
        name = str(target.get("name") or figured(value)[0] or "?column?")
        leaky = (trait.leaks or trait.leaks_anywhere) and not trait.barrier
        if leaky:
            result.leaky_columns.add(name)
            result.leaky_targets = True
        _derive(result, name, trait)
        if kind == "A_Indirection" and "A_Star" in inner["indirection"][-1]:
            names = None
        if names is not None:
            names.append(name)
    a.bare_call = None
    result.columns = None if names is None else tuple(names)
    return traits


def _named(a: Analysis, value: Node, level: Level, inner: int, bare: int | None) -> Trait:
    # The mark must hold for this very call and none inside of it: identity takes care of that.
    a.bare_call = bare if bare == inner else None
    return expression(a, value, level)


def _star(
    a: Analysis, inner: Node, level: Level, names: list[str] | None, result: Query
) -> list[str] | None:
    qualifier = strings(inner["fields"][:-1])
    chosen = level.sources
    if qualifier:
        source = level.named(qualifier[-1])
        chosen = [source] if source else []
    known = names is not None and bool(chosen)
    out = list(names or [])
    for source in chosen:
        if source.query is not None and source.filtered:
            result.leaky_targets |= source.query.leaky_targets
        if source.columns is None:
            known = False
            result.leaky_targets |= source.filtered
            continue
        out.extend(source.columns)
        if source.relation is not None and not source.renamed and not source.target:
            for name, derived in _shown(a, source).items():
                _note(result, name, derived)
            continue
        for name in source.columns:
            if source.leaky(name):
                result.leaky_columns.add(name)
            _derive(result, name, operand(source, name))
    return out if known else None


def _shown(a: Analysis, source: Source) -> dict[str, Derived]:
    """Return what comparing each column of a relation takes; the same wherever the relation stands."""
    relation = source.relation
    if relation is None:
        return {}
    shown = a.shown.get(relation.oid)
    if shown is None:
        names = source.columns or ()
        shown = {name: _derived(operand(source, name)) for name in names}
        a.shown[relation.oid] = shown
    return shown


def _order(a: Analysis, body: Node, level: Level) -> None:
    for item in body.get("sortClause", ()):
        expression(a, item, level)
    for name in ("limitCount", "limitOffset"):
        if name in body:
            expression(a, body[name], level)
    for item in body.get("lockingClause", ()):
        _, locking = unwrap(item)
        for relation in locking.get("lockedRels", ()):
            _, name = unwrap(relation)
            a.visit(name)
            if name.get("schemaname"):
                raise not_understood("FOR UPDATE OF with a schema")
    if "intoClause" in body and a.nested != 1:
        raise not_understood("INTO inside a query")
