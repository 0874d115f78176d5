"""Column references: what they mean, and what they become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sluice_proxy.catalog.model import Column, Relation
from sluice_proxy.facts import rowtypes, vanished
from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.refusals import not_understood, refused
from sluice_proxy.facts.scopes import SYSTEM_COLUMNS, Derived, Level, Query, Source
from sluice_proxy.facts.traits import Trait
from sluice_proxy.facts.tree import Node, strings, unwrap
from sluice_proxy.facts.types import built_in
from sluice_proxy.masks import is_constant, is_partial, mask_sql

_Expression = Callable[[Analysis, Node | None, Level], Trait]
_expression: list[_Expression] = []


def bind(expression: _Expression) -> None:
    """Give the module its way back to the walker of expressions."""
    _expression[:] = [expression]


def column(a: Analysis, body: Node, level: Level) -> Trait:
    """Resolve one reference."""
    fields = body["fields"]
    star = "A_Star" in fields[-1]
    names = strings(fields[:-1] if star else fields)
    a.mentioned.update(names)
    if star and not names:
        return everything(a, level)
    if star:
        source = _qualified(a, body, names, level)
        if source is not None and rowtypes.masked_row(a, body, source, len(names) + 1):
            level.note(source)
            return Trait(refs=frozenset({source}), columns=True)
        return _whole(a, source, level)
    if len(names) == 1:
        return _bare(a, body, names[0], level)
    source = _qualified(a, body, names[:-1], level)
    if source is None:
        return Trait(refs=_all_sources(level), leaks=_all_sources(level), columns=True)
    return _of_source(a, body, source, names[-1], level)


def everything(a: Analysis, level: Level) -> Trait:
    """Record ``*``: every column of every FROM item of the level."""
    for source in level.sources:
        _read_all(a, source)
    return Trait(refs=frozenset(level.sources), columns=True)


def _read_all(a: Analysis, source: Source) -> None:
    if source.target and source.governed and source.governed.masks:
        raise refused(
            f'permission denied for whole rows of table "{source.refname}"',
            detail="It is the table that is written, and some of its columns are masked.",
            hint="Name the columns that are needed.",
        )
    source.everything = True
    for member in source.members:
        _read_all(a, member)
    if source.use is not None and source.relation is not None:
        source.use.read = True
        source.use.reads.update(item.name for item in source.relation.columns)


def _whole(a: Analysis, source: Source | None, level: Level) -> Trait:
    if source is None:
        return Trait(refs=_all_sources(level), columns=True)
    level.note(source)
    _read_all(a, source)
    return Trait(refs=frozenset({source}), columns=True)


def _all_sources(level: Level) -> frozenset[Source]:
    return frozenset(source for each in level.chain() for source in each.sources)


def _qualified(a: Analysis, body: Node, names: list[str], level: Level) -> Source | None:
    """Return the FROM item behind the qualifier, and drop a schema that the splice has taken away."""
    if len(names) == 1:
        return level.named(names[0]) or _nowhere(names[0], level)
    if len(names) == 3 and a.context.catalog is not None and names[0] != a.context.catalog.database:
        raise not_understood("a column of another database")
    schema, table = names[-2], names[-1]
    source = level.qualified(schema, table)
    if source is None and schema.startswith("pg_temp"):
        source = level.qualified("pg_temp", table)
    if (
        source is not None
        and a.enforcing
        and (source.governed is not None or source.table != source.refname)
    ):
        index = a.tokens.at(body["location"])
        end = a.tokens.dotted_end(index, len(names))
        a.replace(index, end, quoted(source.refname))
    if source is None:
        _nowhere(table, level)
    return source


def _nowhere(name: str, level: Level) -> None:
    """Refuse an unknown qualifier beside a governed target: RETURNING old.c and new.c would read its raw row."""
    if any(source.target and source.governed for source in _all_sources(level)):
        raise not_understood(f'the qualifier "{name}", which names no table of the statement')


def _bare(a: Analysis, body: Node, name: str, level: Level) -> Trait:
    if a.raw_targets:
        return _found(a, body, name, level)
    kept = level.bare.get(name)
    if kept is not None and level.sources and kept[0] is level.sources[-1]:
        return kept[1]
    trait = _found(a, body, name, level)
    if len(trait.refs) == 1:
        (source,) = trait.refs
        # Nothing of it depends on where it stands, and nothing is put into the text.
        if source.level is level and trait is source.operands.get(name) and not source.target:
            level.bare[name] = (level.sources[-1], trait)
    return trait


def _found(a: Analysis, body: Node, name: str, level: Level) -> Trait:
    unsure: list[Source] = []
    for each in level.chain():
        sure = [source for source in each.real() if source.has(name)]
        if name in SYSTEM_COLUMNS and not sure:
            sure = [
                source for source in each.real() if source.relation is not None or source.target
            ]
        if sure:
            if unsure and any(_raw(source, name) for source in sure):
                raise not_understood(
                    f'a column reference "{name}" that may mean more than one table'
                )
            if a.raw_targets:
                vanished.keep_inside(a, body, name, [*unsure, *sure], level)
            traits = [_of_source(a, body, source, name, level) for source in sure]
            if len(traits) == 1 and not unsure:
                return traits[0]
            refs = frozenset(source for trait in traits for source in trait.refs) | frozenset(
                unsure
            )
            leaks = frozenset(source for trait in traits for source in trait.leaks)
            first = traits[0]
            return Trait(
                kind=first.kind if not unsure else "other",
                refs=refs,
                leaks=leaks,
                type=first.type,
                base=first.base,
                collation=first.collation,
                columns=True,
            )
        unsure.extend(source for source in each.real() if source.columns is None)
    source = level.named(name)
    if source is not None:
        if rowtypes.masked_row(a, body, source, 1):
            level.note(source)
            return Trait(refs=frozenset({source}), columns=True)
        rowtypes.keep_row_type(a, body, source)
        return _whole(a, source, level)
    if unsure:
        return Trait(kind="total", refs=frozenset(unsure), columns=True)
    if any(source.target and source.governed for source in _all_sources(level)):
        raise not_understood(f'a column reference "{name}" that cannot be resolved')
    return Trait(refs=_all_sources(level), leaks=_all_sources(level), columns=True)


def _raw(source: Source, name: str) -> bool:
    return source.target and source.governed is not None and name in source.governed.masks


def _of_source(a: Analysis, body: Node, source: Source, name: str, level: Level) -> Trait:
    level.note(source)
    if source.members:
        return _of_members(a, body, source, name, level)
    if name in SYSTEM_COLUMNS and not source.has(name):
        return _system(a, source, name)
    if source.has(name) is False:
        check_field(a, name)
        return _whole(a, source, level)
    if source.governed is None and a.enforcing and vanished.computed(a, source, name):
        check_field(a, name)
    known = source.column(name)
    source.wanted.add(name)
    if source.use is not None:
        source.use.read = True
        source.use.reads.add(known.name if known else name)
    if source.target and known is not None:
        _target_column(a, body, source, known.name)
    found = operand(source, name)
    return replace(found, leaks=frozenset({source})) if source.leaky(name) else found


def operand(source: Source, name: str) -> Trait:
    """Return what comparing a column of a FROM item takes."""
    if source.relation is None:
        return _operand(source, name)
    # Of a sub-select or join it changes while fences are put in; of a relation it does not.
    found = source.operands.get(name)
    if found is None:
        found = source.operands[name] = _operand(source, name)
    return found


def _operand(source: Source, name: str) -> Trait:
    known = source.column(name)
    derived = source.derived(name)
    type_ = known.type if known else derived.type
    bare = built_in(known.type) if known else derived.total
    return Trait(
        kind="bare" if bare else "other",
        refs=frozenset({source}),
        type=type_,
        base=known.type.base_name if known else derived.base,
        collation=known.type.collation if known else derived.collation,
        weak=derived.weak if known is None else _weak(source, known),
        columns=True,
    )


def operand_of(query: Query, name: str) -> Trait:
    """Return what comparing a sub-select's result column takes."""
    found = query.derived.get(name) or Derived()
    return Trait(
        kind="total" if found.total else "other",
        type=found.type,
        base=found.base,
        collation=found.collation,
        columns=True,
        weak=found.weak,
    )


def _weak(source: Source, known: Column) -> bool:
    mask = source.governed.masks.get(known.name) if source.governed and not source.target else None
    if mask is None or (mask.kind == "null" and not known.not_null):
        return False  # NULL equals nothing: such a join has no rows.
    return is_partial(mask) or is_constant(mask)


def _of_members(a: Analysis, body: Node, source: Source, name: str, level: Level) -> Trait:
    """Resolve ``j.column`` for the alias of a join."""
    refs = frozenset(source.members)
    traits = [
        _of_source(a, body, member, name, level) for member in source.members if member.has(name)
    ]
    if len(traits) == 1:
        return traits[0]
    return Trait(refs=refs, leaks=refs, columns=True)


def _system(a: Analysis, source: Source, name: str) -> Trait:
    governed = source.governed
    if name == "ctid" and a.enforcing and stored_with_governed(a, source.relation):
        raise refused(
            f'permission denied for column "ctid" of table "{source.refname}"',
            detail="Physical places tell of rows and values that a policy hides.",
            hint="Use the primary key.",
        )
    if governed is not None and source.target and name not in ("xmin", "xmax", "tableoid"):
        raise not_understood(f'the system column "{name}" of a governed table here')
    source.system.add(name)
    if source.use is not None:
        source.use.read = True
    return Trait(refs=frozenset({source}), columns=True)


def _target_column(a: Analysis, body: Node, source: Source, name: str) -> None:
    governed = source.governed
    if (
        governed is None
        or name not in governed.masks
        or source.relation is None
        or a.context.catalog is None
    ):
        return
    if not a.returning:
        raise refused(
            f'permission denied for column "{name}" of table "{source.relation.qualified}"',
            detail="A masked column of the table that is written may not decide what is written.",
            hint="Use other columns in WHERE, SET and ON CONFLICT.",
        )
    known = source.relation.column(name)
    if known is None:
        raise not_understood("a column that the catalog does not have")
    index = a.tokens.at(body["location"])
    end = a.tokens.dotted_end(index, len(body["fields"]))
    text = mask_sql(
        governed.masks[name],
        known,
        f"{quoted(source.refname)}.{quoted(name)}",
        a.context.catalog,
        references=lambda other: f"{quoted(source.refname)}.{quoted(other)}",
    )
    if any(edit.start == index and edit.end == end for edit in a.pending):
        a.pending[:] = [edit for edit in a.pending if not (edit.start == index and edit.end <= end)]
    a.pending[:] = [edit for edit in a.pending if not (index <= edit.start < edit.end <= end)]
    bare = a.bare_call == id(body)
    # A cast around it takes its name over.
    a.replace(
        index, end, f"({text}) AS {quoted(name)}" if bare else f"(SELECT {text} AS {quoted(name)})"
    )


def indirection_base(a: Analysis, body: Node, level: Level) -> Trait | None:
    """Resolve ``(u).column`` over a whole row; None when the base is any other expression."""
    kind, inner = unwrap(body["arg"])
    step = body["indirection"][0]
    if kind != "ColumnRef" or "String" not in step or "A_Star" in inner["fields"][-1]:
        return None
    names = strings(inner["fields"])
    if len(names) != 1 or any(
        source.has(names[0]) for each in level.chain() for source in each.sources
    ):
        return None
    source = level.named(names[0])
    if source is None or source.relation is None:
        return None
    a.visit(inner)
    level.note(source)
    if not rowtypes.masked_row(a, inner, source, 1):
        _read_all(a, source)
    return Trait(refs=frozenset({source}), columns=True)


def stored_with_governed(a: Analysis, relation: Relation | None) -> bool:
    """Say whether rows of a relation stand beside what a policy hides: in itself, or in what inherits from it."""
    if relation is None or a.context.catalog is None:
        return False
    governed = a.governed.get(relation.oid)
    if governed is not None and (governed.filters or governed.masks):
        return True
    below = (a.context.catalog.by_oid.get(oid) for oid in relation.children)
    return any(stored_with_governed(a, child) for child in below)


def check_field(a: Analysis, name: str) -> None:
    """Check a name behind a dot that is not a plain column: it may be a function in disguise.

    Raises:
        ClientError: A function of that name exists that is not known to be harmless.
    """
    a.mentioned.add(name)
    if not a.enforcing or a.context.catalog is None:
        return
    known = a.context.catalog.functions.get(name, ())
    if any(function.extension is None for function in known):
        raise refused(
            f'permission denied for function "{name}"',
            detail="A name behind a dot can also call a function.",
            hint="Rename the column in the statement, or ask for the function to be trusted.",
        )
    if a.allow.function(name) is None and name not in _column_names(a) and name.startswith(_RISKY):
        raise refused(
            f'permission denied for function "{name}"',
            detail="A name behind a dot can also call a function, and this one is not known to be harmless.",
            hint="Rename the column in the statement.",
        )


_RISKY = (
    "pg_",
    "lo_",
    "txid_",
    "has_",
    "currtid",
    "query_to",
    "table_to",
    "schema_to",
    "database_to",
    "cursor_to",
)


def _column_names(a: Analysis) -> frozenset[str]:
    catalog = a.context.catalog
    if catalog is None:
        return frozenset()
    return frozenset(
        item.name for relation in catalog.relations.values() for item in relation.columns
    )
