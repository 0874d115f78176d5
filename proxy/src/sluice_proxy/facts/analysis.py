"""The state of reading one statement: what was seen, and which edits follow."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sluice_proxy import allowlists
from sluice_proxy.decisions import Level as SessionLevel
from sluice_proxy.decisions import SessionContext
from sluice_proxy.facts.bounds import CHANGED_CHARACTERS_MAX, refused_as_too_large
from sluice_proxy.facts.lexer import LITERAL_KINDS, Tokens
from sluice_proxy.facts.model import StatementFacts, TableUse, TextEdit
from sluice_proxy.facts.naming import Resolved
from sluice_proxy.facts.parameters import Parameters
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.scopes import Derived, Level, Query, Source
from sluice_proxy.facts.tree import Node, Offsets
from sluice_proxy.governed import GovernedRelation, governed_relations


def governed_of(context: SessionContext) -> Mapping[int, GovernedRelation]:
    """Return what holds for each relation; nothing does outside of restricted sessions."""
    if context.catalog is None or context.decision.level is not SessionLevel.RESTRICTED:
        return {}
    return governed_relations(context.catalog, context.decision)


@dataclass(slots=True)
class Wrap:
    """A conjunct that may only run where the filters of some sources hold."""

    level: Level
    start: int
    end: int
    sources: tuple[Source, ...]


@dataclass(slots=True)
class PendingEdit:
    """An edit in the making; insertions at one place nest by ``opening``."""

    start: int
    end: int
    text: str | Callable[[], str]
    opening: bool = False


@dataclass(eq=False)
class Analysis:
    """One statement being read."""

    tokens: Tokens
    context: SessionContext
    span: tuple[int, int]
    governed: Mapping[int, GovernedRelation]
    allow: allowlists.AllowList
    parameters: Parameters
    offsets: Offsets = field(default_factory=Offsets)
    pending: list[PendingEdit] = field(default_factory=list[PendingEdit])
    changed: int = 0
    """Characters that were put in; texts that are known beforehand count twice."""
    sources: list[Source] = field(default_factory=list[Source])
    uses: dict[str, TableUse] = field(default_factory=dict[str, TableUse])
    functions: set[str] = field(default_factory=set[str])
    mentioned: set[str] = field(default_factory=set[str])
    free: set[int] = field(default_factory=set[int])
    wraps: list[Wrap] = field(default_factory=list[Wrap])
    fences: list[Query] = field(default_factory=list[Query])
    """Sub-selects that need a fence whatever else is found."""
    fenced: list[Query] = field(default_factory=list[Query])
    """Sub-selects that got one: OFFSET 0 behind everything else that is put in at their end."""
    seen: set[int] = field(default_factory=set[int])
    operators: set[tuple[str, ...]] = field(default_factory=set[tuple[str, ...]])
    """Names of operators that were found to mean PostgreSQL's own."""
    categories: dict[tuple[str, ...], str] = field(default_factory=dict[tuple[str, ...], str])
    """What kind of function a name was found to mean, where nothing is put into the text for it."""
    types: set[tuple[str, ...]] = field(default_factory=set[tuple[str, ...]])
    """Names of types that mean what they say."""
    shown: dict[int, dict[str, Derived]] = field(default_factory=dict[int, "dict[str, Derived]"])
    """What comparing the columns of relations takes, by oid: ``select`` keeps it."""
    compared: dict[tuple[Any, ...], Any] = field(default_factory=dict[tuple[Any, ...], Any])
    """Comparisons of the same two operands: ``expressions`` keeps them."""
    write_oracles: set[str] = field(default_factory=set[str])
    kind: str = ""
    actions: set[str] = field(default_factory=set[str])
    wrapping: list[tuple[int, int, str]] = field(default_factory=list[tuple[int, int, str]])
    """WHERE clauses of writes, and what is added behind them: put around everything else that stands there."""
    unfiltered_write: bool = False
    liked: list[tuple[str, ...] | None] = field(default_factory=list[tuple[str, ...] | None])
    created: tuple[str, tuple[str, ...]] | None = None
    """The temporary table that it makes, with its columns, when they are known beforehand."""
    followed: bool = False
    """Other statements stand behind it in the same message."""
    placeless: bool = False
    """A schema was made in front of this in the same message, and may be where new tables go."""
    placing: bool = False
    """It makes a schema."""
    place: Resolved | None = None
    """The table that it makes or alters, when that stays."""
    lasting: tuple[str, str, tuple[str, ...]] | None = None
    """Schema, name and columns of the table that stays and that it makes anew, when they are known beforehand."""
    nameless: bool = False
    """It changes definitions, and no name gets another meaning."""
    dropped: tuple[str, ...] = ()
    target_alias: str | None = None
    raw_targets: list[Source] = field(default_factory=list[Source])
    """Governed targets of writes: references to them read raw rows."""
    exact: bool = False
    locking: bool = False
    refresh: bool = False
    nested: int = 0
    joining: bool = False
    """Inside WHERE or ON: an equality there joins."""
    returning: bool = False
    """Inside RETURNING: references to masked columns of the target become their masks."""
    bare_call: int | None = None
    """Identity of a call that is a whole, unnamed result column: a replacement must keep its name."""
    result_reference: int | None = None
    """Identity of the column reference that is a whole result column."""
    typed_rows: set[int] = field(default_factory=set[int])
    """Identities of whole rows that are shown inside of something: they keep their type as result columns do."""
    top_targets: set[int] = field(default_factory=set[int])
    """Identities of calls that are result columns of a bare top-level SELECT."""
    query: Callable[..., Query] = field(default=lambda *_args, **_kw: Query())
    write: Callable[..., Query] = field(default=lambda *_args, **_kw: Query())
    several: Callable[..., tuple[StatementFacts, ...]] = field(default=lambda *_args, **_kw: ())
    """Judges the statements of another text, one behind the other."""

    @property
    def enforcing(self) -> bool:
        """True in restricted sessions: texts change, and what is not known is refused."""
        return self.context.decision.level is SessionLevel.RESTRICTED

    def visit(self, body: Node) -> None:
        """Mark a node that decides something as understood."""
        self.seen.add(id(body))

    def use(self, resolved: Resolved) -> TableUse | None:
        """Return the record of a relation; None for what policies do not speak of (catalogs, own temporary tables)."""
        if resolved.schema in ("pg_catalog", "information_schema", "pg_temp", "pg_toast"):
            return None
        name = f"{resolved.schema}.{resolved.name}"
        use = self.uses.get(name)
        if use is None:
            governed = self.governed.get(resolved.relation.oid) if resolved.relation else None
            use = TableUse(name)
            if governed is not None:
                use.governed = True
                use.classes = governed.classes
                use.masks = {column: mask.kind for column, mask in governed.masks.items()}
                use.filtered = bool(governed.filters)
            self.uses[name] = use
        return use

    def replace(self, start: int, end: int, text: str | Callable[[], str]) -> None:
        """Put ``text`` in the place of the tokens ``start`` to ``end``."""
        self._put(PendingEdit(start, end, text))

    def around(self, start: int, end: int, before: str | Callable[[], str], after: str) -> None:
        """Put ``before`` and ``after`` around the tokens ``start`` to ``end``."""
        before = f" {before} " if isinstance(before, str) else before
        self._put(PendingEdit(start, start, before, opening=True))
        self._put(PendingEdit(end, end, after))

    def append(self, at: int, text: str | Callable[[], str]) -> None:
        """Insert behind token ``at - 1``."""
        self._put(PendingEdit(at, at, text))

    def _put(self, edit: PendingEdit) -> None:
        if edit.text.__class__ is str:
            self._text(edit)
        self.pending.append(edit)

    def _text(self, edit: PendingEdit) -> str:
        """Return what is put in; long texts and wide tables must not multiply without end."""
        text = edit.text if isinstance(edit.text, str) else edit.text()
        self.changed += len(text)
        if self.changed > CHANGED_CHARACTERS_MAX:
            raise refused_as_too_large("the statement would become too large")
        return text

    def edits(self) -> tuple[TextEdit, ...]:
        """Return all edits, those at one place put together."""
        inserts: dict[int, list[PendingEdit]] = {}
        replaced: dict[int, PendingEdit] = {}
        for edit in self.pending:
            if edit.start == edit.end:
                inserts.setdefault(edit.start, []).append(edit)
            elif edit.start in replaced:
                raise not_understood("two changes at one place of the statement")
            else:
                replaced[edit.start] = edit
        out: list[TextEdit] = []
        for start in sorted({*inserts, *replaced}):
            here = inserts.get(start, [])
            closing = "".join(self._text(edit) for edit in here if not edit.opening)
            opening = "".join(self._text(edit) for edit in reversed(here) if edit.opening)
            body = replaced.get(start)
            if body is None:
                out.append(TextEdit(start, start, closing + opening))
            else:
                if closing:
                    out.append(TextEdit(start, start, closing))
                out.append(TextEdit(start, body.end, opening + self._text(body)))
        for before, after in itertools.pairwise(out):
            if before.end > after.start:
                raise not_understood("changes of the statement that overlap")
        return tuple(out)

    def bound(self) -> tuple[int, ...]:
        """Return the literal tokens of the statement that are not known to be free."""
        tokens = self.tokens
        return tuple(
            index
            for index in range(*self.span)
            if tokens.kinds[index] in LITERAL_KINDS and tokens.starts[index] not in self.free
        )

    def complete(self, body: Node) -> None:
        """Check that nothing of weight in the tree was passed by.

        Raises:
            ClientError: A relation, column, call or sub-select stands where it was not looked for.
        """
        # Written out for its speed: it passes every node of the tree once more.
        seen = self.seen
        stack: list[Any] = [body]
        while stack:
            current = stack.pop()
            if current.__class__ is list:
                stack.extend(current)
                continue
            for key, child in current.items():
                form = child.__class__
                if form is dict:
                    if key in _LIGHT:
                        continue
                    if (key in _WEIGHTY or "relname" in child or "targetList" in child) and (
                        id(child) not in seen
                    ):
                        raise not_understood(f"a {key} in a place that is not known")
                    if key != "ColumnRef":  # It was seen, and all of its names are Strings then.
                        stack.append(child)
                elif form is list and key not in _WORDS:
                    stack.append(child)

    def type_shadowed(self, name: str) -> bool:
        """Say whether an unqualified type name means the session's own temporary table."""
        return name in self.context.temporary


_LIGHT = frozenset({"A_Const", "String", "Integer", "Float", "Boolean", "BitString", "ParamRef"})
"""Nodes that hold values only: nothing can stand below them."""
_WORDS = frozenset({"funcname", "name", "names", "operName"})
"""Lists of Strings, as PostgreSQL's grammar has them."""
_WEIGHTY = frozenset(
    [
        "RangeVar",
        "ColumnRef",
        "FuncCall",
        "SubLink",
        "SelectStmt",
        "InsertStmt",
        "UpdateStmt",
        "DeleteStmt",
        "MergeStmt",
        "TypeName",
        "A_Expr",
    ]
)


def constant_string(node: Node | None) -> str | None:
    """Return the value of a string constant, casts around it allowed; None for anything else."""
    while node is not None and "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    if node is None or "A_Const" not in node or "sval" not in node["A_Const"]:
        return None
    value: Any = node["A_Const"]["sval"].get("sval", "")
    return str(value)


_RUNS_SQL = frozenset(
    [
        *("crosstab", "crosstab2", "crosstab3", "crosstab4", "crosstabN", "connectby", "dblink"),
        *("query_to_xml", "table_to_xml", "schema_to_xml", "database_to_xml", "xpath_table"),
        "ts_stat",
    ]
)


def denied_function(name: str) -> Exception:
    """Return the refusal of a call."""
    if name.rpartition(".")[2] in _RUNS_SQL:
        return refused(
            f"permission denied for function {name}",
            detail="It runs SQL text or reads a table by its name, which Sluice does not follow.",
            hint="Write the query itself: FILTER or CASE for a pivot, WITH RECURSIVE for a tree.",
        )
    return refused(
        f"permission denied for function {name}",
        detail="The function is not one that Sluice knows to be harmless, and no classification lists it as trusted.",
        hint="Leave the call out, or ask the database's owner to list the function as trusted.",
    )
