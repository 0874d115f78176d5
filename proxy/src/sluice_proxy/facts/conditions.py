"""IF EXISTS (…) THEN in a block: judged as the query that it is, which may ask for nothing but what there is."""

from __future__ import annotations

from sluice_proxy.facts.lexer import NAME_KINDS, Tokens
from sluice_proxy.facts.model import StatementFacts
from sluice_proxy.facts.tree import Node, RawStatement, dictionaries, unwrap

_ASKED = {
    "pg_catalog": frozenset(
        [
            *("pg_attribute", "pg_class", "pg_constraint", "pg_enum", "pg_extension", "pg_index"),
            *("pg_indexes", "pg_namespace", "pg_tables", "pg_type", "pg_views", "pg_sequences"),
        ]
    ),
    "information_schema": frozenset(
        [
            *("columns", "constraint_column_usage", "constraint_table_usage", "key_column_usage"),
            *("referential_constraints", "schemata", "sequences", "table_constraints", "tables"),
            "views",
        ]
    ),
}
"""Where a condition may look: what tells which objects there are."""
_VARIABLES = frozenset(["found", "sqlstate", "sqlerrm", "inline_code_block"])
"""Names that mean something of PL/pgSQL's own in a block without declarations."""


def condition_end(tokens: Tokens, at: int) -> int:
    """Return the token THEN that ends a condition, or the end of the text."""
    while at < len(tokens) and tokens.word(at) != "then" and tokens.raw(at) != b";":
        at = tokens.close(at) + 1 if tokens.raw(at) in (b"(", b"[") else at + 1
    return at


def asks_for_objects(parsed: RawStatement) -> bool:
    """Say whether a query is made of EXISTS over lists of objects, with NOT, AND and OR, and nothing else."""
    body = parsed.body
    if parsed.type != "SelectStmt" or set(body) != {"targetList", "limitOption", "op"}:
        return False
    if body["op"] != "SETOP_NONE" or len(body["targetList"]) != 1:
        return False
    _, target = unwrap(body["targetList"][0])
    if "name" in target or not _exists(target["val"]):
        return False
    for key, node in dictionaries(body):
        if key == "RangeVar" and not _listed(node):
            return False
        if key in ("ParamRef", "intoClause", "withClause") or "lockingClause" in node:
            return False
    return True


def _exists(node: Node) -> bool:
    kind, body = unwrap(node)
    if kind == "BoolExpr":
        return all(_exists(each) for each in body["args"])
    return kind == "SubLink" and body["subLinkType"] == "EXISTS_SUBLINK"


def _listed(relation: Node) -> bool:
    schema, name = relation.get("schemaname", "pg_catalog"), relation["relname"]
    return "catalogname" not in relation and name in _ASKED.get(schema, ())


def answers_alone(facts: StatementFacts) -> bool:
    """Say whether a condition does nothing but ask catalogs, with PostgreSQL's own functions."""
    return (
        facts.kind == "select"
        and facts.actions == ("session",)
        and not (facts.tables or facts.write_oracles or facts.unfiltered_write)
        and facts.effects is None
        and facts.understood
        and all(name.startswith("pg_catalog.") for name in facts.functions)
    )


def without_variables(text: bytes) -> bool:
    """Say whether no name in a text can mean a variable of PL/pgSQL's own."""
    tokens = Tokens(text)
    return not any(
        kind == "param" or (kind in NAME_KINDS and tokens.name(index).lower() in _VARIABLES)
        for index, kind in enumerate(tokens.kinds)
    )
