"""DO: blocks of PL/pgSQL that hold definitions only, as migration tools send them.

What the server gets is put together anew from the statements that were judged, so that nothing else of the block's text
is left. PL/pgSQL has no part in definitions: no variable stands for a name or a value in them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sluice_proxy import _native
from sluice_proxy.facts import tree
from sluice_proxy.facts.analysis import Analysis
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
    handlers: tuple[tuple[str, ...], ...]


def do(a: Analysis, body: Node) -> SessionEffects | None:
    """DO."""
    a.kind = "do"
    block = _read(_body_text(body))
    parsed = tree.parse(block.text)
    if len(parsed) != block.count or any(each.type not in DEFINITIONS for each in parsed):
        raise _other("a statement that is no definition")
    facts = a.several(block.text, a.context, placeless=a.placeless)
    edits = [_native.Edit(e.start, e.end, e.text.encode()) for each in facts for e in each.edits]
    changed = _native.apply_edits(block.text, edits)
    if [each.type for each in tree.parse(changed)] != [each.type for each in parsed]:
        raise _other("a statement that cannot be put in again")
    for each in facts:
        _take(a, each)
    a.nameless = all(each.nameless for each in facts)
    a.placing = any(each.placing for each in facts)
    a.replace(*a.span, _written(changed.decode(), block.handlers))
    return SessionEffects(refresh=True)


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
    statements: list[bytes] = []
    at = 1
    while tokens.word(at) not in ("end", "exception"):
        end = _semicolon(tokens, at)
        if tokens.word(at) not in ("alter", "comment", "create", "drop"):
            raise _other("a statement that is no definition")
        if any(tokens.word(index) == "into" for index in range(at, end)):
            raise _other("INTO")
        statements.append(text[tokens.starts[at] : tokens.ends[end - 1]])
        at = end + 1
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
    return Block(b"\n;\n".join(statements), len(statements), tuple(handlers))


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


def _written(statements: str, handlers: tuple[tuple[str, ...], ...]) -> str:
    """Return the whole statement."""
    caught = "".join(f"WHEN {' OR '.join(names)} THEN NULL;\n" for names in handlers)
    inside = f"\nBEGIN\n{statements}\n;\n{'EXCEPTION ' if caught else ''}{caught}END\n"
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
        "and END, with handlers that catch only that they are there, or not there, and do NULL.",
        hint="Send the block's statements by themselves; IF NOT EXISTS and IF EXISTS serve where it catches errors.",
    )
