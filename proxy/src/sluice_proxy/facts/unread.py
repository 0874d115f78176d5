"""Tables and views of the present transaction of which the catalog does not know yet what a policy hides."""

from __future__ import annotations

from sluice_proxy.facts.naming import Resolved
from sluice_proxy.facts.refusals import refused


def check_unread(resolved: Resolved) -> None:
    """Check that a table is in the catalog already where a policy speaks of it.

    Raises:
        ClientError: The present transaction made it, and how its columns are masked is not known yet.
    """
    if resolved.temporary is not None and resolved.temporary.unread:
        view = resolved.temporary.kind in "vm"
        what, detail, hint = _UNREAD[view]
        raise refused(
            f'permission denied for {what} "{resolved.name}" before the transaction that made it is over',
            detail=detail,
            hint=hint,
        )


_UNREAD = {
    False: (
        "table",
        "A policy masks columns or filters rows of it, which takes a table that other sessions see.",
        "INSERT and COPY FROM work; COMMIT before the table is read.",
    ),
    True: (
        "view",
        "It is judged by its definition, which Sluice sees when other sessions do.",
        "COMMIT before the view is read.",
    ),
}
