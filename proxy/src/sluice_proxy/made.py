"""Tables that a session's open transaction has made or renamed.

The catalog, read by another session, does not have them yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sluice_proxy.catalog.model import Catalog
from sluice_proxy.databases import Database, Databases
from sluice_proxy.decisions import SessionDecision, TemporaryRelation
from sluice_proxy.governed import GovernedRelation, governed_relations, spoken_of, tied
from sluice_proxy.probe import NewRelation


async def made_relations(
    databases: Databases, database: Database, decision: SessionDecision, new: Iterable[NewRelation]
) -> Mapping[tuple[str, str], TemporaryRelation]:
    """Return, by schema and name, those of the new relations that are the session's alone.

    The session sees them under these names, and a look at the catalog that began after it saw them does not: no
    transaction that is over made them or gave them the name. Of what had another name before, no policy speaks. Views
    are not read before the catalog has their definition.
    """
    catalog = await databases.look(database)
    if catalog is None:
        return {}
    governed = governed_relations(catalog, decision)
    return {
        (each.schema, each.name): TemporaryRelation(
            each.name,
            each.kind,
            each.columns,
            unread=each.kind in "vm" or spoken_of(decision, each.schema, each.name, each.columns),
        )
        for each in new
        if _own(catalog, governed, each)
    }


def _own(catalog: Catalog, governed: Mapping[int, GovernedRelation], new: NewRelation) -> bool:
    known = catalog.by_oid.get(new.oid)
    if known is None:
        return True
    renamed = (known.schema, known.name) != (new.schema, new.name)
    return renamed and not tied(catalog, governed, known)
