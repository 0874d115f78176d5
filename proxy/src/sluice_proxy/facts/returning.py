"""RETURNING: what a write shows of its target is masked like what a SELECT shows."""

from __future__ import annotations

from sluice_proxy.facts.analysis import Analysis
from sluice_proxy.facts.expressions import expression
from sluice_proxy.facts.naming import quoted
from sluice_proxy.facts.refusals import not_understood
from sluice_proxy.facts.scopes import Level, Query, Source
from sluice_proxy.facts.select import figured
from sluice_proxy.facts.tree import Node, strings, unwrap
from sluice_proxy.masks import mask_sql


def returning(a: Analysis, body: Node, level: Level, target: Source, result: Query) -> None:
    """Walk RETURNING: masked columns of the target become their masks in place, ``*`` is written out."""
    clause_body = body.get("returningClause")
    if clause_body is None:
        return
    if clause_body.get("options"):
        raise not_understood("RETURNING WITH (OLD AS …, NEW AS …)")
    if target.use is not None:
        target.use.read = True
    names: list[str] = []
    a.returning = True
    for item in clause_body["exprs"]:
        _, returned = unwrap(item)
        a.visit(returned)
        kind, inner = unwrap(returned["val"])
        if kind == "ColumnRef" and "A_Star" in inner["fields"][-1]:
            _returned_star(a, inner, level, target, names)
            continue
        a.bare_call = id(inner) if "name" not in returned else None
        if kind not in ("ColumnRef", "FuncCall"):
            a.bare_call = None
        trait = expression(a, returned["val"], level)
        name = str(returned.get("name") or figured(returned["val"])[0] or "?column?")
        if trait.leaky:
            result.leaky_columns.add(name)
        names.append(name)
    a.returning = False
    a.bare_call = None
    result.columns = tuple(names)


def _returned_star(
    a: Analysis, inner: Node, level: Level, target: Source, names: list[str]
) -> None:
    qualifier = strings(inner["fields"][:-1])
    mine = not qualifier or level.named(qualifier[-1]) is target
    governed, relation = target.governed, target.relation
    if not (
        mine and a.enforcing and governed is not None and governed.masks and relation is not None
    ):
        expression(a, {"ColumnRef": inner}, level)
        names.extend(target.columns or ())
        return
    if a.context.catalog is None:
        raise not_understood("RETURNING * without a catalog")
    a.visit(inner)
    items: list[str] = []
    for column in relation.columns:
        reference = f"{quoted(target.refname)}.{quoted(column.name)}"
        mask = governed.masks.get(column.name)
        value = reference
        if mask is not None:
            value = mask_sql(
                mask,
                column,
                reference,
                a.context.catalog,
                references=lambda other: f"{quoted(target.refname)}.{quoted(other)}",
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
