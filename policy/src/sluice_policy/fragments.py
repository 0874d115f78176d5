"""Pieces of SQL text with holes for columns: what an expression is compiled to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sluice_policy.allowed import ANY


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the row that the expression speaks of; the brain puts its own reference here."""

    name: str


@dataclass(frozen=True, slots=True)
class Fragment:
    """A scalar expression, closed in itself: it can stand beside any operator."""

    pieces: tuple[str | Column, ...]
    gives: str = ANY
    literal: bool = False
    """A bare literal, untyped or number: only PostgreSQL knows its type."""
    constant: bool = False
    """Depends on no column."""
    nodes: int = 1
    """Operators, functions and operands in it; bounds what rewriting repeats."""

    def parts(self) -> list[Any]:
        """The contract's parts."""
        out: list[Any] = []
        for piece in self.pieces:
            if isinstance(piece, Column):
                out.append({"column": piece.name})
            elif out and isinstance(out[-1], str):
                out[-1] += piece
            else:
                out.append(piece)
        return out

    def text(self) -> str:
        """The expression as SQL over columns of their own names."""
        return "".join(p if isinstance(p, str) else quoted(p.name) for p in self.pieces)


def joined(*pieces: str | Fragment, gives: str = ANY) -> Fragment:
    """One fragment of several; the caller brings the parentheses."""
    out: list[str | Column] = []
    constant, nodes = True, 1
    for piece in pieces:
        if isinstance(piece, str):
            out.append(piece)
        else:
            out += piece.pieces
            constant = constant and piece.constant
            nodes += piece.nodes
    return Fragment(tuple(out), gives, constant=constant, nodes=nodes)


def separated(items: Iterable[Fragment], separator: str) -> list[str | Fragment]:
    """Fragments with text between them."""
    out: list[str | Fragment] = []
    for item in items:
        if out:
            out.append(separator)
        out.append(item)
    return out


def quoted(name: str) -> str:
    """An identifier, always in quotes: no keyword, no folding."""
    return '"' + name.replace('"', '""') + '"'


def literal_text(value: str) -> str:
    """A string literal that reads the same whatever standard_conforming_strings is."""
    doubled = value.replace("'", "''")
    if "\\" in doubled:
        return " E'" + doubled.replace("\\", "\\\\") + "'"
    return f"'{doubled}'"
