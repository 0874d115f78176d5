"""Tables that a session's open transaction has made: the catalog, read by another session, does not have them yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sluice_proxy.databases import Database, Databases
from sluice_proxy.decisions import SessionDecision, TemporaryRelation
from sluice_proxy.governed import spoken_of
from sluice_proxy.probe import NewRelation


async def made_relations(
    databases: Databases, database: Database, decision: SessionDecision, new: Iterable[NewRelation]
) -> Mapping[tuple[str, str], TemporaryRelation]:
    """Return, by schema and name, those of the new relations that are the session's alone.

    The session sees them, and a look at the catalog that began after it saw them does not: no transaction that has
    committed made them.
    """
    catalog = await databases.look(database)
    if catalog is None:
        return {}
    return {
        (each.schema, each.name): TemporaryRelation(
            each.name,
            each.kind,
            each.columns,
            unread=spoken_of(decision, each.schema, each.name, each.columns),
        )
        for each in new
        if each.oid not in catalog.by_oid
    }
