"""Tables that a restricted session makes; it may change and drop temporary ones only."""

from __future__ import annotations

import re

from sluice_proxy.catalog.model import Relation
from sluice_proxy.facts import indexes, lasting_views, sources
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.constraints import column, constraint
from sluice_proxy.facts.expressions import every, expression
from sluice_proxy.facts.filtering import check_unfiltering
from sluice_proxy.facts.lasting import (
    TABLES,
    changed,
    check_cascade,
    ddl_refused,
    governed_refused,
    judge,
    made,
    note_altered,
    note_made,
    note_renamed,
    owned,
)
from sluice_proxy.facts.model import SessionEffects
from sluice_proxy.facts.naming import Resolved, quoted, resolve
from sluice_proxy.facts.partitions import TIES, bound, keys_free, tie
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.rights import only_owner, own
from sluice_proxy.facts.scopes import Level, Source
from sluice_proxy.facts.targets import note_keys
from sluice_proxy.facts.tree import Node, dictionaries, parse, strings, unwrap
from sluice_proxy.governed import spoken_of

_REFRESH = SessionEffects(refresh=True)
_ALTERATIONS = frozenset(
    [
        "AT_AddColumn",
        "AT_DropColumn",
        "AT_ColumnDefault",
        "AT_DropNotNull",
        "AT_SetNotNull",
        "AT_AlterColumnType",
        "AT_AddConstraint",
        "AT_DropConstraint",
        "AT_AddIdentity",
        "AT_DropIdentity",
        "AT_SetIdentity",
        "AT_SetStatistics",
        "AT_SetStorage",
        "AT_SetOptions",
        "AT_ResetOptions",
        "AT_SetRelOptions",
        "AT_ResetRelOptions",
        "AT_DropExpression",
        "AT_SetLogged",
        "AT_SetUnLogged",
    ]
)


def create(a: Analysis, body: Node) -> SessionEffects | None:
    """CREATE TABLE."""
    relation = body["relation"]
    a.kind = "create table"
    a.visit(relation)
    temporary = made(a, relation, "CREATE TABLE")
    if "ofTypename" in body or body.get("accessMethod", "heap") != "heap":
        raise ddl_refused("CREATE TABLE with OF or USING")
    indexes.see_options(a, body.get("options", []))
    level = _level(relation["relname"], body)
    taken = () if temporary else _parents(a, body, relation)
    _partition(a, body, level)
    for item in body.get("tableElts", ()):
        kind, element = unwrap(item)
        if kind == "ColumnDef":
            column(a, element, level)
        elif kind == "Constraint":
            constraint(a, element, level)
        elif kind == "TableLikeClause":
            _like(a, element)
        else:
            raise not_understood(f"{kind} in CREATE TABLE")
    columns = _all_columns(a, body)
    if columns is not None and ("inhRelations" not in body or not temporary):
        note_made(a, body, relation["relname"], (*taken, *columns))
    return _REFRESH


def _parents(a: Analysis, body: Node, relation: Node) -> tuple[str, ...]:
    """Check the parents of a new table that stays; return the columns that it takes over.

    Raises:
        ClientError: A policy speaks of one, or would speak of the new table.
    """
    own = [unwrap(item)[1]["colname"] for item in body.get("tableElts", ()) if "ColumnDef" in item]
    taken: list[str] = []
    what = "CREATE TABLE with INHERITS or PARTITION OF"
    for item in body.get("inhRelations", ()):
        parent = changed(a, unwrap(item)[1], what, "ddl.create")
        check_unfiltering(a, parent.schema, parent.name, what, rows=True)
        if parent.relation is not None:
            taken += [column.name for column in parent.relation.columns]
        elif parent.temporary is not None:
            taken += parent.temporary.columns
        place, name = a.place, relation["relname"]
        if place is None or spoken_of(a.context.decision, place.schema, name, [*own, *taken]):
            raise governed_refused(f'{what}: a policy speaks of "{name}"')
    return tuple(taken)


def _all_columns(a: Analysis, body: Node) -> tuple[str, ...] | None:
    """Return the columns of a new table, those it takes over by LIKE too; None: they are not known."""
    liked = iter(a.liked)
    found: list[str] = []
    for item in body.get("tableElts", ()):
        kind, element = unwrap(item)
        if kind == "ColumnDef":
            found.append(element["colname"])
        elif kind == "TableLikeClause":
            taken = next(liked)
            if taken is None:
                return None
            found += taken
    return tuple(found)


def _partition(a: Analysis, body: Node, level: Level) -> None:
    """Check the partitioning of a table, and that the parents of a temporary one are temporary."""
    for item in body.get("inhRelations", ()) if a.place is None else ():
        owned(a, unwrap(item)[1], "CREATE TABLE with INHERITS or PARTITION OF")
    for item in body.get("partspec", {}).get("partParams", ()):
        _, element = unwrap(item)
        if "expr" in element:
            expression(a, element["expr"], level)
        if len(strings(element.get("opclass"))) > 1 or len(strings(element.get("collation"))) > 1:
            raise not_understood("an operator class or a collation with a schema")
    bound(a, body.get("partbound", {}))


def _level(name: str, body: Node) -> Level:
    names = [
        unwrap(item)[1]["colname"] for item in body.get("tableElts", ()) if "ColumnDef" in item
    ]
    level = Level(None)
    level.sources.append(Source(name, level, columns=tuple(names)))
    return level


_DEFAULTS = 1 << 3
_COPIED = 1 | 1 << 1 | _DEFAULTS | 1 << 5 | 1 << 7 | 1 << 8
"""Of CREATE_TABLE_LIKE's options: COMMENTS, COMPRESSION, DEFAULTS, IDENTITY, STATISTICS and STORAGE."""


def _plain_defaults(a: Analysis, relation: Relation) -> None:
    """Check that no default calls what could read data: its value would not be masked in the copy."""
    for each in relation.columns:
        if each.default is None:
            continue
        for key, node in dictionaries(parse(f"SELECT {each.default}".encode())[0].body):
            if key != "FuncCall":
                continue
            names = strings(node["funcname"])
            if (len(names) > 1 and names[0] != "pg_catalog") or a.allow.function(names[-1]) is None:
                raise not_understood(f'the default of column "{each.name}", which calls a function')


def _like(a: Analysis, element: Node) -> None:
    a.visit(element["relation"])
    resolved = sources.lookup(a, element["relation"])
    governed = a.governed.get(resolved.relation.oid) if resolved.relation else None
    if governed is not None and resolved.relation is not None:
        if element.get("options", 0) & ~_COPIED:
            raise not_understood(
                "CREATE TABLE (LIKE … INCLUDING …) of a governed table, with constraints, indexes or generated columns",
                "INCLUDING DEFAULTS, IDENTITY, STORAGE, COMPRESSION, STATISTICS and COMMENTS work.",
            )
        if element.get("options", 0) & _DEFAULTS:
            _plain_defaults(a, resolved.relation)
    a.liked.append(
        tuple(column.name for column in resolved.relation.columns) if resolved.relation else None
    )
    sources.qualify(a, element["relation"], resolved)


def create_as(a: Analysis, body: Node) -> SessionEffects | None:
    """CREATE TABLE AS and CREATE MATERIALIZED VIEW."""
    into = body["into"]["rel"]
    a.visit(into)
    kind, query = unwrap(body["query"])
    if body.get("objtype") == "OBJECT_MATVIEW" and a.enforcing:
        return lasting_views.materialized(a, body, _without_data(a))
    temporary = made(a, into, "CREATE TABLE AS")
    a.kind = "create table as"
    if kind == "ExecuteStmt":
        every(a, query.get("params"), Level(None))
        return SessionEffects(refresh=True, execute=query["name"])
    if kind != "SelectStmt":
        raise not_understood("CREATE TABLE AS of something else than a query")
    found = a.query(a, query, None, end=_without_data(a), role="top")
    named = into.get("colNames") or body["into"].get("colNames")
    if (temporary or a.place is not None) and found.columns is not None and not named:
        note_made(a, body, into["relname"], found.columns)
    a.actions.add("select")
    return _REFRESH


def _without_data(a: Analysis) -> int:
    """Return the token behind a query that WITH DATA or WITH NO DATA may follow."""
    end = a.span[1]
    words = [a.tokens.word(index) for index in range(max(a.span[0], end - 3), end)]
    if words[-1:] == ["data"] and "with" in words:
        return end - (3 if words[-2:-1] == ["no"] else 2)
    return end


def select_into(a: Analysis, body: Node) -> SessionEffects | None:
    """SELECT … INTO."""
    into = body["intoClause"]["rel"]
    a.visit(into)
    made(a, into, "SELECT INTO")
    return _REFRESH


def alter(a: Analysis, body: Node) -> SessionEffects | None:
    """ALTER TABLE."""
    a.kind = "alter table"
    if body.get("objtype") == "OBJECT_INDEX":
        return indexes.alter(a, body)
    kinds = TABLES
    if only_owner(body) and body.get("objtype") in _OWNED:
        kinds = _OWNED[body["objtype"]]
    elif body.get("objtype") != "OBJECT_TABLE":
        raise ddl_refused("ALTER")
    table = changed(a, body["relation"], "ALTER TABLE", "ddl.alter", kinds)
    if table.schema != "pg_temp":
        a.place = table
    level = indexes.columns_level(table)
    for item in body["cmds"]:
        _, command = unwrap(item)
        if not _alteration(a, table, command):
            raise _form_refused(command["subtype"])
        if command["subtype"] == "AT_AlterColumnType":
            note_keys(a, table.relation, frozenset([command["name"]]))
        check_cascade(a, table, command)
        if "def" in command:
            kind, definition = unwrap(command["def"])
            if kind == "ColumnDef":
                column(a, definition, level)
            elif kind == "Constraint":
                constraint(a, definition, level)
            elif kind == "List":
                indexes.see_options(a, definition.get("items", []))
            elif kind in ("PartitionCmd", "RangeVar"):
                tie(a, table, definition)
            elif kind not in ("ATAlterConstraint", "Integer", "String", "ReplicaIdentityStmt"):
                expression(a, command["def"], level)
    note_altered(a, body, table)
    return _REFRESH


_OWNED = {
    "OBJECT_TABLE": TABLES + "vmS",
    "OBJECT_SEQUENCE": "S",
    "OBJECT_VIEW": "v",
    "OBJECT_MATVIEW": "m",
}


def _form_refused(form: str) -> Exception:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", form.removeprefix("AT_")).upper()
    words = words.replace("TRIG ", "TRIGGER ")
    return refused(
        f"permission denied for ALTER TABLE with {words}",
        detail="It reaches keys of other tables, or changes rights, triggers, places or replication.",
        hint="Let a role that no policy restricts change it, as migrations do.",
    )


def _alteration(a: Analysis, table: Resolved, command: Node) -> bool:
    """Say whether a form of ALTER TABLE is known to be harmless for the table."""
    form = command.get("subtype", "AT_AddColumn")
    if form == "AT_ChangeOwner":
        return own(a, command["newowner"])
    if form in ("AT_AlterConstraint", "AT_ValidateConstraint"):
        # Of a foreign key it tells which keys there are in another table.
        accepted = table.schema == "pg_temp" or a.context.decision.write_oracle_keys_accepted
        return accepted or keys_free(a, table)
    if form == "AT_ReplicaIdentity":
        return table.schema == "pg_temp"
    return form in _ALTERATIONS or form in TIES


_RENAMED = {
    "OBJECT_TABLE": TABLES + "vmS",
    "OBJECT_COLUMN": TABLES,
    "OBJECT_TABCONSTRAINT": TABLES,
    "OBJECT_SEQUENCE": "S",
    "OBJECT_VIEW": "v",
    "OBJECT_MATVIEW": "m",
}


def rename(a: Analysis, body: Node) -> SessionEffects | None:
    """ALTER TABLE … RENAME."""
    a.kind = "alter table"
    if body.get("renameType") == "OBJECT_INDEX":
        return indexes.rename(a, body)
    kinds = _RENAMED.get(body.get("renameType", ""))
    if kinds is None or "relation" not in body:
        raise ddl_refused("ALTER … RENAME")
    table = changed(a, body["relation"], "ALTER … RENAME", "ddl.alter", kinds)
    note_renamed(a, body, table)
    return _REFRESH


_DROPPED = {
    "OBJECT_TABLE": TABLES,
    "OBJECT_SEQUENCE": "S",
    "OBJECT_VIEW": "v",
    "OBJECT_MATVIEW": "m",
}


def drop(a: Analysis, body: Node) -> SessionEffects | None:
    """DROP TABLE, VIEW, MATERIALIZED VIEW and SEQUENCE."""
    kinds = _DROPPED.get(body["removeType"])
    if kinds is None:
        raise ddl_refused(f"DROP {body['removeType'].removeprefix('OBJECT_').replace('_', ' ')}")
    names = [strings(unwrap(item)[1].get("items")) for item in body["objects"]]
    dropped = [_dropped(a, parts, kinds, missing=bool(body.get("missing_ok"))) for parts in names]
    for each in dropped:
        check_cascade(a, each, body)
    index = a.span[0] + (3 if body["removeType"] == "OBJECT_MATVIEW" else 2)
    if a.tokens.word(index) == "if" and a.tokens.word(index + 1) == "exists":
        index += 2
    for parts, each in zip(names, dropped, strict=True):
        index = qualified_at(a, index, parts, each.schema) + 1
    if all(each.schema == "pg_temp" for each in dropped):
        a.dropped = tuple(parts[-1] for parts in names)
    else:
        a.nameless = not any(each.schema == "pg_temp" for each in dropped)
    return _REFRESH


def _dropped(a: Analysis, parts: list[str], kinds: str, *, missing: bool) -> Resolved:
    """Return what a name in DROP means."""
    if len(parts) > 2:
        raise ddl_refused("DROP of what is not temporary")
    resolved = resolve(a.context, parts[0] if len(parts) == 2 else None, parts[-1])
    if resolved.schema == "pg_temp":
        known = resolved.temporary
        if (known is None and not missing) or (known is not None and known.kind not in kinds):
            raise ddl_refused(f'DROP of "{parts[-1]}", which is nothing temporary of this session')
        return resolved
    judge(a, resolved, "DROP", "ddl.drop", kinds)
    return resolved


def qualified_at(a: Analysis, index: int, parts: list[str], schema: str = "pg_temp") -> int:
    """Qualify the name of an object that stands at this token; return the token behind it."""
    tokens = a.tokens
    end = tokens.dotted_end(index, len(parts))
    last = end - 1 if len(parts) == 2 else index
    if tokens.name(last) != parts[-1] and tokens.kinds[last] != "unicode_ident":
        raise not_understood("a name that cannot be found in the text")
    a.replace(index, end, f"{quoted(schema)}.{quoted(parts[-1])}")
    return end
