"""DO: blocks of PL/pgSQL that hold definitions only, as migration tools send them.

What the server gets is put together anew from the statements that were judged, so that nothing else of the block's text
is left. PL/pgSQL has no part in definitions: no variable stands for a name or a value in them. A condition is judged
and rewritten as ``SELECT condition`` is, which is what PL/pgSQL makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sluice_proxy import _native
from sluice_proxy.facts import tree
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.conditions import (
    answers_alone,
    asks_for_objects,
    condition_end,
    without_variables,
)
from sluice_proxy.facts.lexer import Tokens
from sluice_proxy.facts.model import SessionEffects, StatementFacts, TableUse
from sluice_proxy.facts.refusals import refused
from sluice_proxy.facts.tree import Node, unwrap

DEFINITIONS = frozenset(
    [
        "AlterEnumStmt",
        "AlterSeqStmt",
        "AlterTableStmt",
        "CommentStmt",
        "CompositeTypeStmt",
        "CreateDomainStmt",
        "CreateEnumStmt",
        "CreateExtensionStmt",
        "CreateSchemaStmt",
        "CreateSeqStmt",
        "CreateStmt",
        "DropStmt",
        "IndexStmt",
        "RenameStmt",
    ]
)
"""What may stand in a block. None holds a query: PL/pgSQL would put its own variables into one."""
CAUGHT = {
    "duplicate_column": "42701",
    "duplicate_object": "42710",
    "duplicate_schema": "42P06",
    "duplicate_table": "42P07",
    "invalid_schema_name": "3F000",
    "invalid_table_definition": "42P16",
    "undefined_column": "42703",
    "undefined_object": "42704",
    "undefined_table": "42P01",
    "unique_violation": "23505",
}
"""What a block may catch: that a definition is there already, or not there. No error by which Sluice refuses is one."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block's statements, separated by semicolons, and what it catches."""

    text: bytes
    count: int
    branches: dict[int, int]
    """Statements that are conditions, each with the number of the one behind its branch."""
    handlers: tuple[tuple[str, ...], ...]


def do(a: Analysis, body: Node) -> SessionEffects | None:
    """DO."""
    a.kind = "do"
    block = _read(_body_text(body))
    parsed = tree.parse(block.text)
    if len(parsed) != block.count:
        raise _other("a statement that is no definition")
    for number, each in enumerate(parsed):
        if number in block.branches:
            text = block.text[each.start : each.end]
            if not asks_for_objects(each) or not without_variables(text):
                raise _other("a condition of another kind")
        elif each.type not in DEFINITIONS:
            raise _other("a statement that is no definition")
    facts = a.several(block.text, a.context, placeless=a.placeless)
    _check_branches(block, facts)
    edits = [_native.Edit(e.start, e.end, e.text.encode()) for each in facts for e in each.edits]
    changed = _native.apply_edits(block.text, edits)
    again = tree.parse(changed)
    if [each.type for each in again] != [each.type for each in parsed]:
        raise _other("a statement that cannot be put in again")
    texts = [changed[each.start : each.end] for each in again]
    if not all(without_variables(texts[number]) for number in block.branches):
        raise _other("a condition that cannot be put in again")
    for each in facts:
        _take(a, each)
    definitions = [each for number, each in enumerate(facts) if number not in block.branches]
    a.nameless = all(each.nameless for each in definitions)
    a.placing = any(each.placing for each in facts)
    a.replace(*a.span, _written(block, texts))
    return SessionEffects(refresh=True)


def _check_branches(block: Block, facts: tuple[StatementFacts, ...]) -> None:
    """Check that what is behind a branch does not depend on whether it ran.

    Raises:
        ClientError: It would, or a condition does more than to ask.
    """
    for number, behind in block.branches.items():
        if not answers_alone(facts[number]):
            raise _other("a condition of another kind")
        if behind < len(facts) and not all(_unnaming(each) for each in facts[number + 1 : behind]):
            raise _other("statements behind an IF that may make, drop or rename a table")


def _unnaming(facts: StatementFacts) -> bool:
    """Say whether what is behind a statement is judged as if it had not run."""
    return facts.nameless or facts.effects is None


def _body_text(body: Node) -> bytes:
    text: str | None = None
    for item in body["args"]:
        _, option = unwrap(item)
        value: str = option["arg"]["String"].get("sval", "")
        if option["defname"] == "as" and text is None:
            text = value
        elif option["defname"] != "language" or value != "plpgsql":
            raise _other("another language")
    if text is None:
        raise _other("nothing")
    return text.encode()


def _read(text: bytes) -> Block:
    """Take a block apart.

    Raises:
        ClientError: It is not ``BEGIN definition; … EXCEPTION WHEN condition THEN NULL; … END``.
    """
    tokens = Tokens(text)
    if tokens.word(0) != "begin":
        raise _other("variables, labels or options" if len(tokens) else "nothing")
    statements, branches, at = _statements(text, tokens)
    handlers: list[tuple[str, ...]] = []
    if tokens.word(at) == "exception":
        at += 1
        while tokens.word(at) == "when":
            names, at = _handler(tokens, at + 1)
            handlers.append(names)
        if not handlers:
            raise _other("an EXCEPTION part of another form")
    rest = [tokens.raw(index) for index in range(at + 1, len(tokens))]
    if tokens.word(at) != "end" or rest not in ([], [b";"]) or not statements:
        raise _other("parts of another form")
    # Each on lines of its own: a comment at a statement's end must not reach the next.
    return Block(b"\n;\n".join(statements), len(statements), branches, tuple(handlers))


def _statements(text: bytes, tokens: Tokens) -> tuple[list[bytes], dict[int, int], int]:
    """Return the definitions and conditions of a block, its branches, and the token behind them."""
    statements: list[bytes] = []
    branches: dict[int, int] = {}
    at, inside = 1, -1
    while True:
        word = tokens.word(at)
        if word == "if" and inside < 0:
            end = condition_end(tokens, at + 1)
            if tokens.word(end) != "then" or end == at + 1:
                raise _other("a condition of another kind")
            inside = len(statements)
            statements.append(b"SELECT " + text[tokens.starts[at + 1] : tokens.ends[end - 1]])
        elif word == "end" and inside >= 0:
            end = at + 2
            if (
                tokens.word(at + 1) != "if"
                or tokens.raw(end) != b";"
                or inside == len(statements) - 1
            ):
                raise _other("an IF of another form")
            branches[inside], inside = len(statements), -1
        elif word in ("end", "exception") and inside < 0:
            return statements, branches, at
        elif word in ("alter", "comment", "create", "drop"):
            end = _semicolon(tokens, at)
            statements.append(text[tokens.starts[at] : tokens.ends[end - 1]])
        else:
            raise _other("a statement that is no definition")
        if any(tokens.word(index) == "into" for index in range(at, end)):
            raise _other("INTO")
        at = end + 1


def _semicolon(tokens: Tokens, at: int) -> int:
    for index in range(at, len(tokens)):
        if tokens.raw(index) == b";":
            if index == at:
                break
            return index
    raise _other("parts of another form")


def _handler(tokens: Tokens, at: int) -> tuple[tuple[str, ...], int]:
    """Return the conditions of a handler that does nothing, and the token behind it."""
    names: list[str] = []
    while True:
        name = tokens.word(at)
        if name == "sqlstate":
            at += 1
            code = tokens.raw(at).decode("utf-8", "replace").strip("'")
            name = next((each for each, known in CAUGHT.items() if known == code), "")
        if name not in CAUGHT:
            raise _other("a handler of other errors")
        names.append(name)
        at += 1
        if tokens.word(at) != "or":
            break
        at += 1
    if (tokens.word(at), tokens.word(at + 1), tokens.raw(at + 2)) != ("then", "null", b";"):
        raise _other("a handler that does something")
    return tuple(names), at + 3


def _written(block: Block, texts: list[bytes]) -> str:
    """Return the whole statement."""
    lines: list[str] = []
    ends = set(block.branches.values())
    for index, text in enumerate(texts):
        each = text.decode()
        lines.append(f"IF (\n{each}\n) THEN\n" if index in block.branches else f"{each}\n;\n")
        if index + 1 in ends:
            lines.append("END IF;\n")
    caught = "".join(f"WHEN {' OR '.join(names)} THEN NULL;\n" for names in block.handlers)
    inside = f"\nBEGIN\n{''.join(lines)}{'EXCEPTION ' if caught else ''}{caught}END\n"
    number = 0
    while f"$b{number}$" in inside:
        number += 1
    return f"DO LANGUAGE plpgsql $b{number}${inside}$b{number}$"


def _take(a: Analysis, facts: StatementFacts) -> None:
    """Make what a statement inside does a part of what the block does."""
    a.actions.update(facts.actions)
    a.functions.update(facts.functions)
    a.write_oracles.update(facts.write_oracles)
    a.unfiltered_write |= facts.unfiltered_write
    for use in facts.tables:
        _merge(a, use)


def _merge(a: Analysis, use: TableUse) -> None:
    known = a.uses.setdefault(use.name, use)
    if known is use:
        return
    known.read |= use.read
    known.written |= use.written
    known.reads |= use.reads
    known.writes |= use.writes
    if known.read and known.written:
        a.actions.add("select")  # What one of the statements alone would have needed.


def _other(what: str) -> Exception:
    return refused(
        f"permission denied for DO of a block with {what}",
        detail="Code inside of a block cannot be judged; definitions (CREATE, ALTER, DROP, COMMENT) can, between BEGIN "
        "and END, behind IF [NOT] EXISTS (a query of catalogs) THEN too, with handlers that catch only that they are "
        "there, or not there, and do NULL.",
        hint="Send the block's statements by themselves; IF NOT EXISTS and IF EXISTS serve where it catches errors.",
    )
