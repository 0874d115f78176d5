"""Indexes: of the session's own temporary tables, and of tables that stay and that no policy speaks of."""

from __future__ import annotations

from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.expressions import expression
from sluice_proxy.facts.lasting import (
    TABLES,
    changed,
    ddl_refused,
    governed_refused,
    tied_to_governed,
)
from sluice_proxy.facts.model import SessionEffects
from sluice_proxy.facts.naming import Resolved, quoted, resolve
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.facts.scopes import Level, Source
from sluice_proxy.facts.tree import Node, strings, unwrap

_REFRESH = SessionEffects(refresh=True)


def columns_level(resolved: Resolved) -> Level:
    """Return a level with the columns of one table, for expressions in its definition."""
    level = Level(None)
    source = Source(resolved.name, level)
    if resolved.relation is not None:
        source.columns = tuple(column.name for column in resolved.relation.columns)
    elif resolved.temporary is not None:
        source.columns = resolved.temporary.columns
    level.sources.append(source)
    return level


def see_options(a: Analysis, options: list[Node]) -> None:
    """Take notice of options of storage: the grammar reads words like ``off`` as names of types."""
    for item in options:
        _, option = unwrap(item)
        if "TypeName" in option.get("arg", {}):
            a.visit(option["arg"]["TypeName"])


def create(a: Analysis, body: Node) -> SessionEffects | None:
    """CREATE INDEX."""
    a.kind = "create index"
    level = columns_level(changed(a, body["relation"], "CREATE INDEX", "ddl.create", TABLES + "m"))
    see_options(a, body.get("options", []))
    for item in (*body.get("indexParams", ()), *body.get("indexIncludingParams", ())):
        _, element = unwrap(item)
        if "expr" in element:
            expression(a, element["expr"], level)
        see_options(a, element.get("opclassopts", []))
    if "whereClause" in body:
        expression(a, body["whereClause"], level)
    a.nameless = True
    return _REFRESH


def drop(a: Analysis, body: Node) -> SessionEffects | None:
    """DROP INDEX."""
    if body.get("behavior") == "DROP_CASCADE":
        raise ddl_refused("DROP INDEX … CASCADE")
    index = a.span[0] + 2
    if a.tokens.word(index) == "concurrently":
        index += 1
    if a.tokens.word(index) == "if" and a.tokens.word(index + 1) == "exists":
        index += 2
    for item in body["objects"]:
        parts = strings(unwrap(item)[1].get("items"))
        index = named(a, parts, index, "DROP INDEX", "ddl.drop") + 1
    a.nameless = True
    return _REFRESH


def rename(a: Analysis, body: Node) -> SessionEffects | None:
    """ALTER INDEX … RENAME."""
    relation = body["relation"]
    # PostgreSQL renames tables and views by ALTER INDEX too.
    if resolve(a.context, relation.get("schemaname"), relation["relname"]).found:
        raise governed_refused(f'ALTER INDEX of "{relation["relname"]}", which is no index')
    _index(a, relation)
    a.nameless = True
    return _REFRESH


_ALTERATIONS = frozenset(
    ["AT_AttachPartition", "AT_ResetRelOptions", "AT_SetRelOptions", "AT_SetStatistics"]
)


def alter(a: Analysis, body: Node) -> SessionEffects | None:
    """ALTER INDEX … SET, RESET and ATTACH PARTITION."""
    _index(a, body["relation"])
    for item in body["cmds"]:
        _, command = unwrap(item)
        if command["subtype"] not in _ALTERATIONS:
            raise ddl_refused("ALTER INDEX of this form")
        kind, definition = unwrap(command["def"])
        if kind == "PartitionCmd":
            _index(a, definition["name"])
        elif kind == "List":
            see_options(a, definition.get("items", []))
    return None


def _index(a: Analysis, relation: Node) -> None:
    """Judge an index that a statement names as a relation."""
    a.visit(relation)
    if "catalogname" in relation:
        raise not_understood("an index of another database")
    parts = [relation[key] for key in ("schemaname", "relname") if key in relation]
    named(a, parts, a.tokens.at(relation["location"]), "ALTER INDEX", "ddl.alter")


def named(a: Analysis, parts: list[str], index: int, what: str, action: str) -> int:
    """Judge the change of an index whose name stands at this token; return the token behind it.

    The name of one that stays is left as it is: whichever table has an index of that name, no policy speaks of it.
    """
    end = a.tokens.dotted_end(index, len(parts))
    last = end - 1 if len(parts) == 2 else index
    if a.tokens.name(last) != parts[-1] and a.tokens.kinds[last] != "unicode_ident":
        raise not_understood("a name that cannot be found in the text")
    catalog = a.context.catalog
    if len(parts) > 2 or catalog is None:
        raise ddl_refused(what)
    schema = parts[0] if len(parts) == 2 else None
    found = [
        catalog.by_oid.get(table)
        for place, table in catalog.indexes.get(parts[-1], ())
        if schema in (None, place)
    ]
    if schema == "pg_temp" or (not found and a.context.temporary and not a.context.made):
        a.replace(index, end, f"{quoted('pg_temp')}.{quoted(parts[-1])}")
        return end
    if any(tied_to_governed(a, table) or table is None or table.has_rules for table in found):
        raise governed_refused(f'{what} of "{parts[-1]}"')
    a.actions.add(action)
    for table in found:
        use = a.use(Resolved(table.schema, table.name, table)) if table else None
        if use is not None:
            use.written = True
    return end
