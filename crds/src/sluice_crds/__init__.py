"""The API types of Sluice: the one definition of both custom resources. Loaded when first asked for.

The sidecar shares ``logs`` with the operator and must not carry the models, which it has no use for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
_MODULES = ("base", "masks", "classifications", "policies")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            loaded = import_module(f"sluice_crds.{module}")
            if hasattr(loaded, name):
                return getattr(loaded, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
