"""DROP … IF EXISTS of what Sluice would let nobody drop, and what is not there: the server says so, and goes on."""

from __future__ import annotations

from sluice_proxy.facts.absent import is_absent
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.lasting import ddl_refused
from sluice_proxy.facts.model import SessionEffects
from sluice_proxy.facts.tree import Node, dictionaries, strings, unwrap

ROUTINES = frozenset(["OBJECT_FUNCTION", "OBJECT_PROCEDURE", "OBJECT_ROUTINE", "OBJECT_AGGREGATE"])


def drop_routine(a: Analysis, body: Node) -> SessionEffects | None:
    """DROP FUNCTION, PROCEDURE, ROUTINE and AGGREGATE IF EXISTS, where no schema has one of that name."""
    catalog = a.context.catalog
    what = f"DROP {body['removeType'].removeprefix('OBJECT_')}"
    for item in body["objects"]:
        parts = strings(unwrap(item)[1]["objname"])
        known = catalog is None or parts[-1] in catalog.functions
        if not body.get("missing_ok") or len(parts) > 2 or known or not _absent(a, parts):
            raise ddl_refused(f'{what} of "{parts[-1]}"')
        for key, node in dictionaries(item):
            if key in ("TypeName", "argType"):
                a.visit(node)
    a.actions.add("ddl.drop")
    return None


def _absent(a: Analysis, parts: list[str]) -> bool:
    return is_absent(a, parts[0] if len(parts) == 2 else None, parts[-1])


def drop_extension(a: Analysis, body: Node) -> SessionEffects | None:
    """DROP EXTENSION IF EXISTS of one that is not installed."""
    catalog = a.context.catalog
    installed = None if catalog is None else catalog.extensions
    for item in body["objects"]:
        name = unwrap(item)[1]["sval"]
        if not body.get("missing_ok") or installed is None or name in installed:
            raise ddl_refused(f'DROP EXTENSION of "{name}"')
    a.actions.add("ddl.drop")
    return None
