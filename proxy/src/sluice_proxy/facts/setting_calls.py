"""current_setting and set_config: settings named by a constant are judged here, others by the server as it runs."""

from __future__ import annotations

from sluice_proxy.facts.analysis import Analysis, constant_string
from sluice_proxy.facts.callsites import extent, first_argument, kept_name
from sluice_proxy.facts.naming import literal
from sluice_proxy.facts.refusals import refused
from sluice_proxy.facts.scopes import Level
from sluice_proxy.facts.settings import (
    free_valued,
    free_valued_names,
    refused_to_tell,
    settings_allowed,
)
from sluice_proxy.facts.tree import Node, unwrap


def setting(a: Analysis, body: Node, name: str, level: Level) -> None:
    """Judge a call of current_setting or set_config.

    Raises:
        ClientError: The setting may not be read, or not be given this value.
    """
    args = body.get("args", [])
    named = constant_string(args[0]) if args else None
    if named is None:
        _unnamed(a, body, name, args)
    elif name == "current_setting":
        _read(a, body, named, args)
    else:
        _set(a, body, named, args, level)


def _unnamed(a: Analysis, body: Node, name: str, args: list[Node]) -> None:
    """Judge a call whose setting no constant names."""
    if name == "current_setting" and len(args) == 1:
        _named_later(a, body, "pg_catalog.strpos(z.n, '.') OPERATOR(pg_catalog.=) 0")
    elif name == "set_config" and len(args) == 3 and constant_string(args[1]) is not None:
        listed = ",".join(literal(item) for item in free_valued_names())
        _named_later(a, body, f"pg_catalog.lower(z.n) OPERATOR(pg_catalog.=) ANY (ARRAY[{listed}])")
    else:
        raise refused(
            f"permission denied for function {name}", hint="Name the setting by a constant."
        )


def _read(a: Analysis, body: Node, named: str, args: list[Node]) -> None:
    """Judge current_setting of a setting that is named."""
    if a.allow.setting_readable(named) or free_valued(named):
        return
    if len(args) == 1:
        raise refused_to_tell(named)
    start, end = extent(a, body)
    a.around(
        start,
        end,
        "CASE WHEN true THEN NULL::pg_catalog.text ELSE",
        " END" + kept_name(a, body, "current_setting"),
    )


def _set(a: Analysis, body: Node, named: str, args: list[Node], level: Level) -> None:
    """Judge set_config of a setting that is named."""
    value = constant_string(args[1]) if len(args) > 1 else None
    local = len(args) > 2 and unwrap(args[2])[0] in ("A_Const", "TypeCast")
    if local and free_valued(named) and _parameter(args[1]):
        return
    if value is None or not local:
        raise refused(
            "permission denied for function set_config",
            hint="Give the value as a constant, or use SET.",
        )
    reason = settings_allowed(named, value)
    if reason is not None:
        raise refused(
            f'permission denied to set parameter "{named}"',
            detail=f"{reason[0].upper()}{reason[1:]}.",
            hint="Leave the setting as the database's owner has it.",
        )
    if named.lower() == "search_path":
        if id(body) not in a.top_targets or level.parent is not None:
            raise refused(
                "permission denied to set search_path inside a query", hint="Use SET search_path."
            )
        check_search_path([part.strip() for part in value.split(",")])
        a.refresh = True
    a.exact = True


def _parameter(node: Node) -> bool:
    while "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    return "ParamRef" in node


def _named_later(a: Analysis, body: Node, condition: str) -> None:
    """Let a setting that a column names become NULL where the condition on ``z.n`` does not hold."""
    start, stop = first_argument(a, body)
    a.around(
        start,
        stop,
        f"(SELECT CASE WHEN {condition} THEN z.n END FROM (SELECT (",
        ")::pg_catalog.text AS n) z)",
    )


def check_search_path(schemas: list[str]) -> None:
    """Refuse a path on which another schema comes before pg_catalog."""
    names = [schema.strip('" ').lower() for schema in schemas]
    if "pg_catalog" in names and any(
        name != "pg_temp" for name in names[: names.index("pg_catalog")]
    ):
        raise refused(
            "pg_catalog may not stand behind another schema in search_path",
            hint="Leave pg_catalog out: it is searched first then.",
        )
