"""Operators that cannot raise, whatever the row holds.

Tried on extreme values of every built-in type (SQL.md §1): of 409 boolean operators the 24 that raise are
all regular expressions or LIKE. LIKE is judged by its pattern elsewhere, so only comparisons stand here.

They are total over types that can be sorted or hashed (``ColumnType.has_equality``) and over those only:
box, circle, lseg and path compare computed areas and lengths, which overflow.
"""

from __future__ import annotations

TOTAL_OPERATORS = frozenset({"=", "<>", "!=", "<", "<=", ">", ">="})
