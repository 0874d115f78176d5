"""What is left of a policy that was valid, when a change of *another* resource made it invalid.

A classification may drop a class or be deleted while policies still name it. Leaving such a policy out whole would lose
its masks, filters and denials for everything else it governs, which could reveal something. So only what has lost its
meaning goes, and what cannot go without revealing more is made stricter:

- names of databases that are not there: they select nothing;
- masks and denying rules on classes that no column has: they touch nothing;
- allowing rules on such classes: the class goes, and the rule with its last one: it would admit less, never more;
- row filters that cannot be compiled any more: they hide every row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice_crds import DatabaseAccessPolicy
from sluice_policy.databases import Database
from sluice_policy.expressions import Refusal, compile_filter
from sluice_policy.resources import Resource, parse_resource


def prune(document: Mapping[str, Any], databases: Mapping[str, Database]) -> Resource | None:
    """Return the policy without what has lost its meaning; None when it would select nothing.

    Args:
        document: A policy that its schema accepts, as ``RawResource.document`` gives it.
        databases: The databases that are there.
    """
    namespace = document["metadata"]["namespace"]
    own = {d.resource.name: d for d in databases.values() if d.resource.namespace == namespace}
    spec: dict[str, Any] = dict(document["spec"])
    selector: dict[str, Any] = dict(spec.get("databases") or {})
    chosen = list(own)
    if "names" in selector:
        chosen = [name for name in selector["names"] if name in own]
        if not chosen:
            return None
        selector["names"] = chosen
        spec["databases"] = selector
    labels: dict[str, str] = selector.get("matchLabels") or {}
    selected = [
        own[name] for name in chosen if labels.items() <= own[name].model.metadata.labels.items()
    ]
    _prune_classes(spec, selected)
    _close_filters(spec, selected)
    parsed = parse_resource({**document, "spec": spec})
    return Resource(parsed, namespace) if isinstance(parsed, DatabaseAccessPolicy) else None


def _prune_classes(spec: dict[str, Any], selected: list[Database]) -> None:
    sound = [database for database in selected if database.sound]
    if not sound:
        return
    known = {name for database in sound for name in database.classes}
    covering = {".".join(n.split(".")[: i + 1]) for n in known for i in range(n.count(".") + 1)}
    allowed = covering | {"*", "unreviewed"}
    if "masks" in spec:
        spec["masks"] = [mask for mask in spec["masks"] if mask["class"] in allowed]
    rules: list[Any] = []
    for rule in spec.get("rules") or ():
        if "classes" not in rule:
            rules.append(rule)
        elif classes := [name for name in rule["classes"] if name in allowed]:
            rules.append({**rule, "classes": classes})
    if "rules" in spec:
        spec["rules"] = rules
    for name in ("masks", "rules"):
        if name in spec and not spec[name]:
            del spec[name]


def _close_filters(spec: dict[str, Any], selected: list[Database]) -> None:
    def readable(table: str) -> str | None:
        known = all(database.names_table(table) for database in selected)
        return None if known else f"{table} is not in the classification"

    filters: list[Any] = []
    for entry in spec.get("rowFilters") or ():
        where = entry.get("where")
        closed = where is not None and isinstance(compile_filter(where, readable), Refusal)
        filters.append({**entry, "where": "false"} if closed else entry)
    if filters:
        spec["rowFilters"] = filters
