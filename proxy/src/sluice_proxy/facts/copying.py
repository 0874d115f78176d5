"""COPY: out of governed tables it becomes COPY of their masked projection."""

from __future__ import annotations

from sluice_proxy.facts import sources
from sluice_proxy.facts.analysis import Analysis, constant_string
from sluice_proxy.facts.expressions import expression
from sluice_proxy.facts.model import SessionEffects
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.newrows import check_sql, failing
from sluice_proxy.facts.objects import no_settings
from sluice_proxy.facts.predicates import clause
from sluice_proxy.facts.projection import projection
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.scopes import Level, Source
from sluice_proxy.facts.targets import note_written
from sluice_proxy.facts.tree import Node, strings, unwrap
from sluice_proxy.facts.unread import check_unread

_OPTIONS = frozenset(
    [
        "format",
        "freeze",
        "delimiter",
        "null",
        "header",
        "quote",
        "escape",
        "force_quote",
        "force_not_null",
        "force_null",
        "encoding",
        "default",
        "on_error",
        "log_verbosity",
        "reject_limit",
    ]
)


def copy(a: Analysis, body: Node) -> SessionEffects | None:
    """COPY to and from the client."""
    incoming = bool(body.get("is_from"))
    a.kind = "copy"
    if body.get("is_program") or "filename" in body:
        raise refused(
            "permission denied for COPY to or from a file or program",
            detail="Files and programs of the server are out of every policy's reach.",
            hint="Use COPY … TO STDOUT or FROM STDIN.",
        )
    _options(a, body)
    if "query" in body:
        return _query(a, body)
    relation = body["relation"]
    a.visit(relation)
    resolved = sources.lookup(a, relation)
    source = sources.described(a, resolved, Level(None), None)
    columns = strings(body.get("attlist")) or [
        column.name
        for column in (source.relation.columns if source.relation else ())
        if not column.generated
    ]
    a.actions.add("copyIn" if incoming else "copyOut")
    if incoming:
        _incoming(a, body, source, columns)
        if a.enforcing:
            sources.qualify(a, relation, resolved)
        return None
    check_unread(resolved)
    if source.use is not None:
        source.use.read = True
        source.use.reads.update(columns)
    if not a.enforcing:
        return None
    if source.governed is None:
        sources.qualify(a, relation, resolved)
        return None
    _outgoing(a, body, source, columns)
    return None


def _options(a: Analysis, body: Node) -> None:
    for item in body.get("options", ()):
        _, option = unwrap(item)
        if option["defname"] not in _OPTIONS:
            raise not_understood(f"the COPY option {option['defname']}")
        if option["defname"] == "encoding" and a.enforcing:
            value = (
                constant_string({"A_Const": {"sval": option["arg"]["String"]}})
                if "String" in option["arg"]
                else ""
            )
            if (value or "").lower() not in ("utf8", "utf-8", "unicode"):
                raise refused(
                    "permission denied for COPY in another encoding than UTF8",
                    detail="Sluice reads and masks text in UTF8 only.",
                    hint="Leave ENCODING out, and convert the data in the client.",
                )


def _query(a: Analysis, body: Node) -> SessionEffects | None:
    kind, query = unwrap(body["query"])
    opening = a.span[0] + 1
    if a.tokens.raw(opening) != b"(":
        raise not_understood("a COPY that cannot be found in the text")
    end = a.tokens.close(opening)
    if kind == "SelectStmt":
        a.query(a, query, None, end=end, role="top")
        no_settings(a)
    else:
        a.write(a, kind, query, None, end=end)
    a.kind = "copy"
    a.actions.add("copyOut")
    return None


def _incoming(a: Analysis, body: Node, source: Source, columns: list[str]) -> None:
    if source.use is not None:
        source.use.written = True
    note_written(a, source, set(columns))
    if not a.enforcing:
        return
    if source.relation is not None and source.relation.schema in (
        "pg_catalog",
        "information_schema",
    ):
        raise refused(
            "permission denied for COPY into a catalog",
            detail="Sessions that a policy restricts do not write to catalogs.",
        )
    if "whereClause" in body:
        level = Level(None)
        level.sources.append(Source(source.refname, level, columns=source.columns))
        expression(a, body["whereClause"], level)
    _check_rows(a, body, source)


def _check_rows(a: Analysis, body: Node, source: Source) -> None:
    """Let COPY itself raise for a row outside of the filter: its WHERE sees each row as it will be stored."""
    governed = source.governed
    if governed is None or not governed.filters:
        return
    if any(
        isinstance(part, str) and "select" in part.lower()
        for parts in governed.filters
        for part in parts
    ):
        raise refused(
            f'permission denied for COPY into table "{source.table}"',
            detail="A policy filters its rows by a sub-select, which COPY cannot check.",
            hint="Use INSERT.",
        )
    references = {
        name: f"{quoted(source.refname)}.{quoted(name)}" for name in governed.filter_columns
    }
    witness = references[min(references)] if references else "''"
    check = check_sql(source, references)
    text = f"CASE WHEN {check} THEN true WHEN {failing(witness)} THEN true END"
    if "whereClause" in body:
        start, end = clause(a, body["whereClause"], "where")
        a.around(start, end, "CASE WHEN (", f"\n) THEN {text} END")
    else:
        a.append(a.span[1], f"\nWHERE {text}")


def _outgoing(a: Analysis, body: Node, source: Source, columns: list[str]) -> None:
    """Replace the table and its column list by a sub-select; COPY takes no children and no generated columns."""
    table = source.relation
    if table is None or table.kind != "r":
        raise not_understood(
            f'COPY of "{source.table}", which is no plain table', "Use COPY (SELECT …) TO STDOUT."
        )
    start, end = sources.name_span(a, body["relation"])
    if a.tokens.raw(end) == b"(":
        end = a.tokens.close(end) + 1
    if a.tokens.word(start - 1) == "binary":
        raise not_understood("COPY BINARY in the old form", "Use COPY … TO STDOUT (FORMAT binary).")
    source.only = True
    a.mentioned.update(columns)
    a.sources.append(source)
    items = ", ".join(quoted(name) for name in columns)
    a.replace(
        start,
        end,
        lambda: f"(SELECT {items} FROM ({projection(a, source)}) {quoted(source.refname)})",
    )
