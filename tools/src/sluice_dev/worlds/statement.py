"""A statement as it is sent: texts, and the steps on the wire that they take."""

from __future__ import annotations

from dataclasses import dataclass

from sluice_dev.worlds.wire import Step, query


@dataclass(frozen=True, slots=True)
class Statement:
    """What is sent, in a transaction that is rolled back unless ``bare`` or ``own``."""

    sql: tuple[str, ...]
    steps: tuple[Step, ...]
    ordered: bool = False
    bare: bool = False
    own: bool = False
    """It has transactions of its own, and leaves nothing behind but in its session, which is emptied."""
    origin: str = "grammar"


def simple(
    *sql: str, ordered: bool = False, copy_in: tuple[bytes, ...] = (), origin: str = "grammar"
) -> Statement:
    """Return each text as a Query of its own."""
    steps = tuple(Step(query(one), 1, copy_in) for one in sql)
    return Statement(sql, steps, ordered, origin=origin)
