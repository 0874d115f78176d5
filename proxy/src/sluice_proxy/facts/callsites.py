"""Where a call stands in the text."""

from __future__ import annotations

from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.facts.tree import Node, strings


def kept_name(a: Analysis, body: Node, name: str) -> str:
    """Return the AS that keeps a result column's name when what stands for the call has another."""
    return f" AS {quoted(name)}" if a.bare_call == id(body) else ""


def extent(a: Analysis, body: Node) -> tuple[int, int]:
    """Return the tokens of a call, from its name to its closing parenthesis."""
    start = a.tokens.at(body["location"])
    opening = a.tokens.dotted_end(start, len(body["funcname"]))
    if a.tokens.raw(opening) != b"(":
        raise not_understood(f"a call of {strings(body['funcname'])[-1]} in a special form")
    return start, a.tokens.close(opening) + 1


def first_argument(a: Analysis, body: Node) -> tuple[int, int]:
    """Return the tokens of a call's first argument; an empty range when it has none."""
    start, end = extent(a, body)
    first = a.tokens.dotted_end(start, len(body["funcname"])) + 1
    stop = first
    while stop < end - 1 and a.tokens.raw(stop) != b",":
        stop = a.tokens.close(stop) + 1 if a.tokens.raw(stop) in (b"(", b"[") else stop + 1
    return first, stop
