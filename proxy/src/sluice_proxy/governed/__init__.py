"""What a decision means for the relations of one catalog. Pure."""

from __future__ import annotations

from sluice_proxy.governed.check import problems, warnings
from sluice_proxy.governed.names import spoken_of
from sluice_proxy.governed.relations import GovernedRelation, governed_relations
from sluice_proxy.governed.ties import tied

__all__ = ["GovernedRelation", "governed_relations", "problems", "spoken_of", "tied", "warnings"]
