"""From a text to the facts of its statements."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sluice_proxy import allowlists
from sluice_proxy.decisions import Level as SessionLevel
from sluice_proxy.decisions import SessionContext
from sluice_proxy.facts import temporary, touching, utility
from sluice_proxy.facts.analysis import Analysis, governed_of
from sluice_proxy.facts.bounds import refused_as_too_large, too_large, too_much_code
from sluice_proxy.facts.following import Following
from sluice_proxy.facts.guards import settle
from sluice_proxy.facts.lexer import Tokens
from sluice_proxy.facts.model import SessionEffects, StatementFacts, TableUse
from sluice_proxy.facts.naming import resolve
from sluice_proxy.facts.nodes import STATEMENTS
from sluice_proxy.facts.parameters import Parameters
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.rough import rough
from sluice_proxy.facts.select import query
from sluice_proxy.facts.tree import Node, RawStatement, dictionaries, dismantle, unwrap, written
from sluice_proxy.facts.tree import statements as read
from sluice_proxy.facts.writes import write
from sluice_proxy.reports import ClientError

_DEPTH_MAX = 12000
"""Python frames: about 2,500 levels of nested expressions, more than PostgreSQL's own stack takes by default."""
sys.setrecursionlimit(max(sys.getrecursionlimit(), _DEPTH_MAX))

_STATEMENTS_MAX = 3_000
"""In one message: each is judged by itself."""
DISMANTLED_BYTES_MIN = 32 << 10
"""Of texts that are read beside the loop (``huge``)."""

_KINDS = {
    "SelectStmt": "select",
    "InsertStmt": "insert",
    "UpdateStmt": "update",
    "DeleteStmt": "delete",
    "MergeStmt": "merge",
}


def read_facts(
    text: bytes, context: SessionContext, *, simple: bool, parameter_types: Sequence[int] = ()
) -> tuple[StatementFacts, ...]:
    """Read every statement of a text.

    Args:
        text: As the client sent it, without the closing NUL.
        context: The session's.
        simple: True for a Query, which may hold several statements.
        parameter_types: OIDs that a Parse declares; 0 where the server decides.

    Raises:
        ClientError: Not parsed, not known, or not allowed to anybody whose data are masked. Never in open sessions.
    """
    if context.decision.level is SessionLevel.OPEN:
        return _open(text, context)
    try:
        return _closed(text, context, parameter_types, simple=simple)
    except RecursionError as error:
        raise not_understood("a statement nested too deeply") from error
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        # A tree of another form than the grammar of this pglast gives: doubt denies.
        raise not_understood("a statement of an unexpected form") from error


def _closed(
    text: bytes, context: SessionContext, parameter_types: Sequence[int], *, simple: bool
) -> tuple[StatementFacts, ...]:
    restricted = context.decision.level is SessionLevel.RESTRICTED
    if too_much_code(text):
        raise refused_as_too_large()
    tokens = Tokens(text)
    document = written(text)
    if too_large(document, text):
        if restricted:
            raise refused_as_too_large()
        return (rough(document, tokens, context),)
    statements = read(document, text)
    try:
        return _each(tokens, statements, context, parameter_types, simple=simple)
    finally:
        if len(text) >= DISMANTLED_BYTES_MIN:
            dismantle(statements)


def _each(
    tokens: Tokens,
    statements: Sequence[RawStatement],
    context: SessionContext,
    parameter_types: Sequence[int],
    *,
    simple: bool,
    placeless: bool = False,
) -> tuple[StatementFacts, ...]:
    if len(statements) > 1 and not simple:
        raise not_understood("several statements in one Parse message")
    if len(statements) > _STATEMENTS_MAX:
        raise not_understood(
            f"more than {_STATEMENTS_MAX} statements in one message",
            "Send them in several messages.",
        )
    if context.catalog is None and context.decision.level is SessionLevel.RESTRICTED:
        raise not_understood("a restricted session without a catalog")
    out: list[StatementFacts] = []
    following = Following(context)
    for number, statement in enumerate(statements, 1):
        followed = number < len(statements)
        facts = _statement(
            tokens,
            following.context,
            statement,
            parameter_types,
            followed=followed,
            placeless=placeless,
        )
        placeless |= facts.placing
        out.append(following.judged(facts))
    return tuple(out)


def _several(
    text: bytes, context: SessionContext, *, placeless: bool
) -> tuple[StatementFacts, ...]:
    """Read the statements of a text that stands inside of another, as if it had come by itself."""
    if too_much_code(text):
        raise refused_as_too_large()
    document = written(text)
    if too_large(document, text):
        raise refused_as_too_large()
    return _each(Tokens(text), read(document, text), context, (), simple=True, placeless=placeless)


def _statement(
    tokens: Tokens,
    context: SessionContext,
    statement: RawStatement,
    parameter_types: Sequence[int] = (),
    *,
    followed: bool = False,
    placeless: bool = False,
) -> StatementFacts:
    a = Analysis(
        tokens=tokens,
        context=context,
        span=tokens.span(statement.start, statement.end),
        governed=governed_of(context),
        allow=allowlists.for_major(context.server_major),
        parameters=Parameters(parameter_types, statement.body),
        query=query,
        write=write,
        several=_several,
        followed=followed,
        placeless=placeless,
    )
    _check_path(a, statement.type)
    effects = _dispatch(a, statement)
    if a.enforcing:
        a.complete(statement.body)
        settle(a)
    return _facts(a, statement, effects)


def _check_path(a: Analysis, kind: str) -> None:
    path = a.context.search_path
    if (
        not a.enforcing
        or "pg_catalog" not in path
        or kind in ("VariableSetStmt", "TransactionStmt", "DiscardStmt")
    ):
        return
    if any(schema != "pg_temp" for schema in path[: path.index("pg_catalog")]):
        raise refused(
            "search_path names another schema before pg_catalog",
            detail="What stands there could take the place of PostgreSQL's own functions.",
            hint="SET search_path without pg_catalog.",
        )


def _dispatch(a: Analysis, statement: RawStatement) -> SessionEffects | None:
    kind, body = statement.type, statement.body
    if kind in _KINDS:
        a.kind = _KINDS[kind]
        effects = temporary.select_into(a, body) if "intoClause" in body else None
        if kind == "SelectStmt":
            a.actions.add("select")
            query(a, body, None, end=a.span[1], role="top")
        else:
            write(a, kind, body, None, end=a.span[1])
        return SessionEffects(refresh=True) if a.refresh else effects
    handler = utility.HANDLERS.get(kind)
    if handler is None or (not a.enforcing and kind in _ANY_DDL):
        if a.enforcing:
            raise _denied(kind)
        return _other(a, kind, body)
    a.exact = True
    return handler(a, body)


_ANY_DDL = frozenset(
    [
        "AlterEnumStmt",
        "AlterObjectSchemaStmt",
        "AlterOwnerStmt",
        "AlterSeqStmt",
        "AlterTableStmt",
        "ClusterStmt",
        "CommentStmt",
        "CompositeTypeStmt",
        "CreateDomainStmt",
        "CreateEnumStmt",
        "CreateExtensionStmt",
        "CreateSchemaStmt",
        "CreateSeqStmt",
        "CreateStatsStmt",
        "CreateStmt",
        "DoStmt",
        "DropStmt",
        "GrantStmt",
        "IndexStmt",
        "RefreshMatViewStmt",
        "ReindexStmt",
        "RenameStmt",
        "VacuumStmt",
        "ViewStmt",
    ]
)
"""Judged by restricted sessions alone; others tell what they name, and the policy decides."""


def _denied(kind: str) -> Exception:
    treatment = STATEMENTS.get(kind)
    return refused(
        f"permission denied for {_COMMANDS.get(kind) or _spelled(kind)}",
        detail=treatment.why if treatment else "Sluice does not know this statement.",
        hint=_INSTEAD.get(kind, "Use another database role, or ask the database's owner."),
    )


_COMMANDS = {
    "AlterSubscriptionStmt": "ALTER SUBSCRIPTION",
    "CreateAmStmt": "CREATE ACCESS METHOD",
    "CreateFdwStmt": "CREATE FOREIGN DATA WRAPPER",
    "CreateOpClassStmt": "CREATE OPERATOR CLASS",
    "CreateOpFamilyStmt": "CREATE OPERATOR FAMILY",
    "CreatePLangStmt": "CREATE LANGUAGE",
    "CreateRangeStmt": "CREATE TYPE … AS RANGE",
    "CreateTableSpaceStmt": "CREATE TABLESPACE",
    "CreateTrigStmt": "CREATE TRIGGER",
    "CreatedbStmt": "CREATE DATABASE",
    "DefineStmt": "CREATE AGGREGATE, COLLATION, OPERATOR, TEXT SEARCH and TYPE of an own kind",
    "DropdbStmt": "DROP DATABASE",
    "GrantRoleStmt": "GRANT and REVOKE of roles",
    "RuleStmt": "CREATE RULE",
    "SecLabelStmt": "SECURITY LABEL",
}
"""Commands that the parser calls otherwise."""
_INSTEAD = {
    "CreateFunctionStmt": "Let the database's owner create the function, and list it as trusted if it is harmless.",
}
"""What to do in the place of a statement."""


def _spelled(kind: str) -> str:
    name = kind.removesuffix("Stmt")
    return "".join(f" {c}" if c.isupper() else c for c in name).strip().upper()


def _other(a: Analysis, kind: str, body: Node) -> SessionEffects | None:
    """Record a statement that guarded and open sessions may send and that is not walked: its kind and relations."""
    a.kind = _spelled(kind).lower()
    action = "ddl.other"
    for prefix, name in (
        ("Create", "create"),
        ("Index", "create"),
        ("View", "create"),
        ("Alter", "alter"),
        ("Rename", "alter"),
        ("Drop", "drop"),
        ("Grant", "grant"),
    ):
        if kind.startswith(prefix):
            action = f"ddl.{name}"
    a.actions.add(action)
    touching.touch(a, kind, body)
    return touching.changes(a, kind, body)


def _facts(a: Analysis, statement: RawStatement, effects: SessionEffects | None) -> StatementFacts:
    tables = tuple(sorted(a.uses.values(), key=lambda use: use.name))
    actions = tuple(sorted(a.actions)) if tables or a.actions - {"select"} else ("session",)
    if not tables and actions != ("session",) and not set(actions) & {"call", "listen"}:
        actions = (
            ("session",) if not any(action.startswith("ddl.") for action in actions) else actions
        )
    return StatementFacts(
        kind=a.kind,
        actions=actions or ("session",),
        span=a.span,
        tables=tables,
        functions=tuple(sorted(a.functions)),
        unfiltered_write=a.unfiltered_write,
        limit=_limit(statement.body),
        write_oracles=tuple(sorted(a.write_oracles)),
        edits=a.edits() if a.enforcing else (),
        effects=effects,
        created=a.created,
        lasting=a.lasting,
        nameless=a.nameless,
        placing=a.placing,
        dropped=a.dropped,
        bound=a.bound(),
        cacheable="exact" if a.exact or a.tokens.uescape else "template",
    )


def _limit(body: Node) -> int | None:
    kind, constant = unwrap(body["limitCount"]) if body.get("limitCount") else ("", {})
    if kind != "A_Const" or "ival" not in constant:
        return None
    return int(constant["ival"].get("ival", 0))


UNKNOWN = StatementFacts("unknown", ("session",), (0, 0), understood=False)


def _open(text: bytes, context: SessionContext) -> tuple[StatementFacts, ...]:
    """Read as much as can be read; nothing is refused and nothing changes."""
    try:
        if too_much_code(text):
            return (UNKNOWN,)
        tokens = Tokens(text)
        document = written(text)
        if too_large(document, text):
            return (rough(document, tokens, context),)
        statements = read(document, text)
    except ClientError:
        return (UNKNOWN,)
    if len(statements) > _STATEMENTS_MAX:
        return (StatementFacts("several", ("session",), (0, 0), understood=False),)
    out: list[StatementFacts] = []
    for statement in statements:
        try:
            out.append(_statement(tokens, context, statement))
        except (ClientError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
            out.append(_roughly(tokens, context, statement))
    if len(text) >= DISMANTLED_BYTES_MIN:
        dismantle(statements)
    return tuple(out)


def _roughly(tokens: Tokens, context: SessionContext, statement: RawStatement) -> StatementFacts:
    uses: dict[str, TableUse] = {}
    for _, node in dictionaries(statement.body):
        if "relname" in node:
            resolved = resolve(context, node.get("schemaname"), node["relname"])
            name = f"{resolved.schema}.{resolved.name}"
            uses.setdefault(name, TableUse(name, read=True))
    return StatementFacts(
        kind=_KINDS.get(statement.type, _spelled(statement.type).lower()),
        actions=("session",),
        span=tokens.span(statement.start, statement.end),
        tables=tuple(uses.values()),
        cacheable="exact",
        understood=False,
    )
