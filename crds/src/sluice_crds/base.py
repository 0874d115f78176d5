"""What all API types share: strictness, names, patterns, references and conditions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "sluice.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

LIST_ITEMS_MAX = 256
"""Items of a list in a policy. Keeps the cost of CEL rules within the API server's budget."""

COLUMN_ENTRIES_MAX = 20_000
"""Lines of one classification: about 1 MiB of YAML, which is what etcd takes."""


class ApiModel(BaseModel):
    """A part of a resource: immutable, exact types, no unknown fields, camelCase in YAML."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """CEL rules with their messages, for ``json_schema_extra``."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": text} for rule, text in pairs]}


_GLOB_SPECIAL = frozenset("[]{}?\\")


def _plain_pattern(pattern: str) -> str:
    if bad := sorted(_GLOB_SPECIAL & set(pattern)):
        raise ValueError(f"only * is special in patterns; {' '.join(bad)} cannot be matched")
    if not pattern.isprintable():
        raise ValueError("control characters cannot be matched")
    return pattern


def _table_pattern(pattern: str) -> str:
    schema, dot, table = pattern.partition(".")
    if not dot or not schema or not table:
        raise ValueError("write schema.table, each part a name or a pattern with *")
    return _plain_pattern(pattern)


_TABLE_REGEX = r"^[^.\[\]{}?\\]+\.[^\[\]{}?\\]+$"
_COLUMN_REGEX = r"^[^\[\]{}?\\]+$"

TablePattern = Annotated[
    str,
    Field(min_length=3, max_length=192, json_schema_extra={"pattern": _TABLE_REGEX}),
    AfterValidator(_table_pattern),
]
"""``schema.table``, unquoted and case-sensitive; ``*`` stands for any characters but the dot."""

ColumnPattern = Annotated[
    str,
    Field(min_length=1, max_length=128, json_schema_extra={"pattern": _COLUMN_REGEX}),
    AfterValidator(_plain_pattern),
]

_CLASS = r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*"


def _not_reserved(name: str) -> str:
    if name == "public" or name.startswith(("public.", "unreviewed.")):
        raise ValueError(f"{name} is a reserved name, not a class that a policy can name")
    return name


def _not_unreviewed(name: str) -> str:
    if name == "unreviewed" or name.startswith(("unreviewed.", "public.")):
        raise ValueError(f"{name} is reserved and cannot be given to a column")
    return name


ClassName = Annotated[
    str,
    Field(max_length=128, pattern=f"^{_CLASS}$"),
    AfterValidator(_not_unreviewed),
]
"""A dotted class (``pii.email``), or ``public``: reviewed and harmless."""

ClassReference = Annotated[
    str,
    Field(max_length=128, pattern=rf"^({_CLASS}|\*)$"),
    AfterValidator(_not_reserved),
]
"""A class as a policy names it: covers everything below it; ``*`` covers all, ``unreviewed`` too."""

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
NamespaceName = Annotated[str, Field(max_length=63, pattern=f"^{_LABEL}$")]
ObjectName = Annotated[str, Field(max_length=253, pattern=rf"^{_LABEL}(\.{_LABEL})*$")]
SecretKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelValue = Annotated[
    str, Field(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
]
Labels = Annotated[dict[LabelKey, LabelValue], Field(min_length=1, max_length=64)]


class SecretReference(ApiModel):
    """A Secret of the same namespace."""

    name: ObjectName
    """Name of the Secret."""


class SecretKeyReference(SecretReference):
    """One key of a Secret of the same namespace."""

    key: SecretKey
    """Key in the Secret's data."""


class ObjectMeta(ApiModel):
    """Kubernetes' metadata. Only name, namespace and labels mean something to Sluice."""

    name: ObjectName
    """Name of the resource."""
    namespace: NamespaceName | None = None
    """Namespace; in a directory of policies the one that the options name is the default."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels, for ``databases.matchLabels``."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Not read."""
    uid: str | None = None
    """Written by Kubernetes."""
    generation: int | None = None
    """Written by Kubernetes."""
    creation_timestamp: str | None = None
    """Written by Kubernetes; the older of two owners of a database wins."""
    resource_version: str | None = None
    """Written by Kubernetes."""
    deletion_timestamp: str | None = None
    """Written by Kubernetes."""
    deletion_grace_period_seconds: int | None = None
    """Written by Kubernetes."""
    generate_name: str | None = None
    """Not read."""
    finalizers: tuple[str, ...] = ()
    """Not read."""
    owner_references: tuple[dict[str, Any], ...] = ()
    """Not read."""
    managed_fields: tuple[dict[str, Any], ...] = ()
    """Not read."""


class Condition(ApiModel):
    """One of Kubernetes' standard conditions (``meta/v1.Condition``)."""

    type: Annotated[str, Field(max_length=316)]
    """Ready, Compiled, Enforced and others."""
    status: Literal["True", "False", "Unknown"]
    """Whether the condition holds."""
    reason: Annotated[str, Field(max_length=1024)]
    """One CamelCase word."""
    message: Annotated[str, Field(max_length=32_768)]
    """A sentence for people: what, and who must act."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When the status last changed."""
    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """The generation this condition speaks of."""


class Sidecars(ApiModel):
    """Governed pods, by the sequence that their data plane reports to be in force."""

    expected: Annotated[int, Field(ge=0)] = 0
    """Pods that come under this resource."""
    current: Annotated[int, Field(ge=0)] = 0
    """Pods that report the newest sequence."""
    stale: Annotated[int, Field(ge=0)] = 0
    """Pods that report an older one, or nothing."""


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]
