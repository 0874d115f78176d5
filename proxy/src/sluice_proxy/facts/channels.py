"""LISTEN and NOTIFY: channels carry what triggers put there."""

from __future__ import annotations

from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.model import SessionEffects
from sluice_proxy.facts.refusals import refused
from sluice_proxy.facts.tree import Node


def listen(a: Analysis, body: Node) -> SessionEffects | None:
    """LISTEN on a trusted channel."""
    channel = body["conditionname"]
    a.kind = "listen"
    a.actions.add("listen")
    if a.enforcing and channel not in a.context.decision.trusted_channels:
        raise refused(
            f'permission denied for channel "{channel}"',
            detail="Triggers notify with raw values; no classification lists this channel as trusted.",
            hint="Ask the database's owner to list the channel as trusted.",
        )
    return None


def notify(a: Analysis, body: Node) -> SessionEffects | None:
    """NOTIFY, by the rule of LISTEN."""
    effects = listen(a, body)
    a.kind = "notify"
    return effects


def unlisten(a: Analysis, body: Node) -> SessionEffects | None:
    """UNLISTEN."""
    del body
    a.kind = "unlisten"
    return None
