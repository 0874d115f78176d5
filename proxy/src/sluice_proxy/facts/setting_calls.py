"""current_setting and set_config: settings named by a constant are judged here, others by the server as it runs."""

from __future__ import annotations

from sluice_proxy.facts.analysis import Analysis, constant_string
from sluice_proxy.facts.callsites import extent, first_argument, kept_name
from sluice_proxy.facts.naming import literal
from sluice_proxy.facts.refusals import refused
from sluice_proxy.facts.scopes import Level
from sluice_proxy.facts.settings import free_valued, free_valued_names, settings_allowed
from sluice_proxy.facts.tree import Node, unwrap


def setting(a: Analysis, body: Node, name: str, level: Level) -> None:
    """Judge a call of current_setting or set_config.

    Raises:
        ClientError: The setting may not be read, or not be given this value.
    """
    args = body.get("args", [])
    setting = constant_string(args[0]) if args else None
    if setting is None and name == "current_setting" and len(args) == 1:
        _named_later(a, body, "pg_catalog.strpos(z.n, '.') OPERATOR(pg_catalog.=) 0")
        return
    if (
        setting is None
        and name == "set_config"
        and len(args) == 3
        and constant_string(args[1]) is not None
    ):
        listed = ",".join(literal(item) for item in free_valued_names())
        _named_later(a, body, f"pg_catalog.lower(z.n) OPERATOR(pg_catalog.=) ANY (ARRAY[{listed}])")
        return
    if setting is None:
        raise refused(
            f"permission denied for function {name}", hint="Name the setting by a constant."
        )
    if name == "current_setting":
        if not a.allow.setting_readable(setting):
            if len(args) == 1:
                raise refused(f'permission denied to examine "{setting}"')
            start, end = extent(a, body)
            a.around(
                start,
                end,
                "CASE WHEN true THEN NULL::pg_catalog.text ELSE",
                " END" + kept_name(a, body, name),
            )
        return
    value = constant_string(args[1]) if len(args) > 1 else None
    local = args[2] if len(args) > 2 else None
    if (
        len(args) > 2
        and free_valued(setting)
        and _parameter(args[1])
        and unwrap(args[2])[0] in ("A_Const", "TypeCast")
    ):
        return
    if value is None or local is None or unwrap(local)[0] not in ("A_Const", "TypeCast"):
        raise refused(
            f"permission denied for function {name}",
            hint="Give the value as a constant, or use SET.",
        )
    reason = settings_allowed(setting, value)
    if reason is not None:
        raise refused(
            f'permission denied to set parameter "{setting}"',
            detail=f"{reason[0].upper()}{reason[1:]}.",
            hint="Leave the setting as the database's owner has it.",
        )
    if setting.lower() == "search_path":
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
