"""RETURNING: what a write shows of its target is masked like what a SELECT shows."""

from __future__ import annotations

from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.expressions import expression
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.facts.resultnames import figured
from sluice_proxy.facts.scopes import Level, Query, Source
from sluice_proxy.facts.tree import SINCE, Node, strings, unwrap
from sluice_proxy.masks import mask_sql


def returning(a: Analysis, body: Node, level: Level, target: Source, result: Query) -> None:
    """Walk RETURNING: masked columns of the target become their masks in place, ``*`` is written out."""
    clause_body = body.get("returningClause")
    if clause_body is None:
        return
    if target.use is not None:
        target.use.read = True
    names: list[str] = []
    a.returning = True
    around = level.parent
    level.parent = _versions(a, clause_body, level, target)
    for item in clause_body["exprs"]:
        _, returned = unwrap(item)
        a.visit(returned)
        kind, inner = unwrap(returned["val"])
        if kind == "ColumnRef" and "A_Star" in inner["fields"][-1]:
            _returned_star(a, inner, level, target, names)
            continue
        a.bare_call = id(inner) if "name" not in returned else None
        a.result_reference = a.bare_call if kind == "ColumnRef" else None
        if kind not in ("ColumnRef", "FuncCall"):
            a.bare_call = None
        trait = expression(a, returned["val"], level)
        name = str(returned.get("name") or figured(returned["val"])[0] or "?column?")
        if trait.leaky:
            result.leaky_columns.add(name)
        names.append(name)
    a.returning = False
    level.parent = around
    a.bare_call = a.result_reference = None
    result.columns = tuple(names)


def _versions(a: Analysis, clause_body: Node, level: Level, target: Source) -> Level | None:
    """Return a level that has the target's row before and after, as servers from 18 on know them."""
    options = [unwrap(item)[1] for item in clause_body.get("options", ())]
    if a.context.server_major < SINCE["ReturningOption"]:
        if options:
            raise not_understood(
                "RETURNING WITH (OLD AS …, NEW AS …), which this server does not have"
            )
        return level.parent
    given = {item["option"]: str(item["value"]) for item in options}
    made = Level(level.parent, ctes=level.ctes)
    for option, usual in (("RETURNING_OPTION_OLD", "old"), ("RETURNING_OPTION_NEW", "new")):
        name = given.get(option, usual)
        if any(source.refname == name for source in level.sources):
            continue
        version = Source(name, made, relation=target.relation, governed=target.governed)
        version.columns, version.use, version.target = target.columns, target.use, True
        made.sources.append(version)
    return made


def _returned_star(
    a: Analysis, inner: Node, level: Level, target: Source, names: list[str]
) -> None:
    qualifier = strings(inner["fields"][:-1])
    row = (level.named(qualifier[-1]) or target) if qualifier else target
    governed, relation = row.governed, row.relation
    if not (
        row.target
        and a.enforcing
        and governed is not None
        and governed.masks
        and relation is not None
    ):
        expression(a, {"ColumnRef": inner}, level)
        names.extend(row.columns or ())
        return
    if a.context.catalog is None:
        raise not_understood("RETURNING * without a catalog")
    a.visit(inner)
    items: list[str] = []
    for column in relation.columns:
        reference = f"{quoted(row.refname)}.{quoted(column.name)}"
        mask = governed.masks.get(column.name)
        value = reference
        if mask is not None:
            value = mask_sql(
                mask,
                column,
                reference,
                a.context.catalog,
                references=lambda other: f"{quoted(row.refname)}.{quoted(other)}",
            )
        items.append(f"{value} AS {quoted(column.name)}" if mask else reference)
        names.append(column.name)
    if target.use is not None:
        target.use.reads.update(column.name for column in relation.columns)
    if not qualifier:
        for source in level.sources:
            if source is not target:
                source.everything = True
                items.append(f"{quoted(source.refname)}.*")
    start = a.tokens.at(inner["location"])
    end = start + 1 if not qualifier else a.tokens.dotted_end(start, len(qualifier) + 1)
    a.replace(start, end, ", ".join(items))
