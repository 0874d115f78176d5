"""What a temporary view of the session reads is read by whoever reads the view."""

from __future__ import annotations

from sluice_proxy.decisions import TemporaryRelation
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.naming import Resolved
from sluice_proxy.facts.refusals import refused


def note_view(a: Analysis, view: TemporaryRelation) -> None:
    """Record the relations and columns that a temporary view reads, as policies and the audit speak of them.

    Raises:
        ClientError: It reads what the catalog does not have.
    """
    pending, seen = [view], {view.name}
    while pending:
        current = pending.pop()
        for name in sorted(current.reads_own - seen):
            seen.add(name)
            if name in a.context.temporary:
                pending.append(a.context.temporary[name])
        for oid, number in sorted(current.reads):
            _note(a, view, oid, number)


def _note(a: Analysis, view: TemporaryRelation, oid: int, number: int) -> None:
    catalog = a.context.catalog
    relation = catalog.by_oid.get(oid) if catalog else None
    if relation is None:
        if not a.enforcing:
            return
        raise refused(
            f'permission denied for view "{view.name}"',
            detail="It reads a relation that the catalog does not have any more.",
            hint="Drop the view and make it again.",
        )
    use = a.use(Resolved(relation.schema, relation.name, relation))
    if use is None:
        return
    use.read = True
    use.reads.update(column.name for column in relation.columns if column.number == number)
