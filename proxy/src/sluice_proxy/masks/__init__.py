"""Masks as SQL: one total, setting-independent expression of the column's own type for each kind.

* Everything is pg_catalog-qualified and cast to the base type and typmod, so that type and typmod on the
  wire stay those of the column (SQL.md §3, §12).
* ``redact`` is a constant, also where the value is NULL. ``null`` is NULL, or that constant where the
  column is NOT NULL. Every other kind keeps NULL as NULL: which values are missing stays visible.
* A value too short to be cut (below twice what is shown) is shown as ``***`` altogether.
"""

from __future__ import annotations

from sluice_proxy.masks.constants import constant_sql
from sluice_proxy.masks.order import derived, strictest, strictness
from sluice_proxy.masks.sql import fits, is_constant, is_partial, mask_sql, reads

__all__ = [
    "constant_sql",
    "derived",
    "fits",
    "is_constant",
    "is_partial",
    "mask_sql",
    "reads",
    "strictest",
    "strictness",
]
