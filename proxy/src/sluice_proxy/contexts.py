"""Numbers for what a plan depends on (the cache key of the data plane), and back."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from sluice_proxy.databases import Database
from sluice_proxy.decisions import SessionContext, SessionDecision

CONTEXTS_MAX: Final = 10_000
"""Each is some kilobytes; sessions of one role share one, temporary tables make more."""


@dataclass(frozen=True, slots=True)
class NumberedContext:
    """A context and what the brain knows beside it."""

    number: int
    context: SessionContext
    database: Database
    expired: bool
    """The policy in force has outlived its maximum age: governed statements are refused."""


class Contexts:
    """A bounded registry. Equal contents have equal numbers while they are kept; a number is never used twice."""

    def __init__(self, limit: int = CONTEXTS_MAX) -> None:
        self._limit = limit
        self._by_key: OrderedDict[bytes, NumberedContext] = OrderedDict()
        self._by_number: dict[int, NumberedContext] = {}
        self._catalogs: OrderedDict[int, tuple[Database, int | None]] = OrderedDict()
        self._next = 1

    def __len__(self) -> int:
        return len(self._by_key)

    def number(self, context: SessionContext, database: Database, *, expired: bool) -> int:
        """Return the number of this context."""
        key = _key(context, expired=expired)
        kept = self._by_key.get(key)
        if kept is None:
            kept = NumberedContext(self._next, context, database, expired)
            self._next += 1
            self._by_key[key] = kept
            self._by_number[kept.number] = kept
            catalog = context.catalog
            self._catalogs[kept.number] = (database, None if catalog is None else catalog.version)
            if len(self._catalogs) > 2 * self._limit:
                self._catalogs.popitem(last=False)
            while len(self._by_key) > self._limit:
                _, oldest = self._by_key.popitem(last=False)
                del self._by_number[oldest.number]
        else:
            self._by_key.move_to_end(key)
        return kept.number

    def get(self, number: int) -> NumberedContext | None:
        """Return the context, None when it is not kept any more (the session must ask for its state again)."""
        return self._by_number.get(number)

    def catalog_of(self, number: int) -> tuple[Database, int | None] | None:
        """Return the catalog version that a context is made of.

        Known for some time after the context was forgotten: statements planned in it may still be running.
        """
        return self._catalogs.get(number)

    def forget_other_revisions(self, revision: str) -> None:
        """Drop the contexts of every other policy revision."""
        for key, kept in list(self._by_key.items()):
            if kept.context.decision.revision != revision:
                del self._by_key[key]
                del self._by_number[kept.number]


def decision_digest(decision: SessionDecision) -> str:
    """Return a digest of what the decision says, whatever its sequence and the time it holds until."""
    content = dataclasses.replace(decision, sequence=0, valid_until_ns=None)
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _key(context: SessionContext, *, expired: bool) -> bytes:
    catalog = context.catalog
    document = [
        context.database,
        context.role,
        context.search_path,
        context.unsearched,
        sorted(
            (item.name, item.kind, item.columns, sorted(item.reads), sorted(item.reads_own))
            for item in context.temporary.values()
        ),
        sorted(
            (*place, item.kind, item.columns, item.unread) for place, item in context.made.items()
        ),
        decision_digest(context.decision),
        None if catalog is None else [catalog.database, catalog.version],
        context.server_major,
        expired,
    ]
    return hashlib.sha256(json.dumps(document).encode()).digest()
