"""Tables that row filters read, by name: who could exchange one would decide which rows are hidden."""

from __future__ import annotations

from functools import lru_cache

from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.refusals import refused
from sluice_proxy.facts.tree import dictionaries, parse


def check_unfiltering(a: Analysis, schema: str, name: str, what: str) -> None:
    """Check that a relation that is made, renamed, altered or dropped is none that a row filter reads.

    Raises:
        ClientError: It is one.
    """
    filters = tuple(each.parts for each in a.context.decision.row_filters)
    if any((place or schema, table) == (schema, name) for place, table in _read(filters)):
        raise refused(
            f'permission denied for {what} of "{name}"',
            detail="A row filter of a policy reads it.",
            hint="Let a role that no policy restricts change it, as migrations do.",
        )


@lru_cache(maxsize=64)
def _read(filters: tuple[tuple[str | tuple[str], ...], ...]) -> frozenset[tuple[str | None, str]]:
    found: set[tuple[str | None, str]] = set()
    for parts in filters:
        text = "".join(part if isinstance(part, str) else quoted(part[0]) for part in parts)
        if "select" not in text.lower():
            continue
        for statement in parse(f"SELECT {text}".encode()):
            for _, node in dictionaries(statement.body):
                if "relname" in node:
                    found.add((node.get("schemaname"), node["relname"]))
    return frozenset(found)
