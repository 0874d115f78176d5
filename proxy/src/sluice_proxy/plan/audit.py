"""Audit facts of one statement, as JSON. Names only: no literal, no value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sluice_proxy.decisions import SessionContext, StatementDecision
from sluice_proxy.facts.model import StatementFacts


def fragment(
    facts: StatementFacts,
    context: SessionContext,
    *,
    verdict: str,
    reasons: Sequence[Mapping[str, Any]],
    decision: StatementDecision | None,
) -> bytes:
    """Return the JSON object that becomes part of the statement's audit event."""
    read = {
        table.name: sorted({table.classes[name] for name in table.reads if name in table.classes})
        for table in facts.tables
    }
    document: dict[str, Any] = {
        "kind": facts.kind,
        "actions": list(facts.actions),
        "tables": [
            {
                "name": table.name,
                "access": table.opa()["access"],
                "columns": sorted(table.reads),
                "written": sorted(table.writes),
                "classes": read[table.name],
            }
            for table in facts.tables
        ],
        "classes": sorted({name for names in read.values() for name in names}),
        "functions": list(facts.functions),
        "masks": _masks(facts),
        "filters": sorted(table.name for table in facts.tables if table.filtered),
        "verdict": verdict,
        "reasons": [dict(reason) for reason in reasons],
        "policies": sorted(decision.policies if decision else context.decision.policies),
        "revision": (decision or context.decision).revision,
        "sequence": (decision or context.decision).sequence,
        "level": context.decision.level.name.lower(),
        "understood": facts.understood,
    }
    if facts.write_oracles:
        document["write_oracles"] = list(facts.write_oracles)
    if decision is not None and decision.would:
        document["would"] = [dict(reason) for reason in decision.would]
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _masks(facts: StatementFacts) -> list[dict[str, str]]:
    found: Iterable[tuple[str, str, str]] = (
        (table.name, column, table.masks[column])
        for table in facts.tables
        for column in table.reads
        if column in table.masks
    )
    return [
        {"table": table, "column": column, "mask": mask} for table, column, mask in sorted(found)
    ]
