"""Calls of functions that the server does not have: told as by PostgreSQL itself, and never sent.

Whether a function of another schema exists is no secret: its name is in pg_proc, which sessions may read.
"""

from __future__ import annotations

from collections.abc import Sequence

from sluice_proxy.facts.analysis import Analysis, denied_function
from sluice_proxy.facts.traits import Trait
from sluice_proxy.facts.tree import Node, strings
from sluice_proxy.reports import ClientError, ErrorReport, SqlState

_SPELLED = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "bool": "boolean",
    "varchar": "character varying",
    "bpchar": "character",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "time": "time without time zone",
    "timetz": "time with time zone",
    "varbit": "bit varying",
}
_INT8_MAX = 2**63 - 1


def is_absent(a: Analysis, schema: str | None, name: str) -> bool:
    """Say whether the server has no function of this name, in this schema or in any that is searched.

    The catalog of a moment ago says so; a call of it is not sent, whatever came since.
    """
    catalog = a.context.catalog
    if catalog is None or not catalog.builtin_functions or schema == "information_schema":
        return False
    if schema is None:
        searched = {*a.context.search_path, "pg_catalog"}
    else:
        searched = {schema}
        if schema.startswith("pg_temp"):
            return False
    if "pg_catalog" in searched and name in catalog.builtin_functions:
        return False
    if "information_schema" in searched:
        return False
    return not any(function.schema in searched for function in catalog.functions.get(name, ()))


def undefined(a: Analysis, body: Node, parts: Sequence[Trait]) -> Exception:
    """Return what PostgreSQL says of such a call; a refusal where it may mean something else than a function.

    Args:
        a: The statement.
        body: The FuncCall.
        parts: Of its arguments.
    """
    names = strings(body["funcname"])
    schema = names[0] if len(names) == 2 else None
    catalog = a.context.catalog
    if schema is not None and catalog is not None and schema not in catalog.schemas:
        return ClientError(
            ErrorReport(
                sqlstate=SqlState.INVALID_SCHEMA_NAME, message=f'schema "{schema}" does not exist'
            )
        )
    if len(parts) == 1 and _may_be_more(a, names[-1], parts[0]):
        return denied_function(".".join(names))
    kind = "procedure" if a.tokens.word(a.span[0]) == "call" else "function"
    given = zip(body.get("args", ()), parts, strict=False)
    types = ", ".join(_type(node, part) for node, part in given)
    return ClientError(
        ErrorReport(
            sqlstate=SqlState.UNDEFINED_FUNCTION,
            message=f"{kind} {'.'.join(names)}({types}) does not exist",
            hint=f"No {kind} matches the given name and argument types. You might need to add explicit type casts.",
        )
    )


def _may_be_more(a: Analysis, name: str, argument: Trait) -> bool:
    """Say whether a call with one argument may be a cast to a type of that name, or a column of a row."""
    catalog = a.context.catalog
    if catalog is None or name.startswith("_"):
        return True
    if name in a.allow.types or name in catalog.types or name in a.context.temporary:
        return True
    if catalog.relation("pg_catalog", name) is not None:
        return True
    scalar = argument.kind == "const" or (argument.base or "").startswith("pg_catalog.")
    return not scalar


def _type(node: Node, part: Trait) -> str:
    number = node.get("A_Const", {}).get("fval", {}).get("fval", "")
    if number.isdecimal() and int(number) <= _INT8_MAX:
        return "bigint"
    if "TypeCast" in node:
        given = node["TypeCast"]["typeName"]
        name = strings(given["names"])[-1]
        return _SPELLED.get(name, name) + ("[]" if "arrayBounds" in given else "")
    if part.base is None:
        return "unknown"
    name = part.base.partition(".")[2]
    element = name.removeprefix("_")
    return _SPELLED.get(element, element) + ("[]" if element != name else "")
