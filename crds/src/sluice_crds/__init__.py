"""The API types of Sluice: the one definition of both custom resources."""

from sluice_crds.base import API_VERSION, GROUP, VERSION
from sluice_crds.classifications import DataClassification, DataClassificationSpec
from sluice_crds.masks import KINDS, MaskKind, MaskSpec, parse_mask, strictness
from sluice_crds.policies import DatabaseAccessPolicy, DatabaseAccessPolicySpec

__all__ = [
    "API_VERSION",
    "GROUP",
    "KINDS",
    "VERSION",
    "DataClassification",
    "DataClassificationSpec",
    "DatabaseAccessPolicy",
    "DatabaseAccessPolicySpec",
    "MaskKind",
    "MaskSpec",
    "parse_mask",
    "strictness",
]
