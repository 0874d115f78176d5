"""Several statements in one message: in which state of the session each of them runs."""

from __future__ import annotations

from dataclasses import replace

from sluice_proxy.decisions import SessionContext, TemporaryRelation
from sluice_proxy.facts.model import StatementFacts
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.governed import spoken_of

_HARMLESS_LATER = frozenset(
    [
        "begin",
        "start",
        "commit",
        "rollback",
        "savepoint",
        "release",
        "rollback_to",
        "set",
        "reset",
        "show",
        "discard",
        "deallocate",
        "close",
    ]
)


class Following:
    """The session's context behind each statement of a message, as far as the message alone tells.

    A wrong guess of what is temporary ends in an error, never in another table: names are qualified.
    """

    def __init__(self, context: SessionContext) -> None:
        self.context = context
        self._at_start = context
        """When the present transaction began, if nothing was changed in it before this message."""
        self._ended = False
        self._changed = False

    def judged(self, facts: StatementFacts) -> StatementFacts:
        """Take the next statement, read under ``context``.

        Returns:
            The facts; ``settled`` when they are true only if the transaction that the message came in changed nothing
            of the session: its end puts back what was changed.

        Raises:
            ClientError: What it finds is not known before the statements in front of it have run.
        """
        harmless = facts.kind in _HARMLESS_LATER and not (
            facts.tables or facts.functions or facts.edits
        )
        if self._changed and not harmless:
            raise not_understood(
                "a statement behind one that changes the session, in one message",
                "Send the statements one by one.",
            )
        if facts.effects is not None and facts.effects.refresh and self.context.catalog is not None:
            self._follow(facts)
        return replace(facts, settled=True) if self._ended and not harmless else facts

    def _follow(self, facts: StatementFacts) -> None:
        if facts.kind == "commit":
            # What was made is everybody's from here on.
            self._changed |= bool(self.context.made)
            self._at_start = self.context
            self._ended = True
        elif facts.kind == "rollback":
            self.context = self._at_start
            self._ended = True
        elif facts.kind == "rollback_to":
            self._changed |= self.context is not self._at_start
            self._ended = True
        elif facts.kind != "call" and not facts.nameless:
            later = _after(self.context, facts)
            self._changed |= later is None
            self.context = later or self.context


def _after(context: SessionContext, facts: StatementFacts) -> SessionContext | None:
    """Return the context behind a statement that only makes tables or drops temporary ones; None for every other."""
    temporary = dict(context.temporary)
    if facts.created is not None:
        name, columns = facts.created
        temporary[name] = TemporaryRelation(name, "r", columns)
    elif facts.lasting is not None:
        schema, name, columns = facts.lasting
        unread = spoken_of(context.decision, schema, name, columns)
        if context.catalog is None or context.catalog.relation(schema, name) is not None:
            # It is there, as the server says, or was dropped in front of this: no policy spoke of it then.
            return None if unread else context
        made = TemporaryRelation(name, "r", columns, unread=unread)
        return replace(context, made={**context.made, (schema, name): made})
    elif facts.dropped:
        for name in facts.dropped:
            temporary.pop(name, None)
    else:
        return None
    return replace(context, temporary=temporary)
