"""The one table of masks: kinds, published order, parameters, and the types each applies to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

TEXT_TYPES = frozenset(
    {"pg_catalog.text", "pg_catalog.varchar", "pg_catalog.bpchar", "public.citext"}
)
"""Types whose values are free text. Other types of category S (names, for instance) hold identifiers."""

DATE_TYPES = frozenset({"pg_catalog.date", "pg_catalog.timestamp", "pg_catalog.timestamptz"})

NUMBER_TYPES = frozenset(
    {
        "pg_catalog.int2",
        "pg_catalog.int4",
        "pg_catalog.int8",
        "pg_catalog.numeric",
        "pg_catalog.float4",
        "pg_catalog.float8",
    }
)

EXPRESSION_CHARS_MAX = 4096
"""Longest expression; PostgreSQL's own policies are a line or two."""

COUNT_MAX = 64
"""Most characters that first, last and partial may show."""


@dataclass(frozen=True, slots=True)
class MaskKind:
    """One line of the table."""

    name: str
    rank: int
    """Place in the published order; higher is stricter. Equal ranks are ordered by ``strictness``."""
    parameters: tuple[str, ...]
    types: frozenset[str] | None
    """``schema.typname`` of the base types it applies to; None: every type."""
    description: str

    def applies(self, base_type: str) -> bool:
        """Whether values of this base type (``schema.typname``, below all domains) can be so masked."""
        if self.types is None or base_type in self.types:
            return True
        # An extension's citext may live in any schema.
        return "public.citext" in self.types and base_type.rpartition(".")[2] == "citext"


KINDS: Mapping[str, MaskKind] = {
    kind.name: kind
    for kind in (
        MaskKind("null", 80, (), None, "NULL; a constant of the type where the column is NOT NULL"),
        MaskKind("redact", 70, (), None, "a constant of the column's type, for NULL too"),
        MaskKind(
            "hash",
            60,
            (),
            TEXT_TYPES | {"pg_catalog.uuid"},
            "a keyed hash by the function that the database's owner installed: equal stays equal",
        ),
        MaskKind("year", 52, (), DATE_TYPES, "1 January of the same year, in UTC"),
        MaskKind("bucket", 51, ("size",), NUMBER_TYPES, "rounded down to a multiple of size"),
        MaskKind("first", 42, ("count",), TEXT_TYPES, "the first count characters, then ***"),
        MaskKind("last", 41, ("count",), TEXT_TYPES, "***, then the last count characters"),
        MaskKind(
            "partial", 40, ("first", "last"), TEXT_TYPES, "first characters, ***, last characters"
        ),
        MaskKind("email", 30, (), TEXT_TYPES, "first character, ***@, domain"),
        MaskKind(
            "expression",
            20,
            ("expression", "rank"),
            None,
            "an immutable scalar expression over the columns of the row",
        ),
        MaskKind("none", 10, (), None, "the raw value"),
    )
}
"""Strictest first: the published total order of masks (DESIGN §4)."""

EXPRESSION_RANKS = ("email", "expression")
"""What an expression mask may declare as its rank: never above email."""

_BARE = frozenset(name for name, kind in KINDS.items() if not kind.parameters)


@dataclass(frozen=True, slots=True)
class MaskSpec:
    """A mask as a policy writes it, parsed. ``expression`` is the text, not yet checked as SQL."""

    kind: str
    count: int | None = None
    first: int | None = None
    last: int | None = None
    size: float | int | None = None
    expression: str | None = None
    rank: str | None = None

    def written(self) -> str | dict[str, Any]:
        """The form that a resource has."""
        match self.kind:
            case "first" | "last":
                return {self.kind: self.count}
            case "partial":
                return {"partial": {"first": self.first, "last": self.last}}
            case "bucket":
                return {"bucket": self.size}
            case "expression":
                return {"expression": self.expression, "rank": self.rank}
            case _:
                return self.kind

    def contract(self, parts: list[Any] | None = None) -> dict[str, Any]:
        """The contract's mask object (``common.schema.json#mask``).

        Args:
            parts: The compiled expression; needed when the kind is expression.
        """
        match self.kind:
            case "first" | "last":
                return {"kind": self.kind, "count": self.count}
            case "partial":
                return {"kind": "partial", "first": self.first, "last": self.last}
            case "bucket":
                return {"kind": "bucket", "size": self.size}
            case "expression":
                if parts is None:
                    raise ValueError("an expression mask needs its compiled parts")
                return {"kind": "expression", "parts": parts, "rank": self.rank}
            case _:
                return {"kind": self.kind}


Strictness = tuple[int, float, int, tuple[int, ...]]


def strictness(mask: Mapping[str, Any]) -> Strictness:
    """Sort key of a contract's mask object: larger is stricter; a total order, the Rego library's own.

    Characters shown decide among first, last and partial, the size among buckets; what is still
    equal is ordered by kind, then by content, so that the answer never depends on the order of policies.
    """
    kind = KINDS[mask["kind"]]
    level = kind.rank // 10
    measure, rest = 0.0, ()
    match kind.name:
        case "first" | "last":
            measure = -float(mask["count"])
        case "partial":
            measure = -float(mask["first"] + mask["last"])
            rest = (-mask["first"],)
        case "bucket":
            measure = float(mask["size"])
        case "expression":
            rest = _descending(mask["parts"])
            if mask["rank"] == "email":
                level = KINDS["email"].rank // 10
        case _:
            pass
    return (level, measure, kind.rank, rest)


def _descending(parts: Sequence[str | Mapping[str, str]]) -> tuple[int, ...]:
    """Orders compiled expressions against Rego's order of values: text before columns, shorter first."""
    out: list[int] = []
    for part in parts:
        text = part if isinstance(part, str) else part["column"]
        out += [0 if isinstance(part, str) else -1, *(-byte - 1 for byte in text.encode()), 0]
    return (*out, 1)


def _count(kind: str, value: object, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= COUNT_MAX:
        raise ValueError(f"{kind} takes a whole number from {least} to {COUNT_MAX}")
    return value


def _partial(value: object) -> MaskSpec:
    if not isinstance(value, Mapping):
        raise ValueError("partial takes {first: n, last: n}")  # noqa: TRY004
    fields = cast("Mapping[str, object]", value)
    if set(fields) - {"first", "last"} or not fields:
        raise ValueError("partial takes first and last, nothing else")
    first = _count("partial.first", fields.get("first", 0), 0)
    last = _count("partial.last", fields.get("last", 0), 0)
    if first + last == 0:
        raise ValueError("partial shows nothing; write redact")
    return MaskSpec("partial", first=first, last=last)


def _bucket(value: object) -> MaskSpec:
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or not 1e-6 <= value <= 1e15
    ):
        raise ValueError("bucket takes a number above 0: the size of a bucket")
    return MaskSpec("bucket", size=int(value) if float(value).is_integer() else value)


def _expression(fields: Mapping[str, object]) -> MaskSpec:
    text, rank = fields.get("expression"), fields.get("rank", "expression")
    if set(fields) - {"expression", "rank"}:
        raise ValueError("an expression mask takes expression and rank, nothing else")
    if not isinstance(text, str) or not text.strip() or len(text) > EXPRESSION_CHARS_MAX:
        raise ValueError(f"expression takes SQL text of at most {EXPRESSION_CHARS_MAX} characters")
    if rank not in EXPRESSION_RANKS:
        raise ValueError(
            "rank is email or expression: the place in the order of masks, never above email"
        )
    return MaskSpec("expression", expression=text, rank=cast("str", rank))


def parse_mask(value: object) -> MaskSpec:
    """Read ``email``, ``{last: 4}``, ``{partial: {first: 1, last: 4}}``, ``{bucket: 1000}``, ``{expression: …}``.

    Raises:
        ValueError: It is none of them; the text says what is.
    """
    if isinstance(value, MaskSpec):
        return value
    if value is None:
        raise ValueError('a bare null is no value in YAML; write "null" in quotes')
    if isinstance(value, str):
        if value in _BARE:
            return MaskSpec(value)
        if value in KINDS:
            raise ValueError(f"{value} needs its parameter, for example {{{_EXAMPLES[value]}}}")
        raise ValueError(f"unknown mask {value!r}; there are {', '.join(KINDS)}")
    if not isinstance(value, Mapping):
        raise ValueError("a mask is a name (email) or one parameter ({last: 4})")  # noqa: TRY004
    fields = cast("Mapping[str, object]", value)
    if "expression" in fields:
        return _expression(fields)
    if len(fields) != 1:
        raise ValueError("a mask has exactly one of first, last, partial, bucket, expression")
    name, argument = next(iter(fields.items()))
    match name:
        case "first" | "last":
            return MaskSpec(name, count=_count(name, argument, 1))
        case "partial":
            return _partial(argument)
        case "bucket":
            return _bucket(argument)
        case _ if name in _BARE:
            raise ValueError(f"{name} takes no parameter; write mask: {name}")
        case _:
            raise ValueError(f"unknown mask {name!r}; there are {', '.join(KINDS)}")


_EXAMPLES = {
    "first": "first: 1",
    "last": "last: 4",
    "partial": "partial: {first: 1, last: 4}",
    "bucket": "bucket: 1000",
    "expression": 'expression: "…", rank: expression',
}


def _serialize(mask: MaskSpec) -> str | dict[str, Any]:
    return mask.written()


MaskField = Annotated[
    MaskSpec,
    PlainValidator(parse_mask),
    PlainSerializer(_serialize),
    # A name or an object: no type that a structural schema could state. The compiler and the
    # admission webhook check it by the same parser.
    WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True}),
]
"""A mask as a field of a resource."""
