"""What a statement does, and how its text must change: pglast's tree, the catalog, and the session's decision."""

from sluice_proxy.facts.model import SessionEffects, StatementFacts, TableUse, TextEdit
from sluice_proxy.facts.reading import read_facts

__all__ = ["SessionEffects", "StatementFacts", "TableUse", "TextEdit", "read_facts"]
