"""Tables that stay, and what a restricted session may change of them: those that no policy speaks of."""

from __future__ import annotations

from sluice_proxy.catalog.model import Relation
from sluice_proxy.facts import sources
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.filtering import check_unfiltering
from sluice_proxy.facts.naming import Resolved, resolve
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.tree import Node, strings, unwrap
from sluice_proxy.facts.unread import check_unread
from sluice_proxy.governed import tied
from sluice_proxy.reports import ClientError, ErrorReport, SqlState

TABLES = "rp"
"""Kinds of relations that are tables."""


def ddl_refused(what: str) -> Exception:
    """Return the refusal of changing what the session may not change."""
    return refused(
        f"permission denied for {what}",
        detail="A session that a policy restricts may change and drop what is temporary, and tables that no policy "
        "masks or filters where the policy has the actions ddl.create, ddl.alter and ddl.drop.",
        hint="Use CREATE TEMP TABLE, or another database role.",
    )


def governed_refused(what: str) -> Exception:
    """Return the refusal of changing what a policy speaks of, or what is tied to it."""
    return refused(
        f"permission denied for {what}",
        detail="A policy masks columns or filters rows of it, or of a table or view that is tied to it.",
        hint="Let a role that no policy restricts change it, as migrations do.",
    )


def made(a: Analysis, relation: Node, what: str) -> bool:
    """Judge where a new table goes; return True for a temporary one.

    Any other needs the action ddl.create from the policy, and its name is spliced to where it goes.
    """
    schema = relation.get("schemaname")
    if relation.get("relpersistence") == "t" or schema == "pg_temp":
        return True
    if not a.enforcing:
        a.actions.add("ddl.create")
        return False
    if schema is None:
        if a.placeless:
            raise not_understood(
                "a name without its schema behind CREATE SCHEMA, in one message",
                "Write the schema in front of the name, or send the statements one by one.",
            )
        schema = default_schema(a)
    if "catalogname" in relation or schema.startswith("pg_") or schema == "information_schema":
        raise ddl_refused(what)
    check_unfiltering(a, schema, relation["relname"], what)
    a.actions.add("ddl.create")
    place = a.place = Resolved(schema, relation["relname"])
    use = a.use(place)
    if use is not None:
        use.written = True
    sources.qualify(a, relation, place)
    return False


def note_made(a: Analysis, body: Node, name: str, columns: tuple[str, ...]) -> None:
    """Note the table that is made and its columns, for statements behind it in the same message."""
    if a.place is None:
        a.created = (name, columns)
    elif not body.get("if_not_exists"):
        a.lasting = (a.place.schema, name, columns)
    elif not a.followed:
        return
    elif (known := _there(a, a.place)) is None:
        _made_anew(a)
        a.lasting = (a.place.schema, name, columns)
    elif known.relation is None or known.relation.oid in a.governed:
        a.nameless = True
    else:  # Or the message has dropped it: then no policy spoke of what it was.
        a.lasting = (a.place.schema, name, columns)


def _there(a: Analysis, place: Resolved) -> Resolved | None:
    """Return the relation of that name, which CREATE … IF NOT EXISTS leaves as it is; None: there is none."""
    found = resolve(a.context, place.schema, place.name)
    return found if found.found else None


def _made_anew(a: Analysis) -> None:
    """Take IF NOT EXISTS out of the text: what came there meanwhile could be anybody's, and ends in an error.

    Raises:
        ClientError: It does not stand where it was looked for.
    """
    words = ("if", "not", "exists")
    for start in range(a.span[0] + 1, min(a.span[0] + 6, a.span[1] - 3)):
        if tuple(a.tokens.word(start + n) for n in range(3)) == words:
            a.replace(start, start + 3, "")
            return
    raise not_understood("IF NOT EXISTS in an unexpected place")


def note_altered(a: Analysis, body: Node, table: Resolved) -> None:
    """Note the columns that a table of the same transaction gets: a policy may speak of them."""
    if table.temporary is None or table.schema == "pg_temp":
        a.nameless = True
        return
    definitions = [unwrap(item)[1].get("def", {}) for item in body["cmds"]]
    added = [
        each["ColumnDef"]["colname"]
        for each in definitions
        if "colname" in each.get("ColumnDef", {})
    ]
    a.lasting = (table.schema, table.name, (*table.temporary.columns, *added))


def note_renamed(a: Analysis, body: Node, table: Resolved) -> None:
    """Note the new name of a table, or of a column of one that the transaction has made."""
    if body["renameType"] in ("OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW"):
        check_unfiltering(a, table.schema, body["newname"], "ALTER … RENAME")
        note_moved(a, table)
    own = table.temporary
    known = own or table.relation
    if known is None or known.kind not in TABLES:
        a.nameless = table.schema != "pg_temp"
        return
    columns = own.columns if own is not None else ()
    if table.relation is not None:
        columns = tuple(column.name for column in table.relation.columns)
    if body["renameType"] == "OBJECT_TABLE":
        if table.schema == "pg_temp":
            a.created = (body["newname"], columns)
        else:
            a.lasting = (table.schema, body["newname"], columns)
    elif own is None or table.schema == "pg_temp" or body["renameType"] != "OBJECT_COLUMN":
        a.nameless = True
    else:
        renamed = tuple(body["newname"] if each == body["subname"] else each for each in columns)
        a.lasting = (table.schema, table.name, renamed)


def changed(a: Analysis, relation: Node, what: str, action: str, kinds: str = TABLES) -> Resolved:
    """Return the relation that is to be changed, and qualify its name.

    Raises:
        ClientError: It is governed, or tied to what is.
    """
    a.visit(relation)
    resolved = sources.lookup(a, relation)
    if not resolved.found and not _if_exists(a, relation):
        raise _undefined(a, relation)
    if resolved.schema == "pg_temp":
        if resolved.temporary and resolved.temporary.kind not in kinds:
            raise ddl_refused(what)
    else:
        judge(a, resolved, what, action, kinds)
    sources.qualify(a, relation, resolved)
    return resolved


def _if_exists(a: Analysis, relation: Node) -> bool:
    start, _ = sources.name_span(a, relation)
    return "exists" in (a.tokens.word(start - 1), a.tokens.word(start - 2))


def _undefined(a: Analysis, relation: Node) -> ClientError:
    """Return what the server says of a relation that is nowhere."""
    schema, name = relation.get("schemaname"), relation["relname"]
    catalog = a.context.catalog
    if schema is not None and schema != "pg_temp" and catalog and schema not in catalog.schemas:
        return ClientError(
            ErrorReport(
                sqlstate=SqlState.INVALID_SCHEMA_NAME, message=f'schema "{schema}" does not exist'
            )
        )
    whole = name if schema is None else f"{schema}.{name}"
    return ClientError(
        ErrorReport(sqlstate=SqlState.UNDEFINED_TABLE, message=f'relation "{whole}" does not exist')
    )


def owned(a: Analysis, relation: Node, what: str, kinds: str = TABLES) -> str:
    """Return the name of the session's own temporary relation that is meant, and qualify it."""
    a.visit(relation)
    resolved = sources.lookup(a, relation)
    if resolved.schema != "pg_temp" or (
        resolved.temporary and resolved.temporary.kind not in kinds
    ):
        raise ddl_refused(what)
    sources.qualify(a, relation, resolved)
    return resolved.name


def judge(a: Analysis, resolved: Resolved, what: str, action: str, kinds: str) -> None:
    """Judge the change of a relation that stays, and note that it needs an action of the policy."""
    _check_free(a, resolved, what, kinds)
    if action in ("ddl.alter", "ddl.drop"):
        rows = action == "ddl.drop" or kinds == "v"
        check_unfiltering(a, resolved.schema, resolved.name, what, rows=rows)
    a.actions.add(action)
    use = a.use(resolved)
    if use is not None:
        use.written = True


def note_moved(a: Analysis, resolved: Resolved) -> None:
    """Note that a relation's rows will be read by another name: who may not read it may not move it."""
    use = a.use(resolved)
    if use is not None:
        use.read = True
        a.actions.add("select")


def refer(a: Analysis, table: Resolved, element: Node) -> None:
    """Judge a foreign key of a table that stays: it tells which keys there are in the table that it refers to.

    Raises:
        ClientError: A policy speaks of that table, or it is tied to one of which it does.
    """
    referred = element["pktable"]
    a.visit(referred)
    if a.kind == "create table" and _is_new(a, table, referred):
        sources.qualify(a, referred, table)
        return
    resolved = sources.lookup(a, referred)
    check_unread(resolved)
    if resolved.schema != "pg_temp":  # To a temporary one PostgreSQL itself says no.
        _check_free(a, resolved, "a foreign key", TABLES)
        use = a.use(resolved)
        if use is not None:
            use.read = True
            use.reads.update(strings(element.get("pk_attrs")))
    sources.qualify(a, referred, resolved)


def _is_new(a: Analysis, table: Resolved, referred: Node) -> bool:
    """Say whether a name means the table that the statement makes."""
    schema = referred.get("schemaname") or default_schema(a)
    return (schema, referred["relname"]) == (table.schema, table.name)


def default_schema(a: Analysis) -> str:
    """Return where a new table goes whose name has no schema."""
    path = (each for each in a.context.search_path if not each.startswith("pg_"))
    return next(path, "pg_catalog")


def _check_free(a: Analysis, resolved: Resolved, what: str, kinds: str) -> None:
    """Check that no policy speaks of a relation that stays."""
    relation = resolved.relation
    if resolved.temporary is not None:
        if resolved.temporary.kind not in kinds:
            raise ddl_refused(what)
    elif relation is None or relation.kind not in kinds or relation.has_rules:
        raise ddl_refused(what)
    elif resolved.schema in ("pg_catalog", "information_schema") or tied_to_governed(a, relation):
        raise governed_refused(f'{what} of "{resolved.name}"')


def check_cascade(a: Analysis, resolved: Resolved, body: Node) -> None:
    """Check what CASCADE takes along.

    Raises:
        ClientError: A governed view reads the table.
    """
    catalog, table = a.context.catalog, resolved.relation
    if body.get("behavior") != "DROP_CASCADE" or catalog is None or table is None:
        return
    if read_by_governed(a, table):
        raise governed_refused(
            f'CASCADE of "{resolved.name}", which views with masked columns read'
        )


def read_by_governed(a: Analysis, relation: Relation) -> bool:
    """Say whether a governed view reads it, through others too."""
    catalog = a.context.catalog
    if catalog is None:
        return True
    reached, new = set[int](), {relation.oid}
    while new:
        reached |= new
        new = {
            each.oid
            for each in catalog.by_oid.values()
            if each.view is not None and not reached.isdisjoint(each.view.relations)
        } - reached
    return any(oid in a.governed for oid in reached)


def tied_to_governed(a: Analysis, relation: Relation | None) -> bool:
    """Say whether a relation is governed, or tied to one that is."""
    return a.context.catalog is None or tied(a.context.catalog, a.governed, relation)
